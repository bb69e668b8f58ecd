//! Questions about users and their rights: objects that are answered and never stored.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Request, StatusCode};
use hub_api::selector::{FieldSelector, LabelSelector};
use hub_api::{FieldError, Resource, Status, decode, object};
use serde_json::{Map, Value, json};

use super::render::View;
use super::{Call, body, options};
use crate::auth::{Attributes, Decision, Rules, User};
use crate::request::accept::{Answer as Wanted, body_media, negotiate};
use crate::request::body::RequestBody;
use crate::response::{self, Answer};

/// Whether objects of this resource are questions.
pub(super) fn is_question(resource: &Resource) -> bool {
    resource.custom.is_none()
        && matches!(&*resource.group, "authentication.k8s.io" | "authorization.k8s.io")
}

/// Answers a question.
pub(super) async fn serve(call: &Call, request: Request<RequestBody>) -> Result<Answer, Status> {
    let view = View::new(call, negotiate(call.header(ACCEPT), Wanted::JsonOnly)?)?;
    let write = options::write(call, "CreateOptions")?;
    let media = body_media(call.header(CONTENT_TYPE))?;
    let bytes = body::read(request.into_body()).await?;
    let decoded = decode::decode(&call.resource, &bytes, media, write.field_validation)?;
    let mut review = decoded.object;
    object::ensure(&mut review, "metadata");
    let status = match &*call.resource.kind {
        "SelfSubjectReview" => json!({ "userInfo": call.user.to_info() }),
        "TokenReview" => token_review(call, &review).await?,
        "SelfSubjectRulesReview" => rules_review(call, &review)?,
        _ => access_review(call, &review)?,
    };
    let map = object::as_map(&mut review);
    map.insert("kind".to_owned(), json!(call.resource.kind));
    map.insert("apiVersion".to_owned(), json!(call.resource.api_version()));
    map.entry("spec").or_insert_with(|| json!({}));
    map.insert("status".to_owned(), status);
    let mut answer = response::ready(StatusCode::CREATED, response::JSON, view.value(review));
    response::warn(answer.headers_mut(), &decoded.warnings);
    Ok(answer)
}

async fn token_review(call: &Call, review: &Value) -> Result<Value, Status> {
    let token = object::text(review, "spec.token");
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = texts(&review["spec"]["audiences"]);
    let shared = &call.shared;
    Ok(match shared.authentication.token(&shared.registry, token, &audiences).await {
        Ok(Some(verified)) => {
            let mut status = json!({ "authenticated": true, "user": verified.user.to_info() });
            if !verified.audiences.is_empty() {
                status["audiences"] = json!(verified.audiences);
            }
            status
        }
        Ok(None) => json!({ "user": {} }),
        Err(err) => json!({ "user": {}, "error": format!("[{}]", crate::auth::chain(&err)) }),
    })
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn access_review(call: &Call, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    let kind = &*call.resource.kind;
    let is_self = kind == "SelfSubjectAccessReview";
    let errors = wrong_spec(kind, review);
    if !errors.is_empty() {
        return Err(Status::invalid(&call.resource.group, kind, "", errors));
    }
    if let Some(namespace) = call.namespace()
        && object::text(spec, "resourceAttributes.namespace") != namespace
    {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {namespace}"
        )));
    }
    let user = if is_self { (*call.user).clone() } else { subject(spec) };
    let verb = |of: &str| object::text(spec, &format!("{of}.verb")).to_owned();
    let decision = if spec["resourceAttributes"].is_object() {
        let wanted = &spec["resourceAttributes"];
        let text = |field: &str| object::text(wanted, field);
        let (fields, labels) = (field_selector(wanted), label_selector(wanted));
        call.shared.authorizer.authorize(&Attributes {
            group: text("group"),
            version: text("version"),
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
            field_selector: &fields,
            label_selector: &labels,
            ..Attributes::of_user(&user, &verb("resourceAttributes"))
        })
    } else {
        let path = object::text(spec, "nonResourceAttributes.path");
        // The empty path is a path all the same.
        let path = if path.is_empty() { "/" } else { path };
        let verb = verb("nonResourceAttributes");
        call.shared.authorizer.authorize(&Attributes::of_path(&user, &verb, path))
    };
    Ok(decided(decision))
}

/// The field selector of a question, as it stands in a query. What no query can say, or what cannot
/// be parsed, narrows nothing.
fn field_selector(attributes: &Value) -> String {
    let raw = object::text(attributes, "fieldSelector.rawSelector");
    if FieldSelector::parses(raw) && !raw.is_empty() {
        return raw.to_owned();
    }
    let terms = object::list(attributes, "fieldSelector.requirements").iter().filter_map(|it| {
        let [value] = object::list(it, "values") else { return None };
        let equal = match object::text(it, "operator") {
            "In" => true,
            "NotIn" => false,
            _ => return None,
        };
        Some(FieldSelector::term(object::text(it, "key"), equal, value.as_str()?))
    });
    terms.collect::<Vec<_>>().join(",")
}

/// As [`field_selector`], of labels.
fn label_selector(attributes: &Value) -> String {
    let raw = object::text(attributes, "labelSelector.rawSelector");
    if LabelSelector::parse(raw).is_ok() && !raw.is_empty() {
        return raw.to_owned();
    }
    let requirements = object::list(attributes, "labelSelector.requirements");
    let selector = LabelSelector::from_value(&json!({"matchExpressions": requirements}));
    selector.map(|it| it.to_string()).unwrap_or_default()
}

/// What is wrong with the selectors of a question.
fn wrong_selectors(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for kind in ["fieldSelector", "labelSelector"] {
        let path = format!("spec.resourceAttributes.{kind}");
        let Some(selector) = object::get(spec, &format!("resourceAttributes.{kind}")) else {
            continue;
        };
        let raw = object::text(selector, "rawSelector");
        match (raw.is_empty(), object::list(selector, "requirements").is_empty()) {
            (true, true) => {
                let detail =
                    format!("when {path} is specified, requirements or rawSelector is required");
                errors.push(FieldError::required(format!("{path}.requirements"), detail));
            }
            (false, false) => {
                let detail = "may not specified at the same time as requirements";
                errors.push(FieldError::invalid(format!("{path}.rawSelector"), raw, detail));
            }
            (true, false) | (false, true) => {}
        }
    }
    errors
}

/// What is wrong with the question.
fn wrong_spec(kind: &str, review: &Value) -> Vec<FieldError> {
    let spec = &review["spec"];
    let (resource, path) =
        (spec["resourceAttributes"].is_object(), spec["nonResourceAttributes"].is_object());
    let mut errors = Vec::new();
    match (resource, path) {
        (true, true) => errors.push(FieldError::invalid(
            "spec.nonResourceAttributes",
            spec["nonResourceAttributes"].clone(),
            "cannot be specified in combination with resourceAttributes",
        )),
        (false, false) => errors.push(FieldError::invalid(
            "spec.resourceAttributes",
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        (true, false) | (false, true) => {}
    }
    errors.extend(wrong_selectors(spec));
    let is_nobody = object::text(spec, "user").is_empty() && texts(&spec["groups"]).is_empty();
    if kind != "SelfSubjectAccessReview" && is_nobody {
        let detail = "at least one of user or group must be specified";
        errors.push(FieldError::invalid("spec.user", "", detail));
    }
    if kind == "LocalSubjectAccessReview" && path {
        let detail = "disallowed on this kind of request";
        let value = spec["nonResourceAttributes"].clone();
        errors.push(FieldError::invalid("spec.nonResourceAttributes", value, detail));
    }
    errors
}

/// The user that a review is about.
fn subject(spec: &Value) -> User {
    let extra = spec["extra"].as_object().into_iter().flatten();
    User {
        name: object::text(spec, "user").to_owned(),
        uid: object::text(spec, "uid").to_owned(),
        groups: texts(&spec["groups"]),
        extra: extra.map(|(key, values)| (key.clone(), texts(values))).collect(),
    }
}

fn decided(decision: Decision) -> Value {
    let (allowed, denied, reason) = match decision {
        Decision::Allow { reason } => (true, false, reason),
        Decision::Deny { reason } => (false, true, reason),
        Decision::NoOpinion { reason } => (false, false, reason),
    };
    let mut status = json!({ "allowed": allowed });
    if denied {
        status["denied"] = json!(true);
    }
    if !reason.is_empty() {
        status["reason"] = json!(reason);
    }
    status
}

fn rules_review(call: &Call, review: &Value) -> Result<Value, Status> {
    let namespace = object::text(review, "spec.namespace");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    Ok(rules_status(call.shared.authorizer.rules(&call.user, namespace)))
}

fn rules_status(rules: Rules) -> Value {
    let with = |out: &mut Map<String, Value>, field: &str, list: Vec<String>| {
        if !list.is_empty() {
            out.insert(field.to_owned(), json!(list));
        }
    };
    let resources: Vec<Value> = rules
        .resources
        .into_iter()
        .map(|it| {
            let mut out = Map::new();
            out.insert("verbs".to_owned(), json!(it.verbs));
            with(&mut out, "apiGroups", it.groups);
            with(&mut out, "resources", it.resources);
            with(&mut out, "resourceNames", it.names);
            out.into()
        })
        .collect();
    let urls: Vec<Value> = rules
        .urls
        .into_iter()
        .map(|it| {
            let mut out = Map::new();
            out.insert("verbs".to_owned(), json!(it.verbs));
            with(&mut out, "nonResourceURLs", it.urls);
            out.into()
        })
        .collect();
    let mut status = json!({
        "resourceRules": resources,
        "nonResourceRules": urls,
        "incomplete": rules.is_incomplete,
    });
    if !rules.errors.is_empty() {
        status["evaluationError"] = json!(rules.errors.join(", "));
    }
    status
}
