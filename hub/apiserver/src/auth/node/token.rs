//! Which tokens of service accounts a node may ask for: those of its own pods, for the audiences that
//! these name. Whoever breaks into a node must not pass for its pods before servers that they never
//! meant to talk to.
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>

use hub_api::{Status, object, resources};
use serde_json::Value;

use crate::auth::pod_token::{DEFAULT_SECONDS, names_token};
use crate::auth::{Attributes, Authorizer, ClientWrite};
use crate::registry::Registry;

/// Lets nodes ask for tokens for an audience, its resource, that none of their pods names.
const AUDIENCE_VERB: &str = "request-serviceaccounts-token-audience";

pub(super) fn restrict(
    registry: &Registry,
    authorizer: &dyn Authorizer,
    node: &str,
    it: &ClientWrite<'_>,
) -> Result<(), Status> {
    let forbidden = |why: &str| Err(Status::forbidden("", "serviceaccounts", it.name, why));
    let Some(request) = it.new else { return Ok(()) };
    let bound = |field: &str| object::text(&request["spec"]["boundObjectRef"], field);
    if bound("kind") != "Pod" || bound("name").is_empty() {
        return forbidden("node requested token not bound to a pod");
    }
    if bound("uid").is_empty() {
        return forbidden("node requested token with a pod binding without a uid");
    }
    let pods = resources::find("", "v1", "pods").ok_or_else(Status::no_such_resource)?;
    let Ok(pod) = registry.get(pods, it.namespace, bound("name")) else {
        return forbidden("node requested token bound to a pod that does not exist");
    };
    let pod = &*pod.value();
    if object::uid(pod) != bound("uid") {
        return forbidden("the UID in the bound object reference does not match the UID in record");
    }
    if object::text(pod, "spec.nodeName") != node {
        return forbidden("node requested token bound to a pod scheduled on a different node");
    }
    let audience = match object::list(request, "spec.audiences") {
        [] => "",
        [only] => only.as_str().unwrap_or_default(),
        _ => return forbidden("node may only request 0 or 1 audiences"),
    };
    let seconds = object::int(request, "spec.expirationSeconds").unwrap_or(DEFAULT_SECONDS);
    if names_token(pod, audience, seconds) || is_for_driver(registry, pod, audience) {
        return Ok(());
    }
    let attributes = Attributes {
        version: "v1",
        resource: audience,
        namespace: it.namespace.unwrap_or_default(),
        name: it.name,
        ..Attributes::of_user(it.user, AUDIENCE_VERB)
    };
    if authorizer.authorize(&attributes).is_allowed() {
        return Ok(());
    }
    forbidden(&format!(
        "audience \"{audience}\" for {seconds} seconds not found in pod spec volume, {} is not authorized to request tokens for this audience",
        it.user.name
    ))
}

/// Whether a storage driver behind one of the pod's volumes is handed tokens for that audience.
/// <https://kubernetes-csi.github.io/docs/token-requests.html>
fn is_for_driver(registry: &Registry, pod: &Value, audience: &str) -> bool {
    let Some(drivers) = resources::find("storage.k8s.io", "v1", "csidrivers") else { return false };
    let named = object::list(pod, "spec.volumes").iter();
    let mut named = named.filter_map(|volume| driver_of(registry, pod, volume));
    named.any(|name| {
        let Ok(driver) = registry.get(drivers, None, &name) else { return false };
        let driver = driver.value();
        let mut asked = object::list(&driver, "spec.tokenRequests").iter();
        asked.any(|it| object::text(it, "audience") == audience)
    })
}

/// The storage driver of a volume: named in the pod itself, or by what its claim is bound to.
fn driver_of(registry: &Registry, pod: &Value, volume: &Value) -> Option<String> {
    let inline = object::text(volume, "csi.driver");
    if !inline.is_empty() {
        return Some(inline.to_owned());
    }
    let claim = match object::text(volume, "persistentVolumeClaim.claimName") {
        "" if volume.get("ephemeral").is_some() => {
            format!("{}-{}", object::name(pod), object::text(volume, "name"))
        }
        "" => return None,
        name => name.to_owned(),
    };
    let get = |plural, namespace, name: &str| {
        registry.get(resources::find("", "v1", plural)?, namespace, name).ok()
    };
    let claim = get("persistentvolumeclaims", Some(object::namespace(pod)), &claim)?.value();
    let bound = get("persistentvolumes", None, object::text(&claim, "spec.volumeName"))?.value();
    Some(object::text(&bound, "spec.csi.driver").to_owned()).filter(|it| !it.is_empty())
}
