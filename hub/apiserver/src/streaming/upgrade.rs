//! Upgrades of HTTP/1.1 connections to WebSocket or SPDY.

use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hub_api::Status;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::response::{Answer, Body};

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What the client wants the connection to become, with the protocol that was agreed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Upgrade {
    WebSocket { protocol: &'static str },
    Spdy { protocol: &'static str },
}

/// Finds out what the client wants. Lists are in the order of our preference.
pub(crate) fn negotiate(
    headers: &HeaderMap,
    websocket: &'static [&'static str],
    spdy: &'static [&'static str],
) -> Result<Upgrade, Status> {
    let listed = |name: HeaderName| -> Vec<String> {
        let values = headers.get_all(name);
        let texts = values.iter().filter_map(|it| it.to_str().ok()).flat_map(|it| it.split(','));
        texts.map(|it| it.trim().to_owned()).collect()
    };
    let upgrading = listed(CONNECTION).iter().any(|it| it.eq_ignore_ascii_case("upgrade"));
    let target = listed(UPGRADE).pop().unwrap_or_default().to_ascii_lowercase();
    let pick = |known: &'static [&'static str], offered: &[String]| {
        known.iter().copied().find(|it| offered.iter().any(|offer| offer == it))
    };
    let refuse = |offered: &[String], known: &[&str]| {
        Status::bad_request(format!(
            "unable to negotiate protocol: client supports {offered:?}, server accepts {known:?}"
        ))
    };
    match target.as_str() {
        "websocket" if upgrading => {
            let offered = listed(SEC_WEBSOCKET_PROTOCOL);
            let protocol = pick(websocket, &offered).ok_or_else(|| refuse(&offered, websocket))?;
            Ok(Upgrade::WebSocket { protocol })
        }
        "spdy/3.1" if upgrading => {
            let offered = listed(STREAM_PROTOCOL);
            let protocol = pick(spdy, &offered).ok_or_else(|| refuse(&offered, spdy))?;
            Ok(Upgrade::Spdy { protocol })
        }
        _ => Err(Status::bad_request("Upgrade request required")),
    }
}

/// The answer after which the connection speaks the other protocol.
pub(crate) fn switching(upgrade: Upgrade, headers: &HeaderMap) -> Result<Answer, Status> {
    let mut answer = Response::new(Body::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = answer.headers_mut();
    out.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    match upgrade {
        Upgrade::WebSocket { protocol } => {
            let key = headers
                .get(SEC_WEBSOCKET_KEY)
                .ok_or_else(|| Status::bad_request("the header Sec-WebSocket-Key is missing"))?;
            let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
                .map_err(|_| Status::internal("could not accept the WebSocket"))?;
            out.insert(UPGRADE, HeaderValue::from_static("websocket"));
            out.insert(SEC_WEBSOCKET_ACCEPT, accept);
            out.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        }
        Upgrade::Spdy { protocol } => {
            out.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            out.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_the_best_that_both_know() {
        const WS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];
        const SPDY: &[&str] = &["v4.channel.k8s.io"];
        let check = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            negotiate(&headers, WS, SPDY).ok()
        };
        let upgrade = ("connection", "keep-alive, Upgrade");
        assert_eq!(
            check(&[
                upgrade,
                ("upgrade", "websocket"),
                ("sec-websocket-protocol", "v4.channel.k8s.io, v5.channel.k8s.io")
            ]),
            Some(Upgrade::WebSocket { protocol: "v5.channel.k8s.io" })
        );
        assert_eq!(
            check(&[
                upgrade,
                ("upgrade", "SPDY/3.1"),
                ("x-stream-protocol-version", "v5.channel.k8s.io"),
                ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ]),
            Some(Upgrade::Spdy { protocol: "v4.channel.k8s.io" })
        );
        assert_eq!(check(&[upgrade, ("upgrade", "SPDY/3.1")]), None);
        assert_eq!(check(&[("upgrade", "websocket")]), None);
    }
}
