//! Fuzz targets: records and backups as they lie on a disk, and the file of keys.

use std::sync::Arc;

use serde_json::json;
use tests_fuzz::Target;

use crate::{Body, Entry, Key, Revision, Sealer, backup, sled::record};

fn sealer() -> Sealer {
    format!("k {}", "1".repeat(64)).parse().unwrap()
}

fn entry(plural: &str) -> Arc<Entry> {
    let body = Body::from_value(
        &json!({"kind": "Secret", "metadata": {"name": "a"}, "data": {"x": "eA=="}}),
    );
    let key = Key::new("core", plural, Some("default"), "a");
    Entry::written(key, Revision::new(7), Revision::new(3), &body)
}

/// Key and value, cut at the first zero byte.
#[test]
fn records() {
    let sealer = sealer();
    let seeds: Vec<Vec<u8>> = [("secrets", Some(&sealer)), ("pods", None)]
        .into_iter()
        .map(|(plural, sealer)| {
            let (key, value) = record::encode(&entry(plural), sealer);
            [&key[..], &[0], &value].concat()
        })
        .collect();
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    Target::new("records", &seeds)
        .words(&["core/pods/default/a", "mepoch", "mrevision"])
        .runs(4000)
        .check(|input| {
            let end = input.iter().position(|it| *it == 0).unwrap_or(input.len());
            let (key, value) = (&input[..end], input.get(end + 1..).unwrap_or_default());
            let _ = record::unseal(Some(&sealer), key, value.to_vec());
            let Some(entry) = record::entry(key, value.to_vec()) else { return false };
            let digits = entry.revision.to_string();
            assert_eq!(&entry.bytes[entry.hole()..entry.hole() + digits.len()], digits.as_bytes());
            assert_eq!(entry.stamped(entry.revision), entry.bytes);
            entry.value();
            true
        });
}

#[test]
fn keys() {
    let good = format!("# a line\nk {}\n\nl {}\n", "1".repeat(64), "ab".repeat(32));
    Target::new("keys", &[good.as_bytes()]).words(&["k ", "#", "\n", "0", "f"]).check(|input| {
        let text = String::from_utf8_lossy(input);
        let _ = Key::parse(&text)
            .map(|it| (it.group().len(), it.name().len(), it.namespace().is_some()));
        let _ = Sealer::parse(&format!("k {}", "1".repeat(64)), &[text.clone().into_owned()]);
        text.parse::<Sealer>().is_ok()
    });
}

#[test]
fn backups() {
    let mut made = crate::Backup::new(
        vec![entry("pods")],
        Revision::new(9),
        None,
        &[("f".to_owned(), b"x".to_vec())],
    );
    let good: Vec<u8> = std::iter::from_fn(|| made.next_piece()).flatten().collect();
    Target::new("backups", &[&good]).check(|input| {
        let whole = backup::verify(&mut &*input).is_ok();
        #[cfg(feature = "etcd")]
        assert_eq!(backup::load(&mut &*input, None).is_ok(), whole);
        whole
    });
}
