//! Fuzz targets: what containers answer to probes, what lies in log files and in the ledger, and what asks at the local
//! socket.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
};

use agent_core::record;
use agent_ledger::{Change, Ledger, Table};
use jiff::Timestamp;
use serde_json::json;
use tests_fuzz::Target;

use crate::{
    desired::DesiredStore,
    grpc, http,
    local_api::{self, LocalRequest},
    logs::{LogQuery, LogReader},
    outbox::Outbox,
    records,
};

#[test]
fn answers() {
    let seeds: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 302 Found\r\nlocation: https://[::1]:99/x?y\r\n\r\n",
        b"HTTP/1.1 301 x\nLocation: //host/a\n\n",
        b"\0\0\0\0\x02\x08\x01",
    ];
    let words = &[
        "HTTP/1.",
        " 302 ",
        "Location: ",
        "http://",
        "https://",
        "//",
        "[::1]",
        ":99999",
        "\r\n",
        "\r\n\r\n",
        "/",
        "?",
    ];
    Target::new("answers", seeds).words(words).runs(5000).check(|input| {
        let _ = grpc::serving_status(input);
        http::fuzz(input)
    });
}

/// Whatever is in a log file, reading it ends, and gives no more than there is.
#[test]
fn container_logs() {
    let seeds: &[&[u8]] = &[
        b"2026-11-20T08:00:00.1Z stdout F one\n2026-11-20T08:00:01Z stderr P tw\n2026-11-20T08:00:01Z stderr F o\n",
        b"\n\n2026-11-20T08:00:02Z stdout F \n2026-11-20T08:00:03Z stdout F no end",
    ];
    let words = &["\n", " stdout F ", " stderr P ", "2026-11-20T08:00:01Z", "9999-99-99"];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let file = File::create(&path).unwrap();
    let since: Timestamp = "2026-11-20T08:00:01Z".parse().unwrap();
    Target::new("container-logs", seeds).words(words).runs(1000).check(|input| {
        let mut file = &file;
        file.set_len(0).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(input).unwrap();
        let read = |query: LogQuery| {
            let mut reader = LogReader::open(&path, query).unwrap();
            let mut out = Vec::new();
            while reader.read(100, &mut out).unwrap() {}
            out
        };
        let all = read(LogQuery::default());
        assert!(all.len() <= input.len(), "nothing is invented");
        for tail in [0, 1, 3, usize::MAX] {
            let last = read(LogQuery { tail: Some(tail), ..LogQuery::default() });
            assert!(all.ends_with(&last), "the last lines are the last of all");
        }
        read(LogQuery { since: Some(since), timestamps: true, ..LogQuery::default() });
        !all.is_empty()
    });
}

#[test]
fn local_messages() {
    let message = |text: &str| {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&length[..], text.as_bytes()].concat()
    };
    let stream = r#"{"call":"stream","request":{"podNamespace":"n","podName":"p","podUid":"","container":"c","kind":{"exec":{"command":["sh"],"stdin":true,"stdout":true,"stderr":true,"tty":false}}}}"#;
    let seeds = [
        message(r#"{"call":"status"}"#),
        message(stream),
        message(r#"{"call":"putDesired","objects":[{"kind":"Pod"}]}"#),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let words = &["call", "stream", "putDesired", "kind", "portForward"];
    Target::new("local-messages", &[&seeds[0], &seeds[1], &seeds[2]]).words(words).check(|input| {
        let mut stream = input;
        let Ok(message) = runtime.block_on(local_api::read_message(&mut stream)) else {
            return false;
        };
        assert!(input[4..].starts_with(&message), "only what came is read");
        serde_json::from_slice::<LocalRequest>(&message).is_ok()
    });
}

const UID: &str = "5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e";

/// The input is a record of any table, key and value with a zero byte between them: a node starts with it all the same.
#[test]
fn ledger_values() {
    let object = [&[1, 0, 0, 0, 0, 0, 0, 0, 7], br#"{"metadata":{"uid":"x"}}"#.as_slice()].concat();
    let token = json!({"version": 1, "uid": UID, "name": {"audience": "", "seconds": 3600},
        "token": "t", "since": "2026-11-20T08:00:00Z", "lifeSeconds": 3600});
    let report =
        json!({"version": 1, "kind": 1, "key": "Pod/n/p", "uid": UID, "body": {}, "order": 5});
    let pod = json!({"v": 1, "r": {"uid": UID, "pod": {"namespace": "n", "name": "p"},
        "grace_seconds": 30, "started_at": "2026-11-20T08:00:00Z", "lifecycle": "Syncing",
        "sandbox": {"attempt": 0, "made_at": null, "address": "10.42.0.2"}}});
    let seed = |key: &str, value: &[u8]| [key.as_bytes(), &[0], value].concat();
    let seeds = [
        seed("Pod/n/p", &object),
        seed(&format!("{UID}/3600/"), token.to_string().as_bytes()),
        seed("pod/x", report.to_string().as_bytes()),
        seed(UID, pod.to_string().as_bytes()),
        seed(UID, b"10.42.0.2"),
        seed(&format!("{UID}/c"), &record::encode(&1)),
    ];
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let words = &[UID, "18446744073709551615", "/", "order", "version", "Terminated", "9999"];
    // No power is cut: no need to bother the disk.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let ledger = Ledger::open(dir.path()).unwrap().0;
    let now: Timestamp = "2026-11-20T08:00:00Z".parse().unwrap();
    Target::new("ledger-values", &seeds).words(words).runs(500).check(|input| {
        let end = input.iter().position(|it| *it == 0).unwrap_or(input.len());
        let key = String::from_utf8_lossy(&input[..end]).into_owned();
        let value = input.get(end + 1..).unwrap_or_default();
        let tables = [
            Table::Desired,
            Table::Sandbox,
            Table::Container,
            Table::Ipam,
            Table::Outbox,
            Table::Token,
        ];
        let put = |table| Change::Put { table, key: key.clone(), value: value.to_vec() };
        ledger.commit_blocking(tables.map(put).into()).unwrap();

        let view = DesiredStore::load(ledger.clone()).snapshot();
        assert!(!view.complete, "nobody said that it has no holes");
        let n_due = view.tokens.of(&UID.parse().unwrap()).filter(|it| it.is_due(now)).count();
        let objects = view.objects.values();
        let n_objects =
            objects.filter(|it| it.body.pod_uid().is_some() | it.body.value().is_object());
        let outbox = Outbox::load(ledger.clone());
        outbox.node_status(&json!({"metadata": {"name": "n"}}));
        let n_reports = outbox.after(0, 10).len();
        assert_eq!(n_reports, outbox.len(), "what is told next comes after what waits");
        let pods = records::load(&ledger);
        let good = n_due + n_objects.count() + pods.len() > 0 || n_reports > 1;

        let delete = |table| Change::Delete { table, key: key.clone() };
        ledger.commit_blocking(tables.map(delete).into()).unwrap();
        good
    });
}
