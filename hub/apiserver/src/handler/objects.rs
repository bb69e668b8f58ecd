//! Create, read, update, delete: the verbs that every resource has.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};
use http::{Request, StatusCode};
use hub_api::decode::{self, Target};
use hub_api::{Status, object, write};
use hub_storage::Revision;
use serde_json::Value;

use super::render::View;
use super::{Call, body, options, pods, proxy, reviews, tokens, usage, watch};
use crate::limits::FRESHNESS_TIMEOUT;
use crate::registry::{Application, Deleted, PatchKind, SCALE, Written};
use crate::request::accept::{Answer as Wanted, accepts_gzip, body_media, essence, negotiate};
use crate::request::body::RequestBody;
use crate::response::{self, Answer, Pieces};

const DELETE_OPTIONS: Target<'_> = Target {
    group: "meta.k8s.io",
    version: "v1",
    kind: "DeleteOptions",
    schema: "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
};
const BINDING: Target<'_> =
    Target { group: "", version: "v1", kind: "Binding", schema: "io.k8s.api.core.v1.Binding" };
const EVICTION: Target<'_> = Target {
    group: "policy",
    version: "v1",
    kind: "Eviction",
    schema: "io.k8s.api.policy.v1.Eviction",
};

/// Does what the request wants of a resource.
pub(super) async fn serve(call: Call, request: Request<RequestBody>) -> Result<Answer, Status> {
    if reviews::is_question(&call.resource) {
        return reviews::serve(&call, request).await;
    }
    if call.resource.is_measured() {
        return usage::serve(&call).await;
    }
    match (call.verb, call.subresource()) {
        (_, Some("proxy")) => proxy::serve(call, request).await,
        ("create", Some("token")) => tokens::serve(&call, request).await,
        ("watch", _) => watch::serve(call).await,
        ("get", Some("log")) => pods::log(call).await,
        ("create", Some("exec" | "attach" | "portforward")) => pods::stream(call, request).await,
        ("get", None | Some("approval" | "status" | "ephemeralcontainers" | "resize")) => {
            get(&call).await
        }
        ("get", Some("scale")) => get_scale(&call).await,
        ("list", None) => list(&call).await,
        ("create", None) if is_bindings(&call) => bind(&call, request).await,
        ("create", None) => create(&call, request).await,
        ("create", Some("binding")) => bind(&call, request).await,
        ("create", Some("eviction")) => evict(&call, request).await,
        ("update", _) => update(&call, request).await,
        ("patch", _) => patch(&call, request).await,
        ("delete", None) => delete(&call, request).await,
        ("deletecollection", None) => delete_collection(&call, request).await,
        _ => Err(Status::method_not_allowed()),
    }
}

fn view(call: &Call) -> Result<View, Status> {
    View::new(call, negotiate(call.header(ACCEPT), Wanted::Objects)?)
}

async fn answer(call: &Call, code: StatusCode, body: Pieces) -> Answer {
    let gzip = accepts_gzip(call.header(ACCEPT_ENCODING));
    response::compressed(code, response::JSON, body, gzip).await
}

/// Waits a little for a revision that lies ahead; what is then still ahead is refused below.
async fn freshen(call: &Call, revision: Option<u64>) {
    let registry = &call.shared.registry;
    if let Some(wanted) = revision.map(Revision::new).filter(|it| *it > registry.revision()) {
        // Whether it was reached is looked at by whoever reads.
        let _ = tokio::time::timeout(FRESHNESS_TIMEOUT, registry.wait_for(wanted)).await;
    }
}

async fn get(call: &Call) -> Result<Answer, Status> {
    let view = view(call)?;
    let wanted = options::revision(call)?;
    freshen(call, wanted).await;
    let registry = &call.shared.registry;
    if let Some(wanted) = wanted.filter(|it| *it > registry.revision().get()) {
        return Err(Status::timeout_rv_too_large(wanted, registry.revision().get()));
    }
    let entry = registry.read(&call.resource, call.namespace(), call.name()).await?;
    let value = || entry.decode();
    let body = view.object(&call.resource, entry.bytes.clone(), value, registry.now());
    Ok(answer(call, StatusCode::OK, body).await)
}

async fn get_scale(call: &Call) -> Result<Answer, Status> {
    let view = View::new(call, negotiate(call.header(ACCEPT), Wanted::JsonOnly)?)?;
    let registry = &call.shared.registry;
    let entry = registry.read(&call.resource, call.namespace(), call.name()).await?;
    let scale = write::get_scale_of(&call.resource, &entry.value())?;
    Ok(response::ready(StatusCode::OK, response::JSON, view.value(scale)))
}

async fn list(call: &Call) -> Result<Answer, Status> {
    let view = view(call)?;
    let options = options::list(call)?;
    freshen(call, options.revision).await;
    let registry = &call.shared.registry;
    let list = registry.list_converted(&call.resource, call.namespace(), &options).await?;
    let body = view.list(&call.resource, &list, registry.now());
    Ok(answer(call, StatusCode::OK, body).await)
}

async fn create(call: &Call, request: Request<RequestBody>) -> Result<Answer, Status> {
    let view = view(call)?;
    let options = options::write(call, "CreateOptions")?;
    let media = body_media(call.header(CONTENT_TYPE))?;
    let bytes = body::read(request.into_body()).await?;
    let decoded = decode::decode(&call.resource, &bytes, media, options.field_validation)?;
    let written =
        call.registry.create(&call.resource, call.namespace(), decoded.object, &options).await?;
    Ok(show(call, view, StatusCode::CREATED, &written, &decoded.warnings).await)
}

async fn show(
    call: &Call,
    view: View,
    code: StatusCode,
    written: &Written,
    warnings: &[String],
) -> Answer {
    let now = call.shared.registry.now();
    let body = if call.subresource() == Some("scale") {
        // Scales were shown before: the object has one.
        view.value(write::get_scale_of(&call.resource, &written.value()).unwrap_or_default())
    } else {
        view.object(&call.resource, written.bytes(), || Value::clone(&written.value()), now)
    };
    let mut answer = answer(call, code, body).await;
    response::warn(answer.headers_mut(), warnings);
    answer
}

async fn update(call: &Call, request: Request<RequestBody>) -> Result<Answer, Status> {
    let view = view(call)?;
    let mut options = options::write(call, "UpdateOptions")?;
    let resource = call.resource.stored();
    if call.subresource().is_none() && resource.strategy.creates_on_update() {
        options.create_refusal = super::authorize_also(call, "create").err().map(Arc::new);
    }
    let media = body_media(call.header(CONTENT_TYPE))?;
    let bytes = body::read(request.into_body()).await?;
    let scale = call.subresource() == Some("scale");
    let decoded = if scale {
        decode::decode_kind(SCALE, &bytes, media, options.field_validation)?
    } else {
        decode::decode(&call.resource, &bytes, media, options.field_validation)?
    };
    let existed = call.shared.registry.get(&call.resource, call.namespace(), call.name()).is_ok();
    let written = call
        .registry
        .update(
            &call.resource,
            call.namespace(),
            call.name(),
            decoded.object,
            call.subresource(),
            &options,
        )
        .await?;
    let code = if existed { StatusCode::OK } else { StatusCode::CREATED };
    Ok(show(call, view, code, &written, &decoded.warnings).await)
}

async fn patch(call: &Call, request: Request<RequestBody>) -> Result<Answer, Status> {
    let view = view(call)?;
    let kind = match essence(call.header(CONTENT_TYPE)).as_str() {
        "application/json-patch+json" => PatchKind::Json,
        "application/merge-patch+json" => PatchKind::Merge,
        "application/strategic-merge-patch+json" => PatchKind::Strategic,
        "application/apply-patch+yaml" => return apply(call, request, view).await,
        _ => return Err(Status::unsupported_media_type_for_route()),
    };
    if kind == PatchKind::Strategic && call.resource.custom.is_some() {
        return Err(Status::unsupported_media_type(&[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml",
        ]));
    }
    let options = options::patch(call)?;
    let bytes = body::read(request.into_body()).await?;
    let patch: Value = serde_json::from_slice(&bytes)
        .map_err(|err| Status::bad_request(format!("error decoding patch: {err}")))?;
    let (written, warnings) = call
        .registry
        .patch(
            &call.resource,
            call.namespace(),
            call.name(),
            kind,
            &patch,
            call.subresource(),
            &options,
        )
        .await?;
    Ok(show(call, view, StatusCode::OK, &written, &warnings).await)
}

async fn apply(call: &Call, request: Request<RequestBody>, view: View) -> Result<Answer, Status> {
    let (mut options, force) = options::apply(call)?;
    // Who may only patch does not create.
    options.create_refusal = super::authorize_also(call, "create").err().map(Arc::new);
    let bytes = body::read(request.into_body()).await?;
    let decoded = decode::applied(&bytes, options.field_validation)?;
    let application = Application {
        resource: &call.resource,
        namespace: call.namespace(),
        name: call.name(),
        subresource: call.subresource(),
        object: &decoded.object,
        force,
    };
    let (written, is_new) = call.registry.apply(&application, &options).await?;
    let code = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(show(call, view, code, &written, &decoded.warnings).await)
}

async fn delete_options(
    call: &Call,
    request: Request<RequestBody>,
) -> Result<hub_api::DeleteOptions, Status> {
    let bytes = body::read(request.into_body()).await?;
    let value = if bytes.is_empty() {
        Value::Null
    } else {
        body::lenient(&bytes, body_media(call.header(CONTENT_TYPE))?, DELETE_OPTIONS)?
    };
    let options = options::delete(call, value)?;
    if let Some(warning) = write::delete_warning(&call.resource, &options) {
        call.registry.requester().warn(warning.to_owned());
    }
    Ok(options)
}

async fn delete(call: &Call, request: Request<RequestBody>) -> Result<Answer, Status> {
    let view = view(call)?;
    let options = delete_options(call, request).await?;
    let registry = &call.registry;
    let deleted = registry.delete(&call.resource, call.namespace(), call.name(), &options).await?;
    Ok(match deleted {
        Deleted::Marked(written) => show(call, view, StatusCode::OK, &written, &[]).await,
        Deleted::Removed(last) if returns_object(call) => {
            show(call, view, StatusCode::OK, &Written::Removed(last), &[]).await
        }
        Deleted::Removed(last) => {
            let (resource, value) = (&call.resource, &*last.value());
            let (group, plural) = (&resource.group, &resource.plural);
            let (name, uid) = (object::name(value), object::uid(value));
            response::status_as(&Status::success_deleted(group, plural, name, uid), view.pretty)
        }
    })
}

/// These resources answer a deletion with what was deleted, all others with a `Status`
/// (`ReturnDeletedObject` in Kubernetes' registries).
fn returns_object(call: &Call) -> bool {
    let plurals: &[&str] = match &*call.resource.group {
        "" => &[
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "podtemplates",
            "resourcequotas",
            "serviceaccounts",
            "services",
        ],
        "resource.k8s.io" => {
            &["deviceclasses", "resourceclaims", "resourceclaimtemplates", "resourceslices"]
        }
        "storage.k8s.io" => &[
            "csidrivers",
            "csinodes",
            "storageclasses",
            "volumeattachments",
            "volumeattributesclasses",
        ],
        _ => &[],
    };
    plurals.contains(&&*call.resource.plural)
}

async fn delete_collection(call: &Call, request: Request<RequestBody>) -> Result<Answer, Status> {
    let view = view(call)?;
    let list_options = options::list(call)?;
    let options = delete_options(call, request).await?;
    let registry = &call.registry;
    let list = registry
        .delete_collection(&call.resource, call.namespace(), &list_options, &options)
        .await?;
    let body = view.list(&call.resource, &list, registry.now());
    Ok(answer(call, StatusCode::OK, body).await)
}

async fn plain_body(call: &Call, body: RequestBody, target: Target<'_>) -> Result<Value, Status> {
    let media = body_media(call.header(CONTENT_TYPE))?;
    let bytes: Bytes = body::read(body).await?;
    body::lenient(&bytes, media, target)
}

async fn bind(call: &Call, request: Request<RequestBody>) -> Result<Answer, Status> {
    let options = options::write(call, "CreateOptions")?;
    let binding = plain_body(call, request.into_body(), BINDING).await?;
    // In the collection of bindings the name stands in the body alone.
    let pod = if is_bindings(call) { object::name(&binding) } else { call.name() };
    let node = object::text(&binding, "target.name");
    let wrong = hub_api::validation::pod::binding(&binding);
    if !wrong.is_empty() {
        return Err(Status::invalid("", "Binding", pod, wrong));
    }
    let uid = Some(object::uid(&binding));
    let namespace = call.namespace().unwrap_or_default();
    call.registry.bind(namespace, pod, node, uid, &options).await?;
    Ok(response::status(&Status::success(201)))
}

/// `POST .../bindings`, the older way to bind a pod.
fn is_bindings(call: &Call) -> bool {
    call.resource.group.is_empty() && call.resource.plural == "bindings"
}

async fn evict(call: &Call, request: Request<RequestBody>) -> Result<Answer, Status> {
    let eviction = plain_body(call, request.into_body(), EVICTION).await?;
    if object::name(&eviction) != call.name() {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let options = eviction.get("deleteOptions").cloned().unwrap_or_default();
    let options = options::delete(call, options)?;
    let namespace = call.namespace().unwrap_or_default();
    call.registry.evict(namespace, call.name(), &options).await?;
    Ok(response::status(&Status::success(201)))
}
