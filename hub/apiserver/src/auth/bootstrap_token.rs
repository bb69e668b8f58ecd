//! Bootstrap tokens: `id.secret`, kept as Secrets in `kube-system`.
//! <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub_api::{object, resources};
use serde_json::Value;

use super::{User, same_secret};
use crate::registry::Registry;

/// Group of everybody who shows one.
const GROUP: &str = "system:bootstrappers";
const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";

/// Why a bootstrap token names nobody.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BootstrapTokenError {
    /// The Secret is of another type, or names another id.
    #[error("could not use the secret of the token")]
    Unfit,
    /// Another secret part.
    #[error("could not find this token")]
    Wrong,
    /// Too old.
    #[error("token has expired")]
    Expired,
    /// Meant for something else.
    #[error("token may not be used to authenticate")]
    OtherUse,
}

/// The user of a bootstrap token; nothing if the text is none, or none that is known.
pub(super) fn user(registry: &Registry, token: &str) -> Result<Option<User>, BootstrapTokenError> {
    let Some((id, secret)) = parse(token) else { return Ok(None) };
    let Some(resource) = resources::find("", "v1", "secrets") else { return Ok(None) };
    let name = format!("bootstrap-token-{id}");
    let Ok(entry) = registry.get(resource, Some(NAMESPACE), &name) else { return Ok(None) };
    check(&entry.value(), id, secret, registry.now()).map(Some)
}

pub(super) fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str, len: usize| {
        text.len() == len && text.bytes().all(|it| it.is_ascii_digit() || it.is_ascii_lowercase())
    };
    (plain(id, 6) && plain(secret, 16)).then_some((id, secret))
}

fn check(
    stored: &Value,
    id: &str,
    secret: &str,
    now: jiff::Timestamp,
) -> Result<User, BootstrapTokenError> {
    if object::is_terminating(stored) || object::text(stored, "type") != TYPE {
        return Err(BootstrapTokenError::Unfit);
    }
    let data = |key: &str| {
        let text = stored["data"][key].as_str().unwrap_or_default();
        STANDARD.decode(text).unwrap_or_default()
    };
    if !same_secret(&data("token-secret"), secret.as_bytes()) {
        return Err(BootstrapTokenError::Wrong);
    }
    if data("token-id") != id.as_bytes() {
        return Err(BootstrapTokenError::Unfit);
    }
    let expiration = data("expiration");
    if !expiration.is_empty() {
        let until = std::str::from_utf8(&expiration).ok().and_then(hub_api::time::parse);
        // What cannot be read is over.
        if until.is_none_or(|until| until <= now) {
            return Err(BootstrapTokenError::Expired);
        }
    }
    if data("usage-bootstrap-authentication") != b"true" {
        return Err(BootstrapTokenError::OtherUse);
    }
    let mut groups = vec![GROUP.to_owned()];
    let more = data("auth-extra-groups");
    for group in String::from_utf8_lossy(&more).split(',').map(str::trim) {
        if group.is_empty() {
            continue;
        }
        if !is_bootstrap_group(group) {
            return Err(BootstrapTokenError::Unfit);
        }
        groups.push(group.to_owned());
    }
    let user = User { groups, ..User::named(format!("system:bootstrap:{id}")) };
    Ok(user.authenticated())
}

fn is_bootstrap_group(group: &str) -> bool {
    let rest = group.strip_prefix("system:bootstrappers:").unwrap_or_default();
    let plain = |it: u8| it.is_ascii_digit() || it.is_ascii_lowercase();
    rest.len() <= 256
        && rest.bytes().all(|it| plain(it) || it == b':' || it == b'-')
        && rest.bytes().last().is_some_and(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_good_while_its_secret_says_so() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (key, value, expected) in [
            ("token-id", "abcdef", Ok(())),
            ("token-id", "abcdeg", Err(BootstrapTokenError::Unfit)),
            ("token-secret", "0123456789abcdeg", Err(BootstrapTokenError::Wrong)),
            ("expiration", "2026-01-01T00:00:01Z", Ok(())),
            ("expiration", "2026-01-01T00:00:00Z", Err(BootstrapTokenError::Expired)),
            ("expiration", "tomorrow", Err(BootstrapTokenError::Expired)),
            ("usage-bootstrap-authentication", "false", Err(BootstrapTokenError::OtherUse)),
            ("auth-extra-groups", "system:bootstrappers:a-b", Ok(())),
            ("auth-extra-groups", "system:masters", Err(BootstrapTokenError::Unfit)),
        ] {
            let mut data = json!({
                "token-id": STANDARD.encode("abcdef"),
                "token-secret": STANDARD.encode("0123456789abcdef"),
                "usage-bootstrap-authentication": STANDARD.encode("true"),
            });
            data[key] = json!(STANDARD.encode(value));
            let secret = json!({"type": TYPE, "data": data});
            let got = check(&secret, "abcdef", "0123456789abcdef", now);
            assert_eq!(got.map(drop), expected, "{key} {value}");
        }
        assert_eq!(parse("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        assert_eq!(parse("abcdef.0123456789abcdeF"), None);
        assert_eq!(parse("a.b"), None);
    }
}
