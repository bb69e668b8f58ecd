//! `proxy`: HTTP requests that are passed on to what listens in a pod, named by itself or by a
//! service in front of it. They go through the node's session: the hub itself reaches no pod.

use agent_sync::stream::{Channel, PageHead, StreamKind, StreamRequest};
use http::header::LOCATION;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use hub_api::{Status, object, resources};
use serde_json::{Value, json};

use super::{Call, Open};
use crate::limits::{MAX_PAGE, PAGE_TIMEOUT};
use crate::passing::{self, Place, unreachable};
use crate::request::body::RequestBody;
use crate::request::query::decode;
use crate::response::{self, Answer};
use crate::streaming::Frames;
use crate::tls::trusting_client;

/// The port under which clients know a kubelet.
const KUBELET_PORT: &str = "10250";

/// Where a request goes.
#[derive(Debug, Eq, PartialEq)]
struct Target {
    namespace: String,
    pod: String,
    port: u16,
    /// Whether TLS is spoken there. Who answers does not matter: no certificate is looked at, as
    /// Kubernetes does it.
    secure: bool,
}

/// The name in the path: `name`, `name:port` or `scheme:name:port`.
#[derive(Debug, Eq, PartialEq)]
struct Address<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

/// Passes a request on and answers with what came back.
pub(super) async fn serve(call: Call, mut request: Request<RequestBody>) -> Result<Answer, Status> {
    let Some(rest) = rest(request.uri().path(), call.namespace().is_some()) else {
        return Ok(to_directory(request.uri()));
    };
    let rest = resolved(rest)?;
    let kind = call.resource.subresource("proxy").map_or("", |it| it.kind);
    let options = json!({"apiVersion": "v1", "kind": kind, "path": rest});
    call.registry
        .admit_connect(&call.resource, call.namespace(), call.name(), "proxy", options)
        .await?;
    let query = request.uri().query().map(|it| format!("?{it}")).unwrap_or_default();
    let path = format!("{rest}{query}");
    if call.resource.plural == "nodes" {
        return page(&call, request.method(), path).await;
    }
    let target = target(&call)?;
    let (place, host) = find(&call, &target)?;
    let client = passing::wants_upgrade(request.headers());
    let client = client.then(|| hyper::upgrade::on(&mut request));
    let asked = request.uri().path().to_owned();
    let mut passed = passing::passed_on(request, &path, &host)?;
    let forwarded = HeaderValue::from_str(&asked)
        .map_err(|_| Status::bad_request("could not pass on the path"))?;
    passed.headers_mut().insert(HeaderName::from_static("x-forwarded-uri"), forwarded);
    let passage = call.shared.passage();
    let mut reached = passage.open(&place).await.map_err(|err| err.to_status())?;
    if target.secure {
        let config = trusting_client().map_err(|err| unreachable(&err.to_string()))?;
        let secured = reached.secured(config, &target.pod).await;
        reached = secured.map_err(|err| err.to_status())?;
    }
    // What answers takes what time it likes, and so may its clients.
    passage.exchange(reached, passed, client, None, Open::new(call.shared)).await
}

/// The way to a pod, and the host to ask for there.
fn find(call: &Call, target: &Target) -> Result<(Place, String), Status> {
    let pods = resources::find("", "v1", "pods").ok_or_else(Status::no_such_resource)?;
    let entry = call.registry.get(pods, Some(&target.namespace), &target.pod)?;
    let pod = &*entry.value();
    let node = object::text(pod, "spec.nodeName");
    if node.is_empty() {
        return Err(unreachable(&format!("pod {} is on no node yet", target.pod)));
    }
    let host = format!("{}:{}", object::text(pod, "status.podIP"), target.port);
    let request = StreamRequest {
        pod_namespace: target.namespace.clone(),
        pod_name: target.pod.clone(),
        pod_uid: object::uid(pod).to_owned(),
        container: String::new(),
        kind: StreamKind::Connect { port: target.port },
    };
    Ok((Place::Pod { node: node.to_owned(), request }, host))
}

/// A page that the node itself answers. It listens nowhere: only what a kubelet answers there is
/// meant.
async fn page(call: &Call, method: &Method, path: String) -> Result<Answer, Status> {
    let name = call.name();
    let address = address(name)
        .ok_or_else(|| Status::bad_request(format!("invalid node request \"{name}\"")))?;
    call.registry.get(&call.resource, None, address.name)?;
    if !matches!(address.port, "" | KUBELET_PORT) {
        return Err(Status::service_unavailable(
            "nodes serve no HTTP but the pages of a kubelet: they are reached through the hub alone",
        ));
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed());
    }
    let opening =
        call.shared.nodes.open(address.name, StreamRequest::of_node(StreamKind::Page { path }));
    let reading = async {
        let stream = opening.await.map_err(|err| err.to_status())?;
        // Kept until the end: without it the node would stop.
        let _send = stream.send;
        read_page(&mut Frames::new(stream.recv)).await
    };
    match tokio::time::timeout(PAGE_TIMEOUT, reading).await {
        Ok(answer) => answer,
        Err(_) => Err(unreachable("it did not answer in time")),
    }
}

/// What a node says is bounded, and runs in no browser.
async fn read_page(frames: &mut Frames) -> Result<Answer, Status> {
    let broken = || unreachable("the connection to the node was lost");
    let (mut head, mut body): (Option<PageHead>, Vec<u8>) = (None, Vec::new());
    loop {
        match frames.next().await.ok_or_else(broken)? {
            (Channel::Stdout, payload) if head.is_none() => {
                head = Some(serde_json::from_slice(&payload).map_err(|_| broken())?);
            }
            (Channel::Stdout, payload) => {
                if body.len() + payload.len() > MAX_PAGE {
                    return Err(unreachable("its answer is larger than may be"));
                }
                body.extend_from_slice(&payload);
            }
            (Channel::Error, payload) => {
                if let Some(refusal) = crate::streaming::refusal(&payload) {
                    return Err(refusal);
                }
                break;
            }
            (Channel::Stdin | Channel::Stderr | Channel::Resize | Channel::CloseStdin, _) => {}
        }
    }
    let head = head.ok_or_else(broken)?;
    let code = StatusCode::from_u16(head.code).ok().filter(|it| it.as_u16() >= 200);
    let is_plain = ["text/plain", "application/json"].contains(&essence(&head.content_type));
    let media = HeaderValue::from_str(&head.content_type).ok().filter(|_| is_plain);
    let media = media.unwrap_or(response::TEXT);
    let mut answer = response::ready(code.ok_or_else(broken)?, media, body);
    response::no_sniff(answer.headers_mut());
    Ok(answer)
}

fn essence(media: &str) -> &str {
    media.split(';').next().unwrap_or_default().trim()
}

/// The path behind `proxy`, from its slash on; `None` if there is not even that.
fn rest(path: &str, namespaced: bool) -> Option<&str> {
    // api, v1, (namespaces, its name,) the plural, the name, proxy
    let n_before = if namespaced { 7 } else { 5 };
    let mut rest = path;
    for _ in 0..n_before {
        rest = rest.trim_start_matches('/');
        rest = rest.find('/').map_or("", |at| &rest[at..]);
    }
    (!rest.is_empty()).then_some(rest)
}

/// A path whose steps back are taken: admission is shown what the other server is asked for. An encoded
/// slash stays what it is, which only the other server knows, unless dots beside it could lead elsewhere.
///
/// # Errors
/// `BadRequest`.
fn resolved(path: &str) -> Result<String, Status> {
    let mut steps = Vec::new();
    let mut is_directory = false;
    for segment in path.split('/').skip(1) {
        let decoded = decode(segment, false);
        is_directory = matches!(&*decoded, "." | "..");
        match &*decoded {
            "." => {}
            ".." => {
                steps.pop();
            }
            it if it.split('/').any(|it| matches!(it, "." | "..")) => {
                return Err(Status::bad_request(format!("invalid path \"{path}\"")));
            }
            _ => steps.push(segment),
        }
    }
    if is_directory {
        steps.push("");
    }
    Ok(format!("/{}", steps.join("/")))
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
    let secure = address.scheme == "https";
    let namespace = call.namespace().unwrap_or_default();
    match kind {
        "pods" => {
            let pod = call.registry.get(&call.resource, Some(namespace), address.name)?;
            Ok(Target {
                namespace: namespace.to_owned(),
                pod: address.name.to_owned(),
                port: pod_port(&pod.value(), address.port).ok_or_else(|| {
                    Status::bad_request(format!("invalid pod request \"{name}\""))
                })?,
                secure,
            })
        }
        "services" => Ok(Target { secure, ..behind_service(call, namespace, &address)? }),
        _ => Err(Status::no_such_resource()),
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
    let service = service.value();
    let ports = object::list(&service, "spec.ports");
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
    let endpoints = endpoints.value();
    let subsets = object::list(&endpoints, "subsets").iter();
    subsets.filter_map(|it| endpoint(it, namespace, port)).next().ok_or_else(none)
}

/// The first pod of a subset of endpoints that has the port.
fn endpoint(subset: &Value, namespace: &str, port: &str) -> Option<Target> {
    let found = object::list(subset, "ports").iter().find(|it| object::text(it, "name") == port)?;
    let port = u16::try_from(object::int(found, "port")?).ok()?;
    let mut pods = object::list(subset, "addresses").iter();
    let pod = pods.find(|it| object::text(it, "targetRef.kind") == "Pod")?;
    let pod = object::text(pod, "targetRef.name").to_owned();
    Some(Target { namespace: namespace.to_owned(), pod, port, secure: false })
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
        assert_eq!(rest(&format!("{path}/a//b"), true), Some("/a//b"));
        assert_eq!(rest(&format!("/{path}//"), true), Some("//"));
        assert_eq!(rest(path, true), None);
        assert_eq!(rest("/api/v1/nodes/n/proxy/a", false), Some("/a"));
        assert_eq!(rest("/api//v1/nodes/n/proxy/a", false), Some("/a"));
    }

    #[test]
    fn steps_back_are_taken_before_anybody_is_asked() {
        for (path, expected) in [
            ("/", Some("/")),
            ("/a//b/", Some("/a//b/")),
            ("/a%2Fb", Some("/a%2Fb")),
            ("/a/./b/../c", Some("/a/c")),
            ("/open/%2e%2E/secret", Some("/secret")),
            ("/a/b/..", Some("/a/")),
            ("/a/.", Some("/a/")),
            ("/../../a", Some("/a")),
            ("/open/..%2Fsecret", None),
            ("/open%2f%2e%2e%2fsecret", None),
            ("/a/...", Some("/a/...")),
        ] {
            assert_eq!(resolved(path).ok().as_deref(), expected, "{path}");
        }
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
        let target = Target { namespace: "n".into(), pod: "p".into(), port: 8080, secure: false };
        assert_eq!(endpoint(&subset, "n", "http"), Some(target));
        assert_eq!(endpoint(&subset, "n", "other"), None);
    }
}
