//! `POST .../serviceaccounts/<name>/token`

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Request, StatusCode};
use hub_api::decode::{self, Target};
use hub_api::{Status, object};
use serde_json::{Value, json};

use super::render::View;
use super::{Call, body, options};
use crate::request::accept::{Answer as Wanted, body_media, negotiate};
use crate::request::body::RequestBody;
use crate::response::{self, Answer};

const TOKEN_REQUEST: Target<'_> = Target {
    group: "authentication.k8s.io",
    version: "v1",
    kind: "TokenRequest",
    schema: "io.k8s.api.authentication.v1.TokenRequest",
};

/// Makes a token for a service account.
pub(super) async fn serve(call: &Call, request: Request<RequestBody>) -> Result<Answer, Status> {
    let Some(issuer) = call.shared.authentication.service_accounts.clone() else {
        return Err(Status::no_such_resource());
    };
    let view = View::new(call, negotiate(call.header(ACCEPT), Wanted::JsonOnly)?)?;
    let write = options::write(call, "CreateOptions")?;
    let media = body_media(call.header(CONTENT_TYPE))?;
    let bytes = body::read(request.into_body()).await?;
    let decoded = decode::decode_kind(TOKEN_REQUEST, &bytes, media, write.field_validation)?;
    let mut wanted = decoded.object;
    check_place(call, &wanted)?;
    let (namespace, name) = (call.namespace().unwrap_or_default(), call.name());
    call.registry
        .admit_token(&call.resource, call.namespace(), name, write.dry_run, &mut wanted)
        .await?;
    let metadata = object::ensure(&mut wanted, "metadata");
    metadata.insert("name".to_owned(), json!(name));
    metadata.insert("namespace".to_owned(), json!(namespace));
    let now = call.registry.now();
    metadata.insert("creationTimestamp".to_owned(), json!(hub_api::time::format(now)));
    let mut warnings = decoded.warnings;
    warnings.extend(issuer.request(&call.registry, namespace, name, &mut wanted)?);
    if write.dry_run {
        // A dry run leaves nothing behind, least of all a token that works.
        object::ensure(&mut wanted, "status").insert("token".to_owned(), json!(""));
    }
    let map = object::as_map(&mut wanted);
    map.insert("kind".to_owned(), json!(TOKEN_REQUEST.kind));
    map.insert("apiVersion".to_owned(), json!("authentication.k8s.io/v1"));
    let mut answer = response::ready(StatusCode::CREATED, response::JSON, view.value(wanted));
    response::warn(answer.headers_mut(), &warnings);
    Ok(answer)
}

/// What the request says of its place must be its place.
fn check_place(call: &Call, wanted: &Value) -> Result<(), Status> {
    let (name, namespace) = (object::name(wanted), object::namespace(wanted));
    if !name.is_empty() && name != call.name() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name()
        )));
    }
    if !namespace.is_empty() && Some(namespace) != call.namespace() {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}
