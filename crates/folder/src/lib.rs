//! Reading a folder of YAML: the standalone counterpart of reading a cluster.
//!
//! What flows in: paths of files and folders (and `-`), and the moment to read them. What flows out: an [`Update`], the
//! changes of objects since the last reading and the diagnostics of everything that is wrong in the files now.
//!
//! - [`Folder::read`] never fails as a whole: a file or document that cannot be read keeps its last good objects and has
//!   a diagnostic, a folder that vanished keeps all of its objects, a deleted file deletes its objects.
//! - An object stands once: of two documents with the same kind, namespace and name, the first by path and position is
//!   taken, and the other has a diagnostic.
//! - `metadata.generation` counts the changes of an object's content, as an API server does.
//! - Links are followed inside the folder (projected volumes are made of them), never out of it.
//! - [`Watch`] tells when to read again.

mod files;
mod folder;
mod watch;

pub use folder::{Folder, Options, Update};
pub use watch::{Watch, WatchError};
