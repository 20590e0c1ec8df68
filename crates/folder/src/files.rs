//! Finding and reading files: from the paths that a user named to the texts behind them.

use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The largest file that is read, in bytes.
pub(crate) const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;
/// The most files that one folder may hold.
pub(crate) const MAX_FILES: usize = 200_000;
/// How deep folders may lie in each other.
const MAX_DEPTH: usize = 32;
/// A file that changed this recently is read even when size and times are equal: clocks of file systems tick coarsely.
const RECENT: Duration = Duration::from_secs(2);

/// What a named path turned out to hold.
pub(crate) struct Listing {
    /// The files, sorted by path.
    pub(crate) files: Vec<PathBuf>,
    /// What could not be listed, and why.
    pub(crate) problems: Vec<(PathBuf, String)>,
}

/// Lists the YAML and JSON files under a path that a user named; the path itself may be a file of any name.
///
/// # Errors
/// When the path itself cannot be read, such as when it does not exist.
pub(crate) fn list(root: &Path) -> io::Result<Listing> {
    let mut listing = Listing { files: Vec::new(), problems: Vec::new() };
    if !fs::metadata(root)?.is_dir() {
        listing.files.push(root.to_path_buf());
        return Ok(listing);
    }
    let canonical_root = fs::canonicalize(root)?;
    list_folder(root, &canonical_root, 0, &mut listing)?;
    listing.files.sort();
    Ok(listing)
}

fn list_folder(folder: &Path, root: &Path, depth: usize, listing: &mut Listing) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                listing.problems.push((folder.to_path_buf(), error.to_string()));
                continue;
            }
        };
        // Hidden names are an editor's or, in a projected volume, the targets of the visible links.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        if let Err(message) = list_entry(&path, root, depth, listing) {
            listing.problems.push((path, message));
        }
    }
    Ok(())
}

fn list_entry(path: &Path, root: &Path, depth: usize, listing: &mut Listing) -> Result<(), String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    let wanted = if metadata.is_dir() { true } else { metadata.is_file() && is_manifest(path) };
    if !wanted {
        return Ok(());
    }
    let canonical = fs::canonicalize(path).map_err(|error| error.to_string())?;
    if !canonical.starts_with(root) {
        return Err("this link leads out of the folder and is not followed; copy the file into the folder, or name \
                    its real path as an argument"
            .to_owned());
    }
    if !metadata.is_dir() {
        if listing.files.len() >= MAX_FILES {
            return Err(format!("the folder holds more than {MAX_FILES} files; this one is not read"));
        }
        listing.files.push(path.to_path_buf());
        return Ok(());
    }
    if depth >= MAX_DEPTH {
        return Err(format!("folders lie more than {MAX_DEPTH} deep in each other; this one is not read"));
    }
    list_folder(path, root, depth + 1, listing).map_err(|error| error.to_string())
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

/// What tells whether a file may have changed, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Whether the times are old enough to be trusted.
    settled: bool,
}

impl Stamp {
    /// The stamp of a file, links followed.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::new(&metadata))
    }

    fn new(metadata: &Metadata) -> Self {
        let settled = metadata
            .modified()
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok())
            .is_some_and(|age| age > RECENT);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            settled,
        }
    }

    /// Whether the file is certainly the one that had this stamp.
    pub(crate) fn proves_unchanged(self, now: Self) -> bool {
        self.settled && now.settled && self == now
    }
}

/// A file's text, with what its metadata say.
pub(crate) struct FileText {
    pub(crate) text: String,
    pub(crate) stamp: Stamp,
    /// Whether users other than the owner may read it.
    pub(crate) shared: bool,
}

/// Reads one file.
///
/// # Errors
/// When it cannot be read, is too large, is no regular file, or is not UTF-8.
pub(crate) fn read(path: &Path) -> Result<FileText, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("this is not a regular file".to_owned());
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(MAX_FILE_BYTES) as usize);
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(FileText { text: text_of(bytes)?, stamp: Stamp::new(&metadata), shared: metadata.mode() & 0o044 != 0 })
}

/// Reads standard input.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_standard_input() -> Result<String, String> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    text_of(bytes)
}

fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("the file is larger than {} MiB", MAX_FILE_BYTES / (1024 * 1024)));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("the file is not UTF-8 (at byte {})", error.utf8_error().valid_up_to()))
}
