//! Requests that another server answers. They are authorised already; the other server hears who
//! sends them in headers that it believes because of our certificate.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hub_api::Status;

use super::{Open, Shared};
use crate::aggregation::Api;
use crate::auth::User;
use crate::limits::PROXY_ANSWER_TIMEOUT;
use crate::passing;
use crate::request::body::RequestBody;
use crate::response::{self, Answer};
use crate::server::Peer;

/// Headers that say who sends a request. Nobody but us may say that.
const REMOTE: &str = "x-remote-";
const EXTRA: &str = "x-remote-extra-";
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Passes a request on. Never fails: what goes wrong is an answer as Kubernetes gives it, in plain
/// text, which clients read as `ServiceUnavailable`. One that `is_long` has no time by which the
/// other server must have begun to answer.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    user: &User,
    peer: &Peer,
    api: &Api,
    is_long: bool,
    mut request: Request<RequestBody>,
) -> Answer {
    if !api.is_available {
        return unavailable("service unavailable");
    }
    let path = request.uri().path_and_query().map_or("/", |it| it.as_str()).to_owned();
    let client = passing::wants_upgrade(request.headers());
    let client = client.then(|| hyper::upgrade::on(&mut request));
    let exchange = async {
        let mut passed = passing::passed_on(request, &path, &api.host())?;
        name_sender(passed.headers_mut(), user)?;
        forward(passed.headers_mut(), peer);
        let passage = shared.passage();
        let reached = shared.aggregation.reach(&shared.registry, &passage, api).await?;
        let patience = (!is_long).then_some(PROXY_ANSWER_TIMEOUT);
        passage.exchange(reached, passed, client, patience, Open::new(shared.clone())).await
    };
    match exchange.await {
        Ok(answer) => answer,
        Err(status) => {
            tracing::debug!(api = api.name, error = status.message, "Could not pass on a request");
            unavailable(&status.message)
        }
    }
}

fn unavailable(why: &str) -> Answer {
    let mut answer = response::text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    answer.headers_mut().insert(CONTENT_TYPE, response::TEXT);
    answer
}

/// Says who sends the request, and takes out what the client said of that.
fn name_sender(headers: &mut HeaderMap, user: &User) -> Result<(), Status> {
    let said: Vec<HeaderName> =
        headers.keys().filter(|it| it.as_str().starts_with(REMOTE)).cloned().collect();
    for name in said {
        headers.remove(name);
    }
    // Names may have any letters: they go as they are.
    let value = |text: &str| {
        HeaderValue::from_bytes(text.as_bytes())
            .map_err(|_| Status::internal("the name of the user fits in no header"))
    };
    headers.insert(HeaderName::from_static("x-remote-user"), value(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert(HeaderName::from_static("x-remote-uid"), value(&user.uid)?);
    }
    for group in &user.groups {
        headers.append(HeaderName::from_static("x-remote-group"), value(group)?);
    }
    for (key, values) in &user.extra {
        let name = format!("{EXTRA}{}", escaped(key));
        let name = HeaderName::try_from(name)
            .map_err(|_| Status::internal("what is known of the user fits in no header"))?;
        for text in values {
            headers.append(name.clone(), value(text)?);
        }
    }
    Ok(())
}

/// What is no part of a header's name is written `%XX`, as Kubernetes does it.
fn escaped(key: &str) -> String {
    let mut out = String::new();
    for byte in key.bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        if is_plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn forward(headers: &mut HeaderMap, peer: &Peer) {
    let own = peer.address.ip().to_canonical().to_string();
    let before = headers.get(FORWARDED_FOR).and_then(|it| it.to_str().ok());
    let all = before.map_or_else(|| own.clone(), |it| format!("{it}, {own}"));
    if let Ok(value) = HeaderValue::from_str(&all) {
        headers.insert(HeaderName::from_static(FORWARDED_FOR), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_but_us_says_who_sends() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("x-remote-user", "boss"), ("x-remote-group", "system:masters"), ("x-remote-x", "y")]
        {
            headers.append(name, HeaderValue::from_static(value));
        }
        let mut user = User::named("anna");
        user.groups = vec!["a".to_owned(), "b".to_owned()];
        user.extra.insert("example.org/pod%".to_owned(), vec!["p".to_owned()]);
        name_sender(&mut headers, &user).unwrap();
        let mut seen: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        seen.sort();
        let expected = [
            "x-remote-extra-example.org%2fpod%25: p",
            "x-remote-group: a",
            "x-remote-group: b",
            "x-remote-user: anna",
        ];
        assert_eq!(seen, expected);
        user.name = "Anna Łukasz".to_owned();
        name_sender(&mut headers, &user).unwrap();
        assert_eq!(headers["x-remote-user"].as_bytes(), user.name.as_bytes());
        for name in ["an\nna", "an\rna", "an\0na"] {
            user.name = name.to_owned();
            assert!(name_sender(&mut headers, &user).is_err(), "{name:?}");
        }
    }
}
