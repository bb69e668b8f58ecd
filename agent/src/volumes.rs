//! Makes a pod's volumes as they should be, and says where they are.

use std::path::{Path, PathBuf};

use agent_core::{
    desired::DesiredPod,
    volume::{Content, File, PlannedVolume},
};
use agent_volume::{EmptyDir, FileData, FileSet, HostPathKind};
use k8s_openapi::api::core::v1::Volume;

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

/// Where the content of a volume is on this machine; `None` if the pod has no such volume. `dir` is
/// that of the pod's volumes.
///
/// The Pod alone decides: when an object that a volume is made of is gone, what is here stays, and a
/// container that starts again gets all of it.
pub fn source(dir: &Path, pod: &DesiredPod, name: &str) -> Option<PathBuf> {
    let volume = find(pod, name)?;
    Some(match &volume.host_path {
        Some(host) => PathBuf::from(&host.path),
        None => dir.join(&volume.name),
    })
}

/// Files that the API owns cannot be written by the pod.
pub fn is_read_only(pod: &DesiredPod, name: &str) -> bool {
    find(pod, name).is_some_and(|it| {
        it.config_map.is_some()
            || it.secret.is_some()
            || it.downward_api.is_some()
            || it.projected.is_some()
    })
}

fn find<'a>(pod: &'a DesiredPod, name: &str) -> Option<&'a Volume> {
    pod.spec().volumes.iter().flatten().find(|it| it.name == name)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use agent_core::desired::References;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_volume_has_its_place_though_what_fills_it_is_gone() {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "d",
                "uid": "5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e"},
            "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": [
                {"name": "data", "emptyDir": {}},
                {"name": "host", "hostPath": {"path": "/srv/data"}},
                {"name": "map", "configMap": {"name": "gone"}},
                {"name": "secret", "secret": {"secretName": "gone"}},
                {"name": "fields", "downwardAPI": {"items": []}},
                {"name": "all", "projected": {"sources": [{"configMap": {"name": "gone"}}]}}]}}))
        .unwrap();
        let pod = DesiredPod::new(Arc::new(pod), Arc::new(References::default())).unwrap();
        assert!(pod.volumes.is_err());
        let place = |name: &str| {
            source(Path::new("/volumes"), &pod, name).map(|it| it.display().to_string())
        };
        assert_eq!(place("host").unwrap(), "/srv/data");
        for name in ["data", "map", "secret", "fields", "all"] {
            assert_eq!(place(name), Some(format!("/volumes/{name}")));
        }
        assert_eq!(place("other"), None);
        let read_only: Vec<_> = ["data", "host", "map", "secret", "fields", "all"]
            .into_iter()
            .filter(|name| is_read_only(&pod, name))
            .collect();
        assert_eq!(read_only, ["map", "secret", "fields", "all"]);
    }
}
