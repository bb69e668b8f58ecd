//! One request, from its head to its answer: who sends it, where it goes, may they, do it.

mod aggregated;
mod authenticate;
mod body;
mod documents;
mod encodings;
mod listener;
mod objects;
mod options;
mod plain;
mod pods;
mod proxy;
mod render;
mod reviews;
mod tokens;
mod usage;
mod watch;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request};
use hub_api::selector::FieldSelector;
use hub_api::{Resource, Status};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::aggregation::{Aggregation, Api};
use crate::audit::{self, Audit};
use crate::auth::{Attributes, Authentication, Authorizer, Decision, User};
use crate::flow::{Digest, Flows, Ticket, What};
use crate::limits::{DRAIN_TIMEOUT, MAX_READS_IN_FLIGHT, MAX_WRITES_IN_FLIGHT};
use crate::metrics::{Gauge, Labels, Metrics};
use crate::passing::Passage;
use crate::registry::Registry;
use crate::request::body::RequestBody;
use crate::request::path::{ResourcePath, Route};
use crate::request::query::{Query, decode};
use crate::response::{self, Answer};
use crate::server::{Peer, VersionInfo};
use crate::streaming::NodeStreams;
use crate::tls::ServerCertificate;
use crate::usage::Usages;
use documents::Documents;
use encodings::Encodings;
use listener::Listener;

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) registry: Registry,
    authentication: Authentication,
    audit: Option<Arc<Audit>>,
    authorizer: Arc<dyn Authorizer>,
    nodes: Arc<dyn NodeStreams>,
    version: VersionInfo,
    documents: Documents,
    encodings: Encodings,
    /// `host:port` under which clients reach this server.
    address: String,
    metrics: Metrics,
    usage: Usages,
    pub(crate) aggregation: Aggregation,
    pub(crate) flows: Flows,
    reads: Semaphore,
    writes: Semaphore,
    /// Streams that outlive their request's answer.
    streams: TaskTracker,
    /// Fires when the server is to be stopped: others should look elsewhere.
    unready: CancellationToken,
    /// Fires when watches and streams are to end.
    stopping: CancellationToken,
}

/// What [`Shared::new`] is given beside the registry.
pub(crate) struct Parts {
    pub(crate) authentication: Authentication,
    pub(crate) audit: Option<Arc<Audit>>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) nodes: Arc<dyn NodeStreams>,
    pub(crate) version: VersionInfo,
    /// `host:port` under which clients reach this server.
    pub(crate) address: String,
    /// Who the hub is to servers of aggregated APIs.
    pub(crate) front_proxy: Option<Arc<ServerCertificate>>,
}

impl Shared {
    pub(crate) fn new(registry: Registry, parts: Parts) -> Self {
        let Parts { authentication, audit, authorizer, nodes, version, address, front_proxy } =
            parts;
        Self {
            registry,
            authentication,
            audit,
            authorizer,
            nodes,
            version,
            documents: Documents::new(address.clone()),
            encodings: Encodings::default(),
            address,
            metrics: Metrics::default(),
            usage: Usages::default(),
            aggregation: Aggregation::new(front_proxy),
            flows: Flows::default(),
            reads: Semaphore::new(MAX_READS_IN_FLIGHT),
            writes: Semaphore::new(MAX_WRITES_IN_FLIGHT),
            streams: TaskTracker::new(),
            unready: CancellationToken::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// The ways out to other servers.
    pub(crate) fn passage(&self) -> Passage {
        let (nodes, tasks) = (self.nodes.clone(), self.streams.clone());
        Passage { nodes, tasks, stopping: self.stopping.clone() }
    }

    /// Makes the server not ready; it goes on serving.
    pub(crate) fn not_ready(&self) {
        self.unready.cancel();
    }

    /// Ends watches and streams.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
        self.streams.close();
    }

    /// Waits for the streams to end.
    pub(crate) async fn finish(&self) {
        if tokio::time::timeout(DRAIN_TIMEOUT, self.streams.wait()).await.is_err() {
            tracing::warn!(left = self.streams.len(), "Streams did not end");
        }
    }
}

/// Counts an open watch or stream for as long as it lives.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: Arc<Shared>) -> Self {
        shared.metrics.long_running.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.metrics.long_running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request for a resource, with everything that was found out about it.
struct Call {
    shared: Arc<Shared>,
    user: Arc<User>,
    /// The registry, acting on behalf of the user: every write goes through this one.
    registry: Registry,
    resource: Arc<Resource>,
    path: ResourcePath,
    verb: &'static str,
    query: Query,
    headers: HeaderMap,
}

impl Call {
    fn namespace(&self) -> Option<&str> {
        self.path.namespace.as_deref()
    }

    fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or_default()
    }

    fn subresource(&self) -> Option<&str> {
        self.path.subresource.as_deref()
    }

    fn header(&self, name: http::header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|it| it.to_str().ok())
    }
}

/// Answers one request. Never fails: whatever goes wrong is an answer as well.
pub(crate) async fn handle(
    shared: Arc<Shared>,
    peer: Peer,
    request: Request<RequestBody>,
) -> Answer {
    let audit_id = audit_id(request.headers());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let pretty = render::wants_pretty(&query, request.headers());
    let mut marks = Marks::default();
    let listener = Listener::new(&shared, &peer, &request, &audit_id);
    let service = AssertUnwindSafe(route(shared, peer, request, &mut marks)).catch_unwind();
    let (served, noted) = match &listener {
        Some(listener) => listener.listen(service).await,
        None => (service.await, None),
    };
    let panicked = served.is_err();
    let (mut answer, refused) = match served {
        Ok(Ok(answer)) => (answer, None),
        Ok(Err(status)) => (response::status_as(&status, pretty), Some(status)),
        Err(_) => {
            tracing::error!(%method, path, "A request panicked");
            let status = Status::internal(format!(
                "this request caused apiserver to panic. Look in the logs for details, audit ID {}",
                audit_id.to_str().unwrap_or_default()
            ));
            (response::status(&status), Some(status))
        }
    };
    if let (Some(listener), Some(noted)) = (&listener, &noted) {
        listener.tell(noted, &mut answer, refused.as_ref(), panicked).await;
    }
    if method == Method::HEAD {
        response::without_body(&mut answer);
    }
    response::finish(answer.headers_mut(), &audit_id);
    marks.put(answer.headers_mut());
    tracing::debug!(%method, path, code = answer.status().as_u16(), "Answered a request");
    answer
}

fn audit_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get("audit-id").filter(|it| !it.is_empty() && it.len() <= 64).cloned();
    given.unwrap_or_else(|| {
        let drawn = uuid::Uuid::new_v4().to_string();
        HeaderValue::from_str(&drawn).unwrap_or(HeaderValue::from_static("none"))
    })
}

async fn route(
    shared: Arc<Shared>,
    peer: Peer,
    mut request: Request<RequestBody>,
    marks: &mut Marks,
) -> Result<Answer, Status> {
    let sender = Arc::new(authenticate::sender(&shared, &peer, &request).await?);
    let user = authenticate::acting(&shared, &sender, request.headers())?;
    if !sender.is_anonymous() && !peer.seat.authenticated(&sender) {
        return Err(Status::too_many_requests("too many clients, please try again later", 1));
    }
    // Whoever serves the request must not pass the secret on by accident.
    authenticate::forget(request.headers_mut());
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let path = request.uri().path().to_owned();
    let route = Route::parse(&path);
    let Route::Resource(path) = route else {
        let method = request.method().as_str().to_ascii_lowercase();
        let digest = Digest { user: &user, verb: &method, what: What::Path(&path) };
        let _ticket = enter(&shared, &digest, marks).await?;
        authorize_path(&shared, &user, &sender, request.method(), &path)?;
        if let Some((group, version)) = route.served_by_others()
            && let Some(api) = shared.aggregation.find(&**shared.registry.storage(), group, version)
        {
            check_segments(&path)?;
            return Ok(aggregated::serve(&shared, &user, &peer, &api, false, request).await);
        }
        let store_answers = plain::store_answers(&shared, &route).await;
        return plain::answer(&shared, &route, &request, &query, store_answers);
    };
    let verb = verb(request.method(), &path, &query)?;
    let ticket = enter_for(&shared, &user, verb, &path, marks).await?;
    // Before anything is looked up: who may not know must not learn what there is.
    authorize(&shared, &user, &sender, verb, &path, &query)?;
    let storage = shared.registry.storage();
    if let Some(api) = shared.aggregation.find(&**storage, &path.group, &path.version) {
        let is_long = is_long_running(verb, path.subresource.as_deref().unwrap_or_default());
        // Nobody waits for the seat of a request that may take for ever.
        let _ticket = ticket.filter(|_| !is_long);
        return pass_on(&shared, &user, &peer, &api, verb, path, request).await;
    }
    let is_for_others = path.subresource.as_deref() == Some("proxy");
    if matches!(*request.method(), Method::HEAD | Method::OPTIONS) && !is_for_others {
        return Err(Status::method_not_allowed());
    }
    if wants_the_newest(verb, &query) {
        shared.registry.catch_up().await?;
    }
    let catalog = shared.registry.catalog();
    if path.is_deep {
        return Ok(plain::no_such_resource(&catalog, &path));
    }
    let Some(resource) = catalog.find(&path.group, &path.version, &path.plural) else {
        return Ok(plain::no_such_resource(&catalog, &path));
    };
    let headers = request.headers().clone();
    let registry = shared.registry.on_behalf_of(user.clone());
    let call = Call { shared, user, registry, resource, path, verb, query, headers };
    let subresource = check_path(&call)?;
    serve(call, subresource, request).await
}

/// Passes a request for a resource on to the server that has it.
async fn pass_on(
    shared: &Arc<Shared>,
    user: &User,
    peer: &Peer,
    api: &Api,
    verb: &'static str,
    path: ResourcePath,
    request: Request<RequestBody>,
) -> Result<Answer, Status> {
    check_names(&path)?;
    check_segments(request.uri().path())?;
    let is_long = is_long_running(verb, path.subresource.as_deref().unwrap_or_default());
    let answer = aggregated::serve(shared, user, peer, api, is_long, request).await;
    // Only the other server knows its resources.
    let (resource, subresource) = (String::new(), "");
    let code = answer.status().as_u16();
    shared.metrics.count(Labels { verb, group: path.group, resource, subresource, code });
    Ok(answer)
}

/// Which FlowSchema and priority level a request had, for its answer.
#[derive(Debug, Default)]
struct Marks {
    schema_uid: String,
    level_uid: String,
}

impl Marks {
    fn put(&self, headers: &mut HeaderMap) {
        for (name, uid) in [
            ("x-kubernetes-pf-flowschema-uid", &self.schema_uid),
            ("x-kubernetes-pf-prioritylevel-uid", &self.level_uid),
        ] {
            if let Some(uid) = HeaderValue::from_str(uid).ok().filter(|it| !it.is_empty()) {
                headers.insert(name, uid);
            }
        }
    }
}

/// Waits for the request's turn.
async fn enter(shared: &Shared, digest: &Digest<'_>, marks: &mut Marks) -> Result<Ticket, Status> {
    match shared.flows.enter(digest).await {
        Ok(ticket) => {
            marks.schema_uid.clone_from(&ticket.schema_uid);
            marks.level_uid.clone_from(&ticket.level_uid);
            Ok(ticket)
        }
        Err(rejected) => {
            tracing::debug!(user = digest.user.name, why = ?rejected.why, "Rejected a request");
            marks.schema_uid.clone_from(&rejected.schema_uid);
            marks.level_uid.clone_from(&rejected.level_uid);
            Err(rejected.status())
        }
    }
}

/// As [`enter`], for what is not over with its answer's head: streams take no seat, watches only while they begin.
async fn enter_for(
    shared: &Shared,
    user: &User,
    verb: &str,
    path: &ResourcePath,
    marks: &mut Marks,
) -> Result<Option<Ticket>, Status> {
    let subresource = path.subresource.as_deref().unwrap_or_default();
    if is_stream(subresource) {
        return Ok(None);
    }
    let what = What::Resource {
        group: &path.group,
        resource: &path.plural,
        subresource,
        namespace: path.namespace.as_deref().unwrap_or_default(),
    };
    enter(shared, &Digest { user, verb, what }, marks).await.map(Some)
}

async fn serve(
    call: Call,
    subresource: &'static str,
    request: Request<RequestBody>,
) -> Result<Answer, Status> {
    let shared = call.shared.clone();
    let registry = call.registry.clone();
    let resource = &call.resource;
    let deprecation = match &resource.custom {
        Some(custom) => custom.warning.clone(),
        None => hub_api::resources::deprecation(resource).map(str::to_owned),
    };
    let labels = Labels {
        verb: call.verb,
        group: resource.group.to_string(),
        resource: resource.plural.to_string(),
        subresource,
        code: 0,
    };
    let result = if is_long_running(call.verb, subresource) {
        objects::serve(call, request).await
    } else {
        let is_read = matches!(call.verb, "get" | "list");
        let places = if is_read { &shared.reads } else { &shared.writes };
        let Ok(_place) = places.try_acquire() else {
            return Err(Status::too_many_requests("too many requests, please try again later", 1));
        };
        let _gauge = Gauge::raise(&shared.metrics.in_flight);
        objects::serve(call, request).await
    };
    let code = match &result {
        Ok(answer) => answer.status().as_u16(),
        Err(status) => status.code,
    };
    shared.metrics.count(Labels { code, ..labels });
    for (key, value) in registry.requester().take_annotations() {
        audit::annotate(&key, &value);
    }
    let mut warnings = registry.requester().take_warnings();
    if let Some(deprecation) = deprecation {
        warnings.insert(0, deprecation);
    }
    if warnings.is_empty() {
        return result;
    }
    // Refusals carry the warnings of admission as well.
    let mut answer = result.unwrap_or_else(|status| response::status(&status));
    response::warn(answer.headers_mut(), &warnings);
    Ok(answer)
}

/// Whether a request goes on for as long as its client likes.
fn is_long_running(verb: &str, subresource: &str) -> bool {
    verb == "watch" || is_stream(subresource)
}

fn is_stream(subresource: &str) -> bool {
    matches!(subresource, "log" | "exec" | "attach" | "portforward" | "proxy")
}

/// Whether a request means the state that is newest anywhere: all do, but reads that say which state will do.
fn wants_the_newest(verb: &str, query: &Query) -> bool {
    let names_a_state = ["resourceVersion", "continue"]
        .into_iter()
        .any(|it| !query.first(it).unwrap_or_default().is_empty());
    !(matches!(verb, "get" | "list" | "watch") && names_a_state)
}

/// What a request does, in the words of authorization. For OPTIONS there is none: who may do
/// everything may do that.
fn verb(method: &Method, path: &ResourcePath, query: &Query) -> Result<&'static str, Status> {
    // Opening a stream into a container is a write, whatever the method.
    if matches!(path.subresource.as_deref(), Some("exec" | "attach" | "portforward")) {
        return match *method {
            Method::GET | Method::POST => Ok("create"),
            _ => Err(Status::method_not_allowed()),
        };
    }
    let named = path.name.is_some();
    let is_watch = (path.is_watch || query.flag("watch")) && path.subresource.is_none();
    Ok(match *method {
        Method::GET | Method::HEAD if is_watch => "watch",
        _ if path.is_watch => return Err(Status::method_not_allowed()),
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT if named => "update",
        Method::PATCH if named => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        Method::OPTIONS => "",
        _ => return Err(Status::method_not_allowed()),
    })
}

/// What was authorised is what another server must read in the path, to its end: it may take an encoded slash for a
/// slash, leave out what is empty, and go back where there are dots.
fn check_segments(path: &str) -> Result<(), Status> {
    let segments = path.strip_prefix('/').unwrap_or(path);
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    let is_odd = |segment: &str| {
        let decoded = decode(segment, false);
        matches!(&*decoded, "" | "." | "..")
            || decoded.contains(['/', '\0', char::REPLACEMENT_CHARACTER])
    };
    if segments.split('/').any(is_odd) {
        return Err(Status::bad_request(format!("invalid path \"{path}\"")));
    }
    Ok(())
}

fn check_names(path: &ResourcePath) -> Result<(), Status> {
    for part in [&path.namespace, &path.name].into_iter().flatten() {
        let wrong = hub_api::names::path_segment(part);
        if !wrong.is_empty() {
            return Err(Status::bad_request(format!(
                "invalid resource name \"{part}\": [{}]",
                wrong.join(", ")
            )));
        }
    }
    Ok(())
}

/// Names must be single path segments, scopes must fit, and the verb must be there. Returns the
/// subresource, empty if there is none.
fn check_path(call: &Call) -> Result<&'static str, Status> {
    check_names(&call.path)?;
    let resource = &call.resource;
    let named = call.path.name.is_some();
    match (&call.path.namespace, resource.namespaced) {
        (Some(_), false) => return Err(Status::no_such_resource()),
        (None, true) if named => return Err(Status::no_such_resource()),
        (None, true) if call.verb == "create" => return Err(Status::method_not_allowed()),
        (Some(_) | None, _) => {}
    }
    let Some(name) = call.subresource() else {
        let allowed = resource.has_verb(call.verb) && !(call.verb == "create" && named);
        return if allowed { Ok("") } else { Err(Status::method_not_allowed()) };
    };
    let subresource = resource.subresource(name).ok_or_else(Status::no_such_resource)?;
    let is_options = call.verb.is_empty() && subresource.name == "proxy";
    if is_options || subresource.verbs.contains(&call.verb) {
        Ok(subresource.name)
    } else {
        Err(Status::method_not_allowed())
    }
}

fn authorize_path(
    shared: &Shared,
    user: &User,
    sender: &User,
    method: &Method,
    path: &str,
) -> Result<(), Status> {
    let method = method.as_str().to_ascii_lowercase();
    let verb = if method == "head" { "get" } else { &method };
    let attributes = Attributes::of_path(user, verb, path);
    decide(shared, &attributes, sender, false)
}

fn authorize(
    shared: &Shared,
    user: &User,
    sender: &User,
    verb: &str,
    path: &ResourcePath,
    query: &Query,
) -> Result<(), Status> {
    let selected = selected_name(verb, path, query);
    let mut attributes = attributes(user, verb, path, query);
    if let Some(name) = &selected {
        attributes.name = name;
    }
    let is_long = is_long_running(verb, attributes.subresource);
    decide(shared, &attributes, sender, is_long)
}

/// The one object that a list or watch can show, if it selects by name: whoever may see that one may select it.
fn selected_name(verb: &str, path: &ResourcePath, query: &Query) -> Option<String> {
    if path.name.is_some() || !matches!(verb, "list" | "watch") {
        return None;
    }
    let name = FieldSelector::value_wanted(query.first("fieldSelector")?, "metadata.name")?;
    hub_api::names::path_segment(&name).is_empty().then_some(name)
}

/// Asks whether the sender of a call may do something more with its resource.
fn authorize_also(call: &Call, verb: &str) -> Result<(), Status> {
    let attributes = attributes(&call.user, verb, &call.path, &call.query);
    match call.shared.authorizer.authorize(&attributes) {
        Decision::Allow { .. } => Ok(()),
        Decision::Deny { reason } | Decision::NoOpinion { reason } => {
            Err(attributes.forbidden(&reason))
        }
    }
}

fn attributes<'a>(
    user: &'a User,
    verb: &'a str,
    path: &'a ResourcePath,
    query: &'a Query,
) -> Attributes<'a> {
    // Whoever does something else does it to all that they name.
    let selects = matches!(verb, "list" | "watch" | "deletecollection");
    let (fields, labels) = (query.first("fieldSelector"), query.first("labelSelector"));
    Attributes {
        user,
        verb,
        group: &path.group,
        version: &path.version,
        resource: &path.plural,
        subresource: path.subresource.as_deref().unwrap_or_default(),
        namespace: path.namespace.as_deref().unwrap_or_default(),
        name: path.name.as_deref().unwrap_or_default(),
        path: "",
        field_selector: fields.filter(|_| selects).unwrap_or_default(),
        label_selector: labels.filter(|_| selects).unwrap_or_default(),
    }
}

/// Asks whether a request may be, and tells the audit log.
fn decide(
    shared: &Shared,
    attributes: &Attributes<'_>,
    sender: &User,
    is_long: bool,
) -> Result<(), Status> {
    if let Some(audit) = &shared.audit {
        audit.attributes(attributes, sender, is_long);
    }
    let (word, reason, result) = match shared.authorizer.authorize(attributes) {
        Decision::Allow { reason } => ("allow", reason, Ok(())),
        Decision::Deny { reason } | Decision::NoOpinion { reason } => {
            let refusal = attributes.forbidden(&reason);
            ("forbid", reason, Err(refusal))
        }
    };
    audit::annotate("authorization.k8s.io/decision", word);
    audit::annotate("authorization.k8s.io/reason", &reason);
    result
}
