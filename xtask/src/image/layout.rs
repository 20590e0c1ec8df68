//! The OCI image layout, as a tar file: <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>.
//!
//! From scratch: the only files of the image are the program and its bill of materials, owned by root and writable by
//! nobody. There is no shell, no libc, no CA bundle and no /etc/passwd.

use aws_lc_rs::digest::{SHA256, digest};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use std::io::Write;
use tar::{Builder, EntryType, Header};

/// What goes into an image.
pub(crate) struct Image<'a> {
    /// The name under which it is imported, with its tag.
    pub(crate) reference: &'a str,
    pub(crate) version: &'a str,
    pub(crate) license: &'a str,
    pub(crate) description: &'a str,
    /// The commit that it was built from.
    pub(crate) revision: Option<&'a str>,
    /// When it counts as made, in seconds since 1970.
    pub(crate) seconds: u64,
    /// The program.
    pub(crate) program: &'a [u8],
    /// Its bill of materials: CycloneDX, as JSON.
    pub(crate) bill: &'a [u8],
}

/// An image as one file.
pub(crate) struct Archive {
    pub(crate) reference: String,
    /// The digest of the image's manifest.
    pub(crate) manifest: String,
    pub(crate) bytes: Vec<u8>,
}

/// The user and group of the program: no one else's, and not root.
const USER: &str = "65532:65532";

/// Makes the archive.
pub(crate) fn archive(image: &Image<'_>) -> Result<Archive, String> {
    pack(image).map_err(|error| format!("the image cannot be packed: {error}"))
}

fn pack(image: &Image<'_>) -> std::io::Result<Archive> {
    let files = tar(&[("portcullis", 0o555, image.program), ("sbom.cdx.json", 0o444, image.bill)])?;
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", compress(&files)?);
    let config = Blob::json("application/vnd.oci.image.config.v1+json", &config(image, &sha256(&files)));
    let manifest = Blob::json(
        "application/vnd.oci.image.manifest.v1+json",
        &json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
            "annotations": annotations(image),
        }),
    );
    let mut described = manifest.descriptor();
    described["platform"] = json!({ "architecture": "amd64", "os": "linux" });
    // containerd imports under the first, others (podman, skopeo) under the second.
    described["annotations"] = json!({
        "io.containerd.image.name": image.reference,
        "org.opencontainers.image.ref.name": image.reference,
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [described],
    });

    let mut blobs = [&layer, &config, &manifest].map(|blob| (blob.path(), blob.bytes.as_slice()));
    blobs.sort();
    let index = index.to_string();
    let mut entries = vec![("oci-layout", 0o444, br#"{"imageLayoutVersion":"1.0.0"}"#.as_slice())];
    entries.push(("index.json", 0o444, index.as_bytes()));
    entries.extend(blobs.iter().map(|(path, bytes)| (path.as_str(), 0o444, *bytes)));
    Ok(Archive { reference: image.reference.to_owned(), manifest: manifest.digest.clone(), bytes: tar(&entries)? })
}

fn config(image: &Image<'_>, files: &str) -> Value {
    let created = rfc3339(image.seconds);
    json!({
        "created": created,
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": USER,
            "Entrypoint": ["/portcullis"],
            // The allocator would ask for pages of 2 MiB, which costs a small process half as much memory again and more.
            "Env": ["MIMALLOC_ALLOW_THP=0"],
            "WorkingDir": "/",
            "Labels": annotations(image),
        },
        "rootfs": { "type": "layers", "diff_ids": [files] },
        "history": [{ "created": created, "created_by": "cargo xtask image" }],
    })
}

/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md>
fn annotations(image: &Image<'_>) -> Value {
    let mut annotations = json!({
        "org.opencontainers.image.title": "Portcullis",
        "org.opencontainers.image.description": image.description,
        "org.opencontainers.image.version": image.version,
        "org.opencontainers.image.licenses": image.license,
        "org.opencontainers.image.created": rfc3339(image.seconds),
    });
    if let Some(revision) = image.revision {
        annotations["org.opencontainers.image.revision"] = json!(revision);
    }
    annotations
}

struct Blob {
    media_type: &'static str,
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self { media_type, digest: sha256(&bytes), bytes }
    }

    fn json(media_type: &'static str, value: &Value) -> Self {
        Self::new(media_type, value.to_string().into_bytes())
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len() })
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }
}

/// Files with their paths and modes, the same bytes on every machine and day.
fn tar(files: &[(&str, u32, &[u8])]) -> std::io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for (path, mode, bytes) in files {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, path, *bytes)?;
    }
    tar.into_inner()
}

fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gzip.write_all(bytes)?;
    gzip.finish()
}

fn sha256(bytes: &[u8]) -> String {
    let hex: Vec<String> = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", hex.concat())
}

/// `1970-01-01T00:00:00Z`; the calendar of <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>.
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read;

    fn image(program: &[u8]) -> Image<'_> {
        Image {
            reference: "localhost/portcullis:1.2.3",
            version: "1.2.3",
            license: "Apache-2.0",
            description: "A gateway",
            revision: Some("0123abcd"),
            seconds: 1_764_000_000,
            program,
            bill: b"{}",
        }
    }

    /// Path, mode and content of each file; owner and time are the same for all.
    fn read(archive: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), (header.mode().unwrap(), content))
        });
        entries.collect()
    }

    fn parse(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    /// The blob that a descriptor names, its size and digest checked.
    fn blob<'a>(files: &'a BTreeMap<String, (u32, Vec<u8>)>, descriptor: &Value) -> &'a [u8] {
        let digest = descriptor["digest"].as_str().unwrap();
        let (_, bytes) = &files[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(sha256(bytes), digest);
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    #[test]
    fn an_image_can_be_read_back() {
        let program = crate::image::elf::sample(62, &[1]);
        let archive = archive(&image(&program)).unwrap();
        let files = read(&archive.bytes);
        assert_eq!(parse(&files["oci-layout"].1)["imageLayoutVersion"], "1.0.0");

        let index = parse(&files["index.json"].1);
        let described = &index["manifests"][0];
        assert_eq!(described["digest"], archive.manifest.as_str());
        assert_eq!(described["annotations"]["io.containerd.image.name"], "localhost/portcullis:1.2.3");
        assert_eq!(described["annotations"]["org.opencontainers.image.ref.name"], "localhost/portcullis:1.2.3");
        assert_eq!(described["platform"], json!({ "architecture": "amd64", "os": "linux" }));

        let manifest = parse(blob(&files, described));
        assert_eq!(manifest["annotations"]["org.opencontainers.image.revision"], "0123abcd");
        let config = parse(blob(&files, &manifest["config"]));
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!(["/portcullis"]));
        assert_eq!(config["config"]["Labels"]["org.opencontainers.image.version"], "1.2.3");
        assert_eq!(config["created"], "2025-11-24T16:00:00Z");

        let layer = blob(&files, &manifest["layers"][0]);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(layer).read_to_end(&mut unpacked).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"], json!([sha256(&unpacked)]));
        let content = read(&unpacked);
        assert_eq!(content.keys().collect::<Vec<_>>(), ["portcullis", "sbom.cdx.json"]);
        assert_eq!(content["portcullis"], (0o555, program));
        // Index, layout and three blobs: nothing else.
        assert_eq!(files.len(), 5);
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        let bytes = |program: &[u8]| archive(&image(program)).unwrap().bytes;
        assert_eq!(bytes(b"one"), bytes(b"one"));
        assert_ne!(bytes(b"one"), bytes(b"two"));
    }

    #[test]
    fn seconds_are_written_as_dates() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), date);
        }
    }
}
