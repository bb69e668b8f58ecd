//! Fuzz targets: what comes over the wire, at both ends.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use tests_fuzz::Target;

use super::*;
use crate::{
    join::{JoinAnswer, JoinRequest, JoinToken},
    stream::{self, FrameDecoder, StreamKind, StreamRequest},
    token::{self, NodeRequest, TokenGrant, TokenOrder},
    wire::{self, Splitter},
};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("Pod", "default", name)
}

fn node(view: BTreeMap<ObjectKey, u64>) -> NodeSession {
    let config = NodeConfig {
        node: "n".to_owned(),
        epoch: Some(Epoch(7)),
        revision: 3,
        view,
        accept_new_epoch: false,
    };
    NodeSession::new(config, Duration::ZERO)
}

fn hub() -> HubSession {
    let mut hub = HubSession::new(HubConfig { epoch: Epoch(7) }, Duration::ZERO);
    for name in ["a", "b"] {
        let body = Bytes::from_static(br#"{"kind":"Pod","spec":{}}"#);
        hub.upsert(key(name), ViewObject { revision: 4, body });
    }
    hub.advance(5, 1);
    hub
}

/// What each end says in an honest session: to the hub, to the node.
fn honest() -> (Vec<u8>, Vec<u8>) {
    let (mut hub, mut node) = (hub(), node(BTreeMap::from([(key("a"), 1), (key("z"), 2)])));
    let report = ReportBody {
        key: key("a"),
        kind: ReportKind::PodStatus,
        uid: "u".to_owned(),
        body: Bytes::from_static(b"{}"),
    };
    node.offer(1, report);
    let (mut to_hub, mut to_node) = (Vec::new(), Vec::new());
    loop {
        let mut moved = false;
        while let Some(bytes) = node.poll_transmit() {
            hub.handle_bytes(&bytes).unwrap();
            to_hub.extend(bytes);
            moved = true;
        }
        while let Some(event) = hub.poll_event() {
            if let HubEvent::Report { seq, .. } = event {
                hub.done(seq);
            }
            moved = true;
        }
        while let Some(bytes) = hub.poll_transmit() {
            node.handle_bytes(&bytes).unwrap();
            to_node.extend(bytes);
            moved = true;
        }
        while let Some(persist) = node.poll_persist() {
            node.handle_persisted(persist.token);
            moved = true;
        }
        if !moved {
            return (to_hub, to_node);
        }
    }
}

#[test]
fn frames_to_the_hub() {
    let (honest, _) = honest();
    Target::new("frames-to-the-hub", &[&honest]).words(&["Pod/default/a"]).check(|input| {
        let mut hub = hub();
        let good = hub.handle_bytes(input).is_ok();
        while hub.poll_transmit().is_some() || hub.poll_event().is_some() {}
        good
    });
}

#[test]
fn frames_to_the_node() {
    let (_, honest) = honest();
    Target::new("frames-to-the-node", &[&honest]).words(&["Pod/default/a"]).check(|input| {
        let mut node = node(BTreeMap::from([(key("a"), 1)]));
        let good = node.handle_bytes(input).is_ok();
        while let Some(persist) = node.poll_persist() {
            let deletes = persist.changes.iter().any(|it| matches!(it, Change::Delete { .. }));
            assert!(!deletes || good || !persist.complete, "half a snapshot deletes nothing");
            node.handle_persisted(persist.token);
        }
        while node.poll_transmit().is_some() || node.poll_event().is_some() {}
        good
    });
}

#[test]
fn batches() {
    let change = |name: &str, size| Change::Upsert {
        key: key(name),
        revision: 1,
        body: vec![b'x'; size].into(),
    };
    let (plain, _) = wire::encode_changes(vec![change("a", 3), Change::Delete { key: key("b") }]);
    let (packed, compressed) = wire::encode_changes(vec![change("a", 3000), change("b", 1)]);
    assert!(compressed);
    Target::new("batches", &[&plain, &packed]).check(|input| {
        let bytes = Bytes::copy_from_slice(input);
        let plain = wire::decode_changes(bytes.clone(), false);
        if let Ok(changes) = &plain {
            let (again, compressed) = wire::encode_changes(changes.clone());
            assert_eq!(wire::decode_changes(again, compressed).unwrap(), *changes);
        }
        plain.is_ok() | wire::decode_changes(bytes, true).is_ok()
    });
}

#[test]
fn streams() {
    let request = StreamRequest {
        pod_namespace: "default".to_owned(),
        pod_name: "a".to_owned(),
        pod_uid: "u".to_owned(),
        container: String::new(),
        kind: StreamKind::PortForward { port: 80 },
    };
    let connect = StreamRequest { kind: StreamKind::Connect { port: 80 }, ..request.clone() };
    let (request, connect) = (stream::encode_request(&request), stream::encode_request(&connect));
    let mut frames = Vec::new();
    stream::encode_frame(stream::Channel::Stdin, b"text", &mut frames);
    stream::encode_frame(stream::Channel::CloseStdin, b"", &mut frames);
    Target::new("streams", &[&request, &connect, &frames]).check(|input| {
        let mut good = stream::decode_request(input.get(4..).unwrap_or_default()).is_ok();
        good |= input.first_chunk::<4>().is_some_and(|it| stream::request_len(*it).is_ok());
        let mut decoder = FrameDecoder::default();
        for piece in input.chunks(7) {
            decoder.push(piece);
            while let Ok(Some(_)) = decoder.next() {
                good = true;
            }
        }
        let mut splitter = Splitter::default();
        splitter.push(input);
        while let Ok(Some(_)) = splitter.next() {
            good = true;
        }
        good
    });
}

#[test]
fn joins() {
    let seeds: &[&[u8]] = &[
        b"outbye1.abc123.s3cret.abababababababababababababababababababababababababababababababab",
        br#"{"join":{"tokenId":"a","tokenSecret":"b","node":"n","csrPem":"c"}}"#,
        b"Pod/default/a",
        b"00000000000000000000000000000007",
    ];
    Target::new("joins", seeds).words(&["sha256:", "@", ".", "/"]).check(|input| {
        let text = String::from_utf8_lossy(input);
        let _ = serde_json::from_slice::<JoinRequest>(input);
        let _ = serde_json::from_slice::<JoinAnswer>(input);
        let mut good = text.parse::<JoinToken>().is_ok();
        if let Ok(epoch) = text.parse::<Epoch>() {
            assert_eq!(epoch.to_string().parse::<Epoch>(), Ok(epoch));
            good = true;
        }
        if let Ok(key) = text.parse::<ObjectKey>() {
            assert_eq!(key.to_string(), text);
            good = true;
        }
        good
    });
}

#[test]
fn token_requests() {
    let order = TokenOrder {
        namespace: "n".to_owned(),
        pod: "p".to_owned(),
        uid: "u".to_owned(),
        audience: String::new(),
        expiration_seconds: 3607,
    };
    let grants = [
        TokenGrant::Granted { token: "t".to_owned(), life_seconds: 60 },
        TokenGrant::Refused { code: 404, message: "gone".to_owned() },
    ];
    let request = token::encode_request(&NodeRequest::Tokens(vec![order]));
    let answer = token::encode_answer(&grants);
    let words = &["tokens", "granted", "refused", "lifeSeconds", "expirationSeconds", "-1"];
    Target::new("token-requests", &[&request, &answer]).words(words).check(|input| {
        if let Ok(NodeRequest::Tokens(orders)) = token::decode_request(input) {
            assert!(orders.len() <= token::MAX_TOKENS);
            return !orders.is_empty();
        }
        let answered = token::decode_answer(input, 2);
        answered.is_ok_and(|it| it.len() == 2)
    });
}
