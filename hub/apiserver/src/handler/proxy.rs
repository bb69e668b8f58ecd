//! `proxy`: HTTP requests that are passed on to what listens in a pod, named by itself or by a
//! service in front of it. They go through the node's session: the hub itself reaches no pod.

use std::convert::Infallible;

use agent_sync::stream::{StreamKind, StreamRequest};
use futures_util::stream;
use http::header::{CONNECTION, HOST, LOCATION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hub_api::{Status, object, resources};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::{Call, Open};
use crate::limits::{PROXY_ANSWER_TIMEOUT, STREAM_OPEN_TIMEOUT};
use crate::response::{self, Answer};
use crate::streaming::connection::connection;

/// Headers of one connection: they say nothing about the next.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    http::header::PROXY_AUTHENTICATE,
    http::header::PROXY_AUTHORIZATION,
    http::header::TE,
    http::header::TRAILER,
    http::header::TRANSFER_ENCODING,
    UPGRADE,
];

/// Where a request goes.
#[derive(Debug, Eq, PartialEq)]
struct Target {
    namespace: String,
    pod: String,
    port: u16,
}

/// The name in the path: `name`, `name:port` or `scheme:name:port`.
#[derive(Debug, Eq, PartialEq)]
struct Address<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

/// Passes a request on and answers with what came back.
pub(super) async fn serve(call: Call, request: Request<Incoming>) -> Result<Answer, Status> {
    let Some(rest) = rest(request.uri().path(), call.namespace().is_some()) else {
        return Ok(to_directory(request.uri()));
    };
    if request.headers().contains_key(UPGRADE) {
        return Err(Status::bad_request("upgrades of connections are not passed on"));
    }
    let kind = call.resource.subresource("proxy").map_or("", |it| it.kind);
    let options = json!({"apiVersion": "v1", "kind": kind, "path": rest});
    call.registry
        .admit_connect(&call.resource, call.namespace(), call.name(), "proxy", options)
        .await?;
    let target = target(&call)?;
    let pods = resources::find("", "v1", "pods").ok_or_else(Status::no_such_resource)?;
    let entry = call.registry.get(pods, Some(&target.namespace), &target.pod)?;
    let pod = entry.value();
    let node = object::text(pod, "spec.nodeName");
    if node.is_empty() {
        return Err(unreachable(&format!("pod {} is on no node yet", target.pod)));
    }
    let host = format!("{}:{}", object::text(pod, "status.podIP"), target.port);
    let stream_request = StreamRequest {
        pod_namespace: target.namespace,
        pod_name: target.pod,
        pod_uid: object::uid(pod).to_owned(),
        container: String::new(),
        kind: StreamKind::PortForward { port: target.port },
    };
    let passed = passed_on(request, &rest, &host)?;
    exchange(call, node, stream_request, passed).await
}

async fn exchange(
    call: Call,
    node: &str,
    stream_request: StreamRequest,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    let shared = call.shared;
    let opening = shared.nodes.open(node, stream_request);
    let stream = match tokio::time::timeout(STREAM_OPEN_TIMEOUT, opening).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(err)) => return Err(err.to_status()),
        Err(_) => return Err(Status::timeout("the node did not open the stream in time")),
    };
    let (io, reason, carrying) = connection(stream);
    let stopping = shared.stopping.clone();
    shared.streams.spawn(async move {
        let _ = stopping.run_until_cancelled(carrying).await;
    });
    let failed = |err: &dyn std::fmt::Display| match reason.get() {
        Some(reason) => {
            unreachable(reason.strip_prefix("Internal error occurred: ").unwrap_or(reason))
        }
        None => unreachable(&err.to_string()),
    };
    let (mut sender, driving) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(|it| failed(&it))?;
    let stopping = shared.stopping.clone();
    shared.streams.spawn(async move {
        // Whoever sends the request hears of errors.
        let _ = stopping.run_until_cancelled(driving).await;
    });
    let answering = tokio::time::timeout(PROXY_ANSWER_TIMEOUT, sender.send_request(request));
    let answer = match answering.await {
        Ok(answer) => answer.map_err(|it| failed(&it))?,
        Err(_) => return Err(unreachable("it did not answer in time")),
    };
    let (mut head, body) = answer.into_parts();
    remove_hop_by_hop(&mut head.headers);
    // The sender keeps the connection: it goes with the body.
    let state = (body, sender, Open::new(shared));
    let frames = stream::unfold(state, |(mut body, sender, open)| async move {
        let bytes = body.frame().await?.ok()?.into_data().unwrap_or_default();
        Some((Ok::<_, Infallible>(Frame::data(bytes)), (body, sender, open)))
    });
    let mut answer =
        response::streamed(HeaderValue::from_static("text/plain"), StreamBody::new(frames));
    *answer.status_mut() = head.status;
    *answer.headers_mut() = head.headers;
    Ok(answer)
}

/// The path behind `proxy`, with its slash; `None` if there is not even that.
fn rest(path: &str, namespaced: bool) -> Option<String> {
    // "", api, v1, (namespaces, its name,) the plural, the name, proxy
    let n_before = if namespaced { 8 } else { 6 };
    let rest = path.splitn(n_before + 1, '/').nth(n_before)?;
    Some(format!("/{rest}"))
}

/// What is relative in a page must stay below `proxy/`.
fn to_directory(uri: &http::Uri) -> Answer {
    let query = uri.query().map(|it| format!("?{it}")).unwrap_or_default();
    let mut answer = response::text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(location) = HeaderValue::from_str(&format!("{}/{query}", uri.path())) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}

fn target(call: &Call) -> Result<Target, Status> {
    let name = call.name();
    let kind = &*call.resource.plural;
    let address = address(name)
        .ok_or_else(|| Status::bad_request(format!("invalid {kind} request \"{name}\"")))?;
    if address.scheme == "https" {
        return Err(Status::bad_request("requests are passed on over plain HTTP only"));
    }
    let namespace = call.namespace().unwrap_or_default();
    match kind {
        "pods" => {
            let pod = call.registry.get(&call.resource, Some(namespace), address.name)?;
            Ok(Target {
                namespace: namespace.to_owned(),
                pod: address.name.to_owned(),
                port: pod_port(pod.value(), address.port).ok_or_else(|| {
                    Status::bad_request(format!("invalid pod request \"{name}\""))
                })?,
            })
        }
        "services" => behind_service(call, namespace, &address),
        _ => Err(Status::service_unavailable(
            "nodes serve no HTTP: they are reached through the hub alone",
        )),
    }
}

fn address(text: &str) -> Option<Address<'_>> {
    let parts: Vec<&str> = text.split(':').collect();
    let address = match parts.as_slice() {
        [name] => Address { scheme: "", name, port: "" },
        [name, port] => Address { scheme: "", name, port },
        [scheme @ ("http" | "https" | ""), name, port] => Address { scheme, name, port },
        _ => return None,
    };
    (!address.name.is_empty()).then_some(address)
}

/// The port that is named, or the first that a container says it has.
fn pod_port(pod: &Value, port: &str) -> Option<u16> {
    if !port.is_empty() {
        return port.parse().ok();
    }
    let containers = object::list(pod, "spec.containers").iter();
    let said = containers.flat_map(|it| object::list(it, "ports")).next();
    let said = said.and_then(|it| object::int(it, "containerPort")).unwrap_or(80);
    u16::try_from(said).ok()
}

fn behind_service(call: &Call, namespace: &str, address: &Address<'_>) -> Result<Target, Status> {
    let name = address.name;
    let service = call.registry.get(&call.resource, Some(namespace), name)?;
    let mut port = address.port;
    let ports = object::list(service.value(), "spec.ports");
    if let Ok(number) = port.parse::<i64>() {
        let found = ports.iter().find(|it| object::int(it, "port") == Some(number));
        port = found.map(|it| object::text(it, "name")).ok_or_else(|| {
            let why = format!("no service port {number} found for service \"{name}\"");
            Status::service_unavailable(why)
        })?;
    }
    let none =
        || Status::service_unavailable(format!("no endpoints available for service \"{name}\""));
    let endpoints = resources::find("", "v1", "endpoints").ok_or_else(Status::no_such_resource)?;
    let endpoints = call.registry.get(endpoints, Some(namespace), name).map_err(|_| none())?;
    let subsets = object::list(endpoints.value(), "subsets").iter();
    subsets.filter_map(|it| endpoint(it, namespace, port)).next().ok_or_else(none)
}

/// The first pod of a subset of endpoints that has the port.
fn endpoint(subset: &Value, namespace: &str, port: &str) -> Option<Target> {
    let found = object::list(subset, "ports").iter().find(|it| object::text(it, "name") == port)?;
    let port = u16::try_from(object::int(found, "port")?).ok()?;
    let mut pods = object::list(subset, "addresses").iter();
    let pod = pods.find(|it| object::text(it, "targetRef.kind") == "Pod")?;
    let pod = object::text(pod, "targetRef.name").to_owned();
    Some(Target { namespace: namespace.to_owned(), pod, port })
}

fn passed_on(
    request: Request<Incoming>,
    path: &str,
    host: &str,
) -> Result<Request<Incoming>, Status> {
    let (mut head, body) = request.into_parts();
    let query = head.uri.query().map(|it| format!("?{it}")).unwrap_or_default();
    let wrong = |what: &str| Status::bad_request(format!("could not pass on the {what}"));
    let forwarded = HeaderValue::from_str(head.uri.path()).map_err(|_| wrong("path"))?;
    head.uri = format!("{path}{query}").parse().map_err(|_| wrong("path"))?;
    head.version = http::Version::HTTP_11;
    remove_hop_by_hop(&mut head.headers);
    head.headers.insert(HOST, HeaderValue::from_str(host).map_err(|_| wrong("host"))?);
    head.headers.insert(HeaderName::from_static("x-forwarded-uri"), forwarded);
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if matches!(head.method, Method::CONNECT) {
        return Err(wrong("method"));
    }
    Ok(Request::from_parts(head, body))
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .filter_map(|it| it.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.into_iter().chain(named) {
        headers.remove(name);
    }
}

fn unreachable(why: &str) -> Status {
    Status::service_unavailable(format!("error trying to reach service: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_scheme_and_port() {
        for (text, expected) in [
            ("web", Some(("", "web", ""))),
            ("web:80", Some(("", "web", "80"))),
            ("http:web:metrics", Some(("http", "web", "metrics"))),
            (":web:80", Some(("", "web", "80"))),
            ("ftp:web:80", None),
            (":80", None),
            ("a:b:c:d", None),
        ] {
            let found = address(text);
            assert_eq!(found.map(|it| (it.scheme, it.name, it.port)), expected, "{text}");
        }
        let path = "/api/v1/namespaces/proxy/pods/proxy/proxy";
        assert_eq!(rest(&format!("{path}/a//b"), true).as_deref(), Some("/a//b"));
        assert_eq!(rest(path, true), None);
        assert_eq!(rest("/api/v1/nodes/n/proxy/a", false).as_deref(), Some("/a"));
    }

    #[test]
    fn the_first_port_is_meant_unless_one_is_named() {
        let pod = json!({"spec": {"containers": [{}, {"ports": [{"containerPort": 8080}]}]}});
        assert_eq!(pod_port(&pod, ""), Some(8080));
        assert_eq!(pod_port(&pod, "81"), Some(81));
        assert_eq!(pod_port(&pod, "http"), None);
        assert_eq!(pod_port(&json!({}), ""), Some(80));
    }

    #[test]
    fn a_service_leads_to_a_pod_with_the_port() {
        let subset = json!({
            "addresses": [{"ip": "1.2.3.4"}, {"targetRef": {"kind": "Pod", "name": "p"}}],
            "ports": [{"name": "http", "port": 8080}],
        });
        let target = Target { namespace: "n".into(), pod: "p".into(), port: 8080 };
        assert_eq!(endpoint(&subset, "n", "http"), Some(target));
        assert_eq!(endpoint(&subset, "n", "other"), None);
    }
}
