//! Makes a pod's volumes as they should be, and says where they are.

use std::path::PathBuf;

use agent_core::{
    desired::DesiredPod,
    volume::{Content, File, PlannedVolume},
};
use agent_volume::{EmptyDir, FileData, FileSet, HostPathKind};

use crate::config::AgentConfig;

/// A volume could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    // The cause follows after a colon.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" ")]
    EmptyDir {
        volume: String,
        #[source]
        err: agent_volume::EmptyDirError,
    },
    // The cause follows after a colon.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" ")]
    HostPath {
        volume: String,
        #[source]
        err: agent_volume::HostPathError,
    },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : unknown hostPath type {kind}")]
    HostPathKind { volume: String, kind: String },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : bad path {path:?}")]
    Path {
        volume: String,
        path: String,
        #[source]
        err: agent_volume::RelPathError,
    },
    // The cause follows after a colon.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" ")]
    Files {
        volume: String,
        #[source]
        err: agent_volume::EnsureFilesError,
    },
}

/// Makes every volume of the pod, or brings it up to date. Blocks; doing it again is fine.
///
/// # Errors
/// The first volume that cannot be made.
pub fn prepare(config: &AgentConfig, pod: &DesiredPod, stamp: &str) -> Result<(), VolumeError> {
    let Ok(volumes) = &pod.volumes else { return Ok(()) };
    let context = pod.spec().security_context.as_ref();
    let gid = context.and_then(|it| it.fs_group).and_then(|gid| u32::try_from(gid).ok());
    for volume in volumes {
        prepare_one(config, pod, volume, gid, stamp)?;
    }
    Ok(())
}

/// Where the content of a volume is on this machine.
pub fn source(config: &AgentConfig, pod: &DesiredPod, name: &str) -> Option<PathBuf> {
    let volume = pod.volumes.as_ref().ok()?.iter().find(|it| it.name == name)?;
    Some(match &volume.content {
        Content::HostPath { path, .. } => PathBuf::from(path),
        Content::EmptyDir { .. } | Content::Files { .. } => {
            config.volumes_dir(&pod.uid).join(&volume.name)
        }
    })
}

/// Files that the API owns cannot be written by the pod.
pub fn is_read_only(pod: &DesiredPod, name: &str) -> bool {
    let volumes = pod.volumes.as_deref().unwrap_or_default();
    let volume = volumes.iter().find(|it| it.name == name);
    volume.is_some_and(|it| matches!(it.content, Content::Files { .. }))
}

fn prepare_one(
    config: &AgentConfig,
    pod: &DesiredPod,
    volume: &PlannedVolume,
    gid: Option<u32>,
    stamp: &str,
) -> Result<(), VolumeError> {
    let dir = config.volumes_dir(&pod.uid).join(&volume.name);
    let name = || volume.name.clone();
    match &volume.content {
        Content::EmptyDir { memory, size_limit } => {
            let spec = EmptyDir { memory: *memory, size_limit: *size_limit, gid };
            agent_volume::ensure_empty_dir(&dir, &spec)
                .map_err(|err| VolumeError::EmptyDir { volume: name(), err })
        }
        Content::HostPath { path, kind } => {
            let kind = host_path_kind(kind)
                .ok_or_else(|| VolumeError::HostPathKind { volume: name(), kind: kind.clone() })?;
            agent_volume::check_host_path(path.as_ref(), kind)
                .map(drop)
                .map_err(|err| VolumeError::HostPath { volume: name(), err })
        }
        Content::Files { files, secret } => {
            let mut set = FileSet { gid, secret: *secret, ..FileSet::default() };
            for (path, File { bytes, mode, uid }) in files {
                let key = path.parse().map_err(|err| VolumeError::Path {
                    volume: name(),
                    path: path.clone(),
                    err,
                })?;
                let file = FileData { bytes: bytes.clone(), mode: *mode, uid: *uid };
                set.files.insert(key, file);
            }
            agent_volume::ensure_files(&dir, &set, stamp)
                .map(drop)
                .map_err(|err| VolumeError::Files { volume: name(), err })
        }
    }
}

fn host_path_kind(kind: &str) -> Option<HostPathKind> {
    Some(match kind {
        "" => HostPathKind::Any,
        "Directory" => HostPathKind::Directory,
        "DirectoryOrCreate" => HostPathKind::DirectoryOrCreate,
        "File" => HostPathKind::File,
        "FileOrCreate" => HostPathKind::FileOrCreate,
        "Socket" => HostPathKind::Socket,
        "CharDevice" => HostPathKind::CharDevice,
        "BlockDevice" => HostPathKind::BlockDevice,
        _ => return None,
    })
}
