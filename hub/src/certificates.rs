//! Signs approved CertificateSigningRequests of Kubernetes' own signers with the hub's authority.
//! <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/>

use std::{sync::Arc, time::Duration};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub_api::{Resource, Status, object};
use hub_apiserver::{
    Registry, WatchEvent, WatchOptions, WriteOptions,
    auth::{RequestedIdentity, User, read_request},
};
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::pki::{Authority, Order, PEER_NAME, SERVER_NAME};

/// Longest life of a signed certificate.
const MAX_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// Before the requests are looked at again after storage refused.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
const NODE_GROUP: &str = "system:nodes";

/// Signs until `shutdown` fires.
pub(crate) async fn run(
    registry: Registry,
    authority: Arc<Authority>,
    shutdown: CancellationToken,
) {
    let row = hub_api::resources::find("certificates.k8s.io", "v1", "certificatesigningrequests");
    let Some(resource) = row else { return };
    let work = async {
        loop {
            let err = follow(&registry, &authority, resource).await;
            tracing::debug!(error = %err, "Looking at all signing requests again");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    };
    // Stopping between two writes leaves nothing behind: the next start looks at all again.
    let _stopped: Option<()> = shutdown.run_until_cancelled(work).await;
}

/// Looks at every request that is there or comes; returns why it cannot go on.
async fn follow(registry: &Registry, authority: &Authority, resource: &'static Resource) -> Status {
    let options = WatchOptions { initial_events: Some(true), ..WatchOptions::default() };
    let mut watch = match registry.watch(resource, None, &options) {
        Ok(watch) => watch,
        Err(err) => return err,
    };
    loop {
        let entry = match watch.next().await {
            Ok(WatchEvent::Added(entry) | WatchEvent::Modified(entry)) => entry,
            Ok(WatchEvent::Deleted { .. } | WatchEvent::InitialEventsEnd(_)) => continue,
            Err(err) => return err,
        };
        let request = entry.value();
        let Some(decision) = decide(&request) else { continue };
        let name = object::name(&request);
        let written = answer(registry, authority, resource, &request, decision).await;
        match written {
            Ok(()) => {}
            // Gone or decided otherwise meanwhile: its next event says so.
            Err(status) if matches!(status.code, 404 | 409) => {}
            Err(status) if status.code < 500 => {
                tracing::warn!(name, error = %status, "Could not answer a signing request");
            }
            Err(status) => return status,
        }
    }
}

/// What becomes of a request.
#[derive(Debug, Eq, PartialEq)]
enum Decision {
    Sign(Box<RequestedIdentity>, ExtendedKeyUsageOf),
    Fail(String),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ExtendedKeyUsageOf {
    Client,
    Server,
}

/// Whether a request is to be signed now; nothing if it is not ours, not approved, or done.
fn decide(csr: &Value) -> Option<Decision> {
    let has = |ty: &str| {
        object::list(csr, "status.conditions").iter().any(|it| object::text(it, "type") == ty)
    };
    let is_done = !object::text(csr, "status.certificate").is_empty();
    if !has("Approved") || has("Denied") || has("Failed") || is_done {
        return None;
    }
    let signer = object::text(csr, "spec.signerName").strip_prefix("kubernetes.io/")?;
    if !matches!(
        signer,
        "kube-apiserver-client" | "kube-apiserver-client-kubelet" | "kubelet-serving"
    ) {
        return None;
    }
    let request = match read_request(csr) {
        Ok(request) => request,
        Err(why) => return Some(Decision::Fail(why)),
    };
    let usages: Vec<&str> =
        object::list(csr, "spec.usages").iter().filter_map(Value::as_str).collect();
    let (of, needed) = match signer {
        "kubelet-serving" => (ExtendedKeyUsageOf::Server, "server auth"),
        _ => (ExtendedKeyUsageOf::Client, "client auth"),
    };
    let allowed = ["digital signature", "key encipherment", needed];
    let fail = |why: &str| Some(Decision::Fail(why.to_owned()));
    if !usages.contains(&needed) || !usages.iter().all(|it| allowed.contains(it)) {
        return fail("the usages are not those of the signer");
    }
    // Other hubs would take its owner for one of them.
    if request.name == PEER_NAME {
        return fail("the name of hubs is not allowed");
    }
    if signer != "kube-apiserver-client" {
        if request.groups != [NODE_GROUP] {
            return fail("subject organization is not system:nodes");
        }
        if !request.name.starts_with(crate::pki::NODE_USER_PREFIX) {
            return fail("subject common name does not begin with system:node: ");
        }
    }
    match of {
        ExtendedKeyUsageOf::Client if !request.hosts.is_empty() || request.has_others => {
            fail("subject alternative names are not allowed")
        }
        ExtendedKeyUsageOf::Server if request.hosts.is_empty() => {
            fail("DNS or IP subjectAltName is required")
        }
        ExtendedKeyUsageOf::Server if request.has_others => {
            fail("email and URI subjectAltNames are not allowed")
        }
        // Nodes would take its owner for this hub. They compare names as DNS does.
        ExtendedKeyUsageOf::Server if request.hosts.iter().any(|it| is_hub(it)) => {
            fail("the name of the hub is not allowed")
        }
        ExtendedKeyUsageOf::Client | ExtendedKeyUsageOf::Server => {
            Some(Decision::Sign(Box::new(request), of))
        }
    }
}

fn is_hub(host: &str) -> bool {
    host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case(SERVER_NAME)
}

async fn answer(
    registry: &Registry,
    authority: &Authority,
    resource: &'static Resource,
    csr: &Value,
    decision: Decision,
) -> Result<(), Status> {
    let decision = match decision {
        Decision::Sign(request, of) => match sign(registry, authority, csr, &request, of) {
            Ok(pem) => Ok(STANDARD.encode(pem)),
            Err(err) => Err(crate::chain(&err)),
        },
        Decision::Fail(why) => Err(why),
    };
    let now = hub_api::time::format(registry.now());
    let change = |current: &Value, _: &Value| {
        let mut next = current.clone();
        let status = object::ensure(&mut next, "status");
        match &decision {
            Ok(certificate) => {
                status.insert("certificate".to_owned(), json!(certificate));
            }
            Err(why) => {
                let conditions = status.entry("conditions").or_insert_with(|| json!([]));
                if let Some(conditions) = conditions.as_array_mut() {
                    conditions.push(json!({
                        "type": "Failed",
                        "status": "True",
                        "reason": "SignerValidationFailure",
                        "message": why,
                        "lastUpdateTime": now,
                        "lastTransitionTime": now,
                    }));
                }
            }
        }
        Ok(next)
    };
    let options = WriteOptions {
        user: Arc::new(User::named("system:serviceaccount:kube-system:certificate-controller")),
        field_manager: "certificate-controller".to_owned(),
        ..WriteOptions::default()
    };
    registry
        .modify(resource, None, object::name(csr), Some("status"), &options, change)
        .await
        .map(drop)
}

fn sign(
    registry: &Registry,
    authority: &Authority,
    csr: &Value,
    request: &RequestedIdentity,
    of: ExtendedKeyUsageOf,
) -> Result<String, crate::pki::PkiError> {
    let wanted = object::int(csr, "spec.expirationSeconds").and_then(|it| u64::try_from(it).ok());
    let life = wanted.map_or(MAX_LIFE, Duration::from_secs).min(MAX_LIFE);
    authority.issue_request(
        &Order {
            request_pem: &request.pem,
            name: &request.name,
            groups: &request.groups,
            hosts: &request.hosts,
            usage: match of {
                ExtendedKeyUsageOf::Client => ExtendedKeyUsagePurpose::ClientAuth,
                ExtendedKeyUsageOf::Server => ExtendedKeyUsagePurpose::ServerAuth,
            },
            life,
        },
        registry.now(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csr(signer: &str, name: &str, group: &str, hosts: &[&str], usages: &[&str]) -> Value {
        let key = rcgen::KeyPair::generate().unwrap();
        let hosts: Vec<String> = hosts.iter().map(|it| (*it).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(hosts).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        json!({
            "spec": {"signerName": signer, "usages": usages, "request": STANDARD.encode(pem)},
            "status": {"conditions": [{"type": "Approved", "status": "True"}]},
        })
    }

    #[test]
    fn signers_keep_their_rules() {
        const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
        const KUBELET: &str = "kubernetes.io/kube-apiserver-client-kubelet";
        const SERVING: &str = "kubernetes.io/kubelet-serving";
        for (signer, name, group, hosts, usages, signed) in [
            (CLIENT, "jane", "dev", &[][..], &["client auth"][..], true),
            (CLIENT, PEER_NAME, "dev", &[][..], &["client auth"][..], false),
            (CLIENT, "jane", "dev", &["a.b"][..], &["client auth"][..], false),
            (CLIENT, "jane", "dev", &[][..], &["server auth"][..], false),
            (KUBELET, "system:node:a", "system:nodes", &[][..], &["client auth"][..], true),
            (KUBELET, "jane", "system:nodes", &[][..], &["client auth"][..], false),
            (KUBELET, "system:node:a", "dev", &[][..], &["client auth"][..], false),
            (SERVING, "system:node:a", "system:nodes", &["a.b"][..], &["server auth"][..], true),
            (
                SERVING,
                "system:node:a",
                "system:nodes",
                &["1.2.3.4"][..],
                &["server auth"][..],
                true,
            ),
            (SERVING, "system:node:a", "system:nodes", &[][..], &["server auth"][..], false),
            (
                SERVING,
                "system:node:a",
                "system:nodes",
                &[SERVER_NAME][..],
                &["server auth"][..],
                false,
            ),
            (
                SERVING,
                "system:node:a",
                "system:nodes",
                &["Outbye-HUB"][..],
                &["server auth"][..],
                false,
            ),
        ] {
            let it = csr(signer, name, group, hosts, usages);
            let decided = decide(&it);
            let is_signed = matches!(decided, Some(Decision::Sign(..)));
            assert_eq!(is_signed, signed, "{signer} {name} {hosts:?} {decided:?}");
        }
        let mut other = csr(CLIENT, "jane", "dev", &[], &["client auth"]);
        other["status"] = json!({});
        assert_eq!(decide(&other), None, "not approved");
        let other = csr("example.com/own", "jane", "dev", &[], &["client auth"]);
        assert_eq!(decide(&other), None, "somebody else's");
    }
}
