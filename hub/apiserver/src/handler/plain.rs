//! Paths that are no resource: health, version, metrics, discovery, OpenAPI, and what is not there.

use http::header::ACCEPT;
use http::{HeaderMap, Method, Request, StatusCode};
use hub_api::discovery::Scope;
use hub_api::{Catalog, Status};
use serde_json::{Value, json};

use super::Shared;
use super::render::pretty_text;
use crate::limits::READY_TIMEOUT;
use crate::request::accept::{Answer as Wanted, negotiate};
use crate::request::body::RequestBody;
use crate::request::path::{ResourcePath, Route};
use crate::request::query::Query;
use crate::response::{self, Answer};

/// Answers a request for anything but a resource.
pub(super) fn answer(
    shared: &Shared,
    route: &Route,
    request: &Request<RequestBody>,
    query: &Query,
    store_answers: bool,
) -> Result<Answer, Status> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed());
    }
    let headers = request.headers();
    let documents = || {
        let registry = &shared.registry;
        let others = shared.aggregation.others(&**registry.storage());
        shared.documents.of(registry.catalog(), others)
    };
    let shown = |value: &Value| show(StatusCode::OK, value);
    Ok(match route {
        Route::Root => shown(&json!({ "paths": paths(shared) })),
        Route::Health { endpoint, check } => {
            health(shared, endpoint, check.as_deref(), query, store_answers)
        }
        Route::Version => shown(&version(shared)),
        Route::Metrics => {
            response::text(StatusCode::OK, shared.metrics.render(shared.registry.revision().get()))
        }
        Route::OpenidConfiguration | Route::OpenidKeys => openid(shared, route),
        Route::ApiVersions => documents().groups(Scope::Core, discovery(headers)?, headers),
        Route::ApiGroups => documents().groups(Scope::Groups, discovery(headers)?, headers),
        Route::ApiGroup { group } => {
            documents().group(group, headers).unwrap_or_else(page_not_found)
        }
        Route::ApiResources { group, version } => {
            documents().resources(group, version, headers).unwrap_or_else(page_not_found)
        }
        Route::OpenapiV2 => documents().openapi_v2(headers)?,
        Route::OpenapiV3 => documents().openapi_v3(headers),
        Route::OpenapiV3Document { group, version } => {
            documents().openapi_v3_of(group, version, headers).unwrap_or_else(page_not_found)
        }
        Route::Resource(_) | Route::Unknown => {
            show(StatusCode::NOT_FOUND, &json!({ "paths": paths(shared) }))
        }
    })
}

/// What others need in order to verify tokens of service accounts.
fn openid(shared: &Shared, route: &Route) -> Answer {
    let Some(issuer) = &shared.authentication.service_accounts else { return page_not_found() };
    let (media, value) = if *route == Route::OpenidKeys {
        (http::HeaderValue::from_static("application/jwk-set+json"), issuer.jwks())
    } else {
        let keys = format!("https://{}/openid/v1/jwks", shared.address);
        (response::JSON, issuer.configuration(&keys))
    };
    let mut answer = response::ready(StatusCode::OK, media, value.to_string().into_bytes());
    let cache = http::HeaderValue::from_static("public, max-age=3600");
    answer.headers_mut().insert(http::header::CACHE_CONTROL, cache);
    answer
}

fn discovery(headers: &HeaderMap) -> Result<crate::request::accept::Form, Status> {
    negotiate(headers.get(ACCEPT).and_then(|it| it.to_str().ok()), Wanted::Discovery)
}

/// Indented for everybody, as Kubernetes does with these.
fn show(code: StatusCode, value: &Value) -> Answer {
    response::ready(code, response::JSON, pretty_text(value))
}

/// A resource that is not served: a `Status` below a known group version, else a bare page.
pub(super) fn no_such_resource(catalog: &Catalog, path: &ResourcePath) -> Answer {
    if catalog.serves(&path.group, &path.version) {
        response::status(&Status::no_such_resource())
    } else {
        page_not_found()
    }
}

fn page_not_found() -> Answer {
    response::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn paths(shared: &Shared) -> Vec<String> {
    let mut paths =
        vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned(), "/apis/".to_owned()];
    for row in shared.registry.catalog().rows().iter().filter(|it| !it.group.is_empty()) {
        paths.push(format!("/apis/{}", row.group));
        paths.push(format!("/apis/{}/{}", row.group, row.version));
    }
    for path in [
        "/.well-known/openid-configuration",
        "/healthz",
        "/healthz/ping",
        "/healthz/storage",
        "/livez",
        "/livez/ping",
        "/livez/storage",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/readyz",
        "/readyz/ping",
        "/readyz/shutdown",
        "/readyz/storage",
        "/version",
    ] {
        paths.push(path.to_owned());
    }
    paths.sort();
    paths.dedup();
    paths
}

fn version(shared: &Shared) -> Value {
    let it = &shared.version;
    json!({
        "major": it.major,
        "minor": it.minor,
        "gitVersion": it.git_version,
        "gitCommit": it.git_commit,
        "gitTreeState": "clean",
        "buildDate": it.build_date,
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("linux/{}", go_architecture()),
    })
}

/// The name that Go, and therefore every client, has for this machine's architecture.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Whether the store answers, if the question is whether this server is ready: others on the same store may be.
pub(super) async fn store_answers(shared: &Shared, route: &Route) -> bool {
    if let Route::Health { endpoint, .. } = route
        && endpoint == "readyz"
    {
        let asked = shared.registry.catch_up();
        return tokio::time::timeout(READY_TIMEOUT, asked).await.is_ok_and(|it| it.is_ok());
    }
    true
}

/// `ok`, or which check fails; every check with `?verbose`.
fn health(
    shared: &Shared,
    endpoint: &str,
    check: Option<&str>,
    query: &Query,
    store_answers: bool,
) -> Answer {
    // Closed once nothing can be written any more.
    let storage_open = shared.registry.storage().progress().has_changed().is_ok();
    let mut checks = vec![("ping", true), ("storage", storage_open && store_answers)];
    if endpoint == "readyz" {
        checks.push(("shutdown", !shared.unready.is_cancelled()));
    }
    if let Some(wanted) = check {
        return match checks.iter().find(|(name, _)| *name == wanted) {
            Some((_, true)) => response::text(StatusCode::OK, "ok"),
            Some((_, false)) => response::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("internal server error: {wanted} failed\n"),
            ),
            None => page_not_found(),
        };
    }
    checks.retain(|(name, _)| !query.all("exclude").any(|it| it == *name));
    let mut report = String::new();
    for (name, good) in &checks {
        let line = if *good {
            format!("[+]{name} ok\n")
        } else {
            format!("[-]{name} failed: reason withheld\n")
        };
        report.push_str(&line);
    }
    if checks.iter().any(|(_, good)| !good) {
        report.push_str(&format!("{endpoint} check failed\n"));
        return response::text(StatusCode::INTERNAL_SERVER_ERROR, report);
    }
    if query.flag("verbose") || query.first("verbose").is_some() {
        report.push_str(&format!("{endpoint} check passed\n"));
        return response::text(StatusCode::OK, report);
    }
    response::text(StatusCode::OK, "ok")
}
