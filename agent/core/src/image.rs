//! Which registry an image comes from, and who may ask it.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::Value;

/// Registry of images that name none.
const DEFAULT_REGISTRY: &str = "docker.io";

/// A user of a registry.
#[derive(Clone, Eq, PartialEq)]
pub struct Credential {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Host, and port if there is one, of an image's registry.
pub fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => DEFAULT_REGISTRY,
    }
}

/// `repository@digest`, as `imageID` of a container's status.
pub fn image_id(image: &str, digest: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let repository = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    };
    format!("{repository}@{digest}")
}

/// The first of these pull secrets that knows the image's registry.
pub fn credential<'a>(
    secrets: impl Iterator<Item = &'a Secret>,
    image: &str,
) -> Option<Credential> {
    let wanted = registry(image);
    secrets.filter_map(auths).find_map(|auths| {
        let found = auths.as_object()?.iter().find(|(host, _)| host_of(host) == wanted)?;
        parse_auth(found.1)
    })
}

/// The table of registries in a `dockerconfigjson` or `dockercfg` secret.
fn auths(secret: &Secret) -> Option<Value> {
    let data = secret.data.as_ref()?;
    if let Some(json) = data.get(".dockerconfigjson") {
        let config: Value = serde_json::from_slice(&json.0).ok()?;
        return config.get("auths").cloned();
    }
    serde_json::from_slice(&data.get(".dockercfg")?.0).ok()
}

fn host_of(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    match key.split('/').next().unwrap_or(key) {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        host => host,
    }
}

fn parse_auth(entry: &Value) -> Option<Credential> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Some(Credential { username, password });
    }
    let decoded: ByteString = serde_json::from_value(entry.get("auth")?.clone()).ok()?;
    let decoded = String::from_utf8(decoded.0).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some(Credential { username: username.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn registries_and_ids_are_read_off_the_name() {
        for (image, host) in [
            ("busybox", "docker.io"),
            ("library/busybox:1", "docker.io"),
            ("localhost:5000/a/b:1", "localhost:5000"),
            ("ghcr.io/x@sha256:1", "ghcr.io"),
        ] {
            assert_eq!(registry(image), host);
        }
        assert_eq!(image_id("localhost:5000/a:1", "sha256:2"), "localhost:5000/a@sha256:2");
        assert_eq!(image_id("localhost:5000/a", "sha256:2"), "localhost:5000/a@sha256:2");
    }

    #[test]
    fn pull_secrets_are_found_by_host() {
        let config = json!({"auths": {
            "other.io": {"username": "x", "password": "y"},
            "https://reg.io/v1/": {"auth": "bWU6c2VjOnJldA=="}}});
        let mut secret = Secret::default();
        let json = ByteString(config.to_string().into_bytes());
        secret.data = Some([(".dockerconfigjson".to_owned(), json)].into());
        let found = credential([&secret].into_iter(), "reg.io/app:1");
        let want = Credential { username: "me".to_owned(), password: "sec:ret".to_owned() };
        assert_eq!(found, Some(want));
        assert_eq!(credential([&secret].into_iter(), "busybox"), None);
    }
}
