//! Volumes on a node: scratch directories, files from bytes, host paths, sub paths.
//!
//! Promises: a reader of a file set sees the old set or the new one, never a mix; a secret never
//! touches a disk; removing a volume never follows a link out of it.
//!
//! Must not know what a pod is, read a clock, or run a subprocess.

mod empty_dir;
mod files;
mod host_path;
mod path;
mod sub_path;
mod tmpfs;
pub mod tree;

pub use empty_dir::{EmptyDir, EmptyDirError, ensure_empty_dir};
pub use files::{EnsureFilesError, FileData, FileSet, FilesOutcome, ensure_files};
pub use host_path::{HostPathError, HostPathKind, check_host_path};
pub use path::{RelPath, RelPathError};
pub use sub_path::{SubPathError, ensure_sub_path, open_sub_path};
pub use tree::{RemoveError, remove_pod_volumes};
