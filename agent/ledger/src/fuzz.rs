//! Fuzz targets: what a node finds on its disk, after whatever happened to it.

use std::{collections::BTreeSet, os::unix::fs::FileExt};

use tests_fuzz::Target;

use super::*;

/// Key and value, cut at the first zero byte.
#[test]
fn ledger_records() {
    let seed = |table, key| {
        [&table::disk_key(table, key)[..], &[0], &table::disk_value(b"{\"v\":1}")].concat()
    };
    let seeds = [seed(Table::Desired, "Pod/default/a"), seed(Table::Meta, "hub-address")];
    Target::new("ledger-records", &[&seeds[0], &seeds[1]]).words(&["\u{0}", "Pod/"]).check(
        |input| {
            let end = input.iter().position(|it| *it == 0).unwrap_or(input.len());
            let (key, value) = (&input[..end], input.get(end + 1..).unwrap_or_default());
            let Some(((table, name), body)) = table::decode(key, value) else { return false };
            assert_eq!(table::disk_key(table, &name), key, "it is another record");
            assert_eq!(table::disk_value(body), value, "it is another value");
            true
        },
    );
}

#[test]
fn vital_records() {
    let seed = vital(1).encode();
    let words = &["version", "hub_epoch", "accepted_revision", "time_floor", "key_pem"];
    Target::new("vital-records", &[&seed, b"{}"]).words(words).check(|input| {
        let Some(vital) = Vital::decode(input) else { return false };
        assert_eq!(Vital::decode(&vital.encode()), Some(vital), "it is written as it was read");
        true
    });
}

/// So often was the ledger opened and written before it was damaged.
const ROUNDS: u8 = 3;
/// Bytes of one damage: which file, where (three bytes), and which bits are turned over.
const DAMAGE: usize = 5;
/// Offsets of damages are spread over so much of a file at first, where most of what is in use lies.
const BEGIN: u64 = 64 << 10;

type Row = (Table, String, Vec<u8>);

/// The input is a list of damages. What is read then was written once; and if it is not all and the newest, it is told.
#[test]
fn damaged_ledgers() {
    let origin = in_memory();
    let written = fill(origin.path());
    let newest = rows(&Ledger::open(origin.path()).unwrap().0);
    let files: Vec<PathBuf> = files_of(origin.path());
    let seeds: [&[u8]; 3] =
        [b"\0\0\x01\0\x10", b"\x01\0\0\x20\x01\x02\0\x10\0\xff", b"\x03\0\0\0\x01"];
    Target::new("damaged-ledgers", &seeds).runs(40).longest(8 * DAMAGE).check(|input| {
        let copy = in_memory();
        copy_dir(origin.path(), copy.path());
        damage(copy.path(), &files, input);
        let (ledger, report) = Ledger::open(copy.path()).unwrap();
        let found = rows(&ledger);
        assert!(found.is_subset(&written), "what was never written is read: {report:?}");
        assert!(found == newest || report.lost_data(), "a loss is not told: {report:?}");
        let mut known = (0..ROUNDS).map(vital).chain([Vital::default()]);
        assert!(known.any(|it| it == ledger.vital()), "{report:?}");
        assert!(ledger.vital() != Vital::default() || report.lost_data(), "{report:?}");
        // Whatever was found: the node goes on, and the next boot too.
        let more = Change::Put { table: Table::Outbox, key: "after".into(), value: vec![9] };
        let committed = ledger.commit_blocking(vec![more]);
        drop(ledger);
        let (ledger, report) = Ledger::open(copy.path()).unwrap();
        let after = ledger.read(Table::Outbox, "after");
        assert!(committed.is_err() || after == Some(vec![9]) || report.lost_data(), "{report:?}");
        found == newest
    });
}

fn vital(round: u8) -> Vital {
    Vital {
        version: 1,
        node_name: "n".into(),
        accepted_revision: u64::from(round),
        key_pem: "k".repeat(300),
        ..Vital::default()
    }
}

/// Hundreds of ledgers, and no power cut: no need to bother the disk.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Writes in several lives of a node, some records over and over; returns all that was ever written.
fn fill(dir: &Path) -> BTreeSet<Row> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut written = BTreeSet::new();
    for round in 0..ROUNDS {
        let (ledger, _) = Ledger::open(dir).unwrap();
        for n in 0..20 {
            let rows: [Row; 2] = [
                (Table::Desired, format!("over-{n}"), vec![round; 400]),
                (Table::Container, format!("{round}-{n}"), vec![n; 300]),
            ];
            let put = |(table, key, value): Row| Change::Put { table, key, value };
            ledger.commit_blocking(rows.iter().cloned().map(put).collect()).unwrap();
            written.extend(rows);
        }
        runtime.block_on(ledger.set_vital(vital(round))).unwrap();
    }
    written
}

fn rows(ledger: &Ledger) -> BTreeSet<Row> {
    let tables = [Table::Desired, Table::Container, Table::Outbox];
    let rows = |table| ledger.scan(table).into_iter().map(move |(key, value)| (table, key, value));
    tables.into_iter().flat_map(rows).collect()
}

/// What is damaged: all but what tells of damage, for one disk loses one thing at a time.
fn files_of(dir: &Path) -> Vec<PathBuf> {
    let store = Path::new("records/store");
    let names = fs::read_dir(dir.join(store)).unwrap().map(|it| it.unwrap());
    let names = names.filter(|it| it.file_type().unwrap().is_file()).map(|it| it.file_name());
    let mut files: Vec<PathBuf> = names.map(|it| store.join(it)).collect();
    files.sort();
    files.push("vital".into());
    files
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else if entry.file_name() != "reserve" {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn damage(dir: &Path, files: &[PathBuf], input: &[u8]) {
    for damage in input.chunks_exact(DAMAGE) {
        let [which, a, b, c, bits] = [0, 1, 2, 3, 4].map(|at| damage[at]);
        let path = dir.join(&files[usize::from(which) % files.len()]);
        let file = fs::File::options().read(true).write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len().max(1);
        let within = if which < 0x80 { len.min(BEGIN) } else { len };
        let at = u64::from(u32::from_be_bytes([0, a, b, c])) % within;
        let mut byte = [0];
        if file.read_at(&mut byte, at).unwrap() == 1 {
            file.write_all_at(&[byte[0] ^ bits], at).unwrap();
        }
    }
}
