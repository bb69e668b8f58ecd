//! What a pod's volumes contain, as plain directories and files.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Pod, PodSpec, Secret,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use crate::{
    desired::References,
    field::{self, FieldError, NodeFacts},
    quantity,
    token::TokenName,
};

/// Mode of files when nobody says otherwise.
const DEFAULT_MODE: i32 = 0o644;
/// Mode of tokens in pods that run as somebody in particular.
const OWNED_TOKEN_MODE: u32 = 0o600;
/// The ConfigMap that every namespace has, and its one key.
const ROOT_CA: (&str, &str) = ("kube-root-ca.crt", "ca.crt");

/// One volume of a pod.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PlannedVolume {
    pub name: String,
    pub content: Content,
}

/// What is in a volume.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Content {
    EmptyDir {
        memory: bool,
        size_limit: Option<u64>,
    },
    HostPath {
        path: String,
        kind: String,
    },
    /// `secret`: never on a disk.
    Files {
        files: BTreeMap<String, File>,
        secret: bool,
    },
}

/// One file, by its path in the volume.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct File {
    pub bytes: Vec<u8>,
    pub mode: u32,
    /// Its owner; root where unset.
    pub uid: Option<u32>,
}

impl File {
    fn new(bytes: Vec<u8>, mode: u32) -> Self {
        Self { bytes, mode, uid: None }
    }
}

/// A volume cannot be made. The text is what Kubernetes says, where it has a word for it.
#[derive(Clone, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum VolumeProblem {
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : configmap \"{name}\" not found")]
    ConfigMap { volume: String, name: String },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : secret \"{name}\" not found")]
    Secret { volume: String, name: String },
    #[error(
        "MountVolume.SetUp failed for volume \"{volume}\" : references non-existent config key: {key}"
    )]
    ConfigMapKey { volume: String, key: String },
    #[error(
        "MountVolume.SetUp failed for volume \"{volume}\" : references non-existent secret key: {key}"
    )]
    SecretKey { volume: String, key: String },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {message}")]
    Field { volume: String, message: String },
    #[error("volume \"{volume}\": volumes of kind {kind} are not supported on this node")]
    Unsupported { volume: String, kind: String },
}

/// All volumes of a pod.
///
/// # Errors
/// The first volume that cannot be made.
pub fn plan_volumes(
    pod: &Pod,
    references: &References,
) -> Result<Vec<PlannedVolume>, VolumeProblem> {
    let Some(spec) = &pod.spec else { return Ok(Vec::new()) };
    spec.volumes
        .iter()
        .flatten()
        .map(|volume| {
            let content = Planner { pod, references, volume: &volume.name }.content(volume)?;
            Ok(PlannedVolume { name: volume.name.clone(), content })
        })
        .collect()
}

/// Changes when the content of a volume changes.
pub fn fingerprint(volumes: &Result<Vec<PlannedVolume>, VolumeProblem>) -> u64 {
    let mut hasher = DefaultHasher::new();
    volumes.hash(&mut hasher);
    hasher.finish()
}

struct Planner<'a> {
    pod: &'a Pod,
    references: &'a References,
    volume: &'a str,
}

impl Planner<'_> {
    fn content(&self, volume: &Volume) -> Result<Content, VolumeProblem> {
        if let Some(source) = &volume.empty_dir {
            let limit = source.size_limit.as_ref().and_then(quantity::value);
            return Ok(Content::EmptyDir {
                memory: source.medium.as_deref() == Some("Memory"),
                size_limit: limit.and_then(|it| u64::try_from(it).ok()).filter(|it| *it > 0),
            });
        }
        if let Some(source) = &volume.host_path {
            let kind = source.type_.clone().unwrap_or_default();
            return Ok(Content::HostPath { path: source.path.clone(), kind });
        }
        let mut files = BTreeMap::new();
        let mut secret = false;
        if let Some(source) = &volume.config_map {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let optional = source.optional.unwrap_or(false);
            self.config_map(&mut files, &source.name, source.items.as_deref(), mode, optional)?;
        } else if let Some(source) = &volume.secret {
            secret = true;
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let optional = source.optional.unwrap_or(false);
            let name = source.secret_name.as_deref().unwrap_or_default();
            self.secret(&mut files, name, source.items.as_deref(), mode, optional)?;
        } else if let Some(source) = &volume.downward_api {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            self.downward(&mut files, source.items.iter().flatten(), mode)?;
        } else if let Some(source) = &volume.projected {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            for projection in source.sources.iter().flatten() {
                secret |= projection.secret.is_some() || projection.service_account_token.is_some();
                self.projection(&mut files, projection, mode)?;
            }
        } else {
            return Err(self.unsupported(kind_of(volume)));
        }
        Ok(Content::Files { files, secret })
    }

    fn projection(
        &self,
        files: &mut BTreeMap<String, File>,
        source: &VolumeProjection,
        mode: i32,
    ) -> Result<(), VolumeProblem> {
        if let Some(map) = &source.config_map {
            let optional = map.optional.unwrap_or(false);
            self.config_map(files, &map.name, map.items.as_deref(), mode, optional)?;
        }
        if let Some(secret) = &source.secret {
            let optional = secret.optional.unwrap_or(false);
            self.secret(files, &secret.name, secret.items.as_deref(), mode, optional)?;
        }
        if let Some(api) = &source.downward_api {
            self.downward(files, api.items.iter().flatten(), mode)?;
        }
        if source.cluster_trust_bundle.is_some() {
            return Err(self.unsupported("projected clusterTrustBundle".to_owned()));
        }
        if source.pod_certificate.is_some() {
            return Err(self.unsupported("projected podCertificate".to_owned()));
        }
        if let Some(token) = &source.service_account_token {
            self.token(files, token, mode);
        }
        Ok(())
    }

    /// The newest token of the pod, whatever its age. One that the node never got is left out until
    /// it comes: a pod does not wait for the hub.
    fn token(
        &self,
        files: &mut BTreeMap<String, File>,
        source: &ServiceAccountTokenProjection,
        mode: i32,
    ) {
        let Some(token) = self.references.tokens.get(&TokenName::of(source)) else { return };
        let spec = self.pod.spec.as_ref();
        let uid = spec.and_then(run_as_user);
        let group = spec.and_then(|it| it.security_context.as_ref()?.fs_group);
        let owned = uid.is_some() || group.is_some();
        let mode = if owned { OWNED_TOKEN_MODE } else { file_mode(mode) };
        files.insert(source.path.clone(), File { bytes: token.as_bytes().to_vec(), mode, uid });
    }

    fn unsupported(&self, kind: String) -> VolumeProblem {
        VolumeProblem::Unsupported { volume: self.volume.to_owned(), kind }
    }

    fn config_map(
        &self,
        files: &mut BTreeMap<String, File>,
        name: &str,
        items: Option<&[KeyToPath]>,
        mode: i32,
        optional: bool,
    ) -> Result<(), VolumeProblem> {
        let volume = self.volume.to_owned();
        let Some(map) = self.references.config_maps.get(name) else {
            if optional {
                return Ok(());
            }
            let problem =
                VolumeProblem::ConfigMap { volume: volume.clone(), name: name.to_owned() };
            // In a new namespace a pod may come before it; the node has the same bytes.
            let own = self.references.root_ca.as_deref().filter(|_| name == ROOT_CA.0);
            let data = BTreeMap::from([(ROOT_CA.1, own.ok_or(problem)?.as_bytes())]);
            let missing = |key: String| VolumeProblem::ConfigMapKey { volume: volume.clone(), key };
            return pick(files, &data, items, mode, optional, missing);
        };
        let data = config_map_data(map);
        let missing = |key: String| VolumeProblem::ConfigMapKey { volume: volume.clone(), key };
        pick(files, &data, items, mode, optional, missing)
    }

    fn secret(
        &self,
        files: &mut BTreeMap<String, File>,
        name: &str,
        items: Option<&[KeyToPath]>,
        mode: i32,
        optional: bool,
    ) -> Result<(), VolumeProblem> {
        let volume = self.volume.to_owned();
        let Some(secret) = self.references.secrets.get(name) else {
            if optional {
                return Ok(());
            }
            return Err(VolumeProblem::Secret { volume, name: name.to_owned() });
        };
        let data = secret_data(secret);
        let missing = |key: String| VolumeProblem::SecretKey { volume: volume.clone(), key };
        pick(files, &data, items, mode, optional, missing)
    }

    fn downward<'b>(
        &self,
        files: &mut BTreeMap<String, File>,
        items: impl Iterator<Item = &'b DownwardAPIVolumeFile>,
        mode: i32,
    ) -> Result<(), VolumeProblem> {
        let facts = NodeFacts::default();
        for item in items {
            let text = self.downward_text(item, &facts).map_err(|err| VolumeProblem::Field {
                volume: self.volume.to_owned(),
                message: err.to_string(),
            })?;
            let file = File::new(text.into_bytes(), file_mode(item.mode.unwrap_or(mode)));
            files.insert(item.path.clone(), file);
        }
        Ok(())
    }

    fn downward_text(
        &self,
        item: &DownwardAPIVolumeFile,
        facts: &NodeFacts,
    ) -> Result<String, FieldError> {
        if let Some(field) = &item.field_ref {
            return field::pod_field(self.pod, &field.field_path, facts, None);
        }
        let Some(selector) = &item.resource_field_ref else { return Ok(String::new()) };
        field::resource_field(self.pod, &Container::default(), selector, facts)
    }
}

/// The user that all containers of a pod run as, if it is one and said.
fn run_as_user(spec: &PodSpec) -> Option<u32> {
    let of_pod = spec.security_context.as_ref().and_then(|it| it.run_as_user);
    let mut users = spec.init_containers.iter().flatten().chain(&spec.containers).map(|it| {
        let own = it.security_context.as_ref().and_then(|it| it.run_as_user);
        own.or(of_pod)
    });
    let first = users.next()??;
    users.all(|it| it == Some(first)).then(|| u32::try_from(first).ok())?
}

fn config_map_data(map: &ConfigMap) -> BTreeMap<&str, &[u8]> {
    let texts = map.data.iter().flatten().map(|(key, text)| (key.as_str(), text.as_bytes()));
    let binary = map.binary_data.iter().flatten();
    texts.chain(binary.map(|(key, bytes)| (key.as_str(), bytes.0.as_slice()))).collect()
}

fn secret_data(secret: &Secret) -> BTreeMap<&str, &[u8]> {
    let data = secret.data.iter().flatten();
    data.map(|(key, bytes)| (key.as_str(), bytes.0.as_slice())).collect()
}

fn pick(
    files: &mut BTreeMap<String, File>,
    data: &BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
    missing: impl Fn(String) -> VolumeProblem,
) -> Result<(), VolumeProblem> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        for (key, bytes) in data {
            let file = File::new(bytes.to_vec(), file_mode(mode));
            files.insert((*key).to_owned(), file);
        }
        return Ok(());
    };
    for item in items {
        match data.get(item.key.as_str()) {
            Some(bytes) => {
                let mode = file_mode(item.mode.unwrap_or(mode));
                files.insert(item.path.clone(), File::new(bytes.to_vec(), mode));
            }
            None if optional => {}
            None => return Err(missing(item.key.clone())),
        }
    }
    Ok(())
}

fn file_mode(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0) & 0o777
}

/// The field of the volume that is set, as its JSON names it.
fn kind_of(volume: &Volume) -> String {
    serde_json::to_value(volume)
        .ok()
        .and_then(|it| it.as_object()?.keys().find(|key| *key != "name").cloned())
        .unwrap_or_else(|| "unknown".to_owned())
}
