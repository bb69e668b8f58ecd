//! Writes to the hub's store and the node's ledger until the power goes, and says what was
//! acknowledged; or checks, after the next boot, that all of it is there.
//!
//! `power-cut write DIR` prints `ACK <who> <n>`: everything up to n of that writer is durable.
//! `power-cut check DIR` prints `HAVE <who> <n>`, or `BAD` with what is wrong.
//!
//! Every writer puts its number into a few keys in turn, so that pages are overwritten and the
//! database has to clean up behind itself.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use agent_ledger::{Change, Ledger, Table, Vital};
use anyhow::{Context, bail, ensure};
use hub_storage::{Body, Key, Options, SledStorage, Storage, Txn, Write as StoreWrite};
use serde_json::{Value, json};

const N_WRITERS: u64 = 4;
const N_KEYS: u64 = 50;
/// Acknowledgements are printed so often: the console of an emulated machine is slow.
const ACK_EVERY: u64 = 5;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, mode, dir] = args.as_slice() else { bail!("usage: power-cut write|check DIR") };
    let dir = PathBuf::from(dir);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match mode.as_str() {
        "write" => runtime.block_on(write(&dir)),
        "check" => check(&dir),
        _ => bail!("usage: power-cut write|check DIR"),
    }
}

#[expect(clippy::print_stdout, reason = "the test reads it")]
fn say(line: &str) {
    println!("{line}");
    // The console is all that survives this machine.
    let _broken_pipe = std::io::stdout().flush();
}

fn open(dir: &Path) -> anyhow::Result<(Arc<SledStorage>, Ledger)> {
    let (storage, report) = SledStorage::open(&dir.join("store"), Options::DEFAULT)?;
    ensure!(report.n_unreadable == 0, "BAD store: {} unreadable", report.n_unreadable);
    let (ledger, report) = Ledger::open(&dir.join("ledger"))?;
    ensure!(!report.lost_data(), "BAD ledger: {report:?}");
    Ok((storage, ledger))
}

async fn write(dir: &Path) -> anyhow::Result<()> {
    let (storage, ledger) = open(dir)?;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..N_WRITERS {
        let start = stored(&*storage, writer)?;
        writers.spawn(write_store(storage.clone(), writer, start));
    }
    let start = kept(&ledger)?;
    writers.spawn(write_ledger(ledger.clone(), start));
    let start = ledger.vital().accepted_revision;
    writers.spawn(write_vital(ledger, start));
    while let Some(result) = writers.join_next().await {
        result??;
    }
    Ok(())
}

async fn write_store(storage: Arc<SledStorage>, writer: u64, start: u64) -> anyhow::Result<()> {
    for n in start + 1.. {
        let key = store_key(writer, n);
        let mut txn = Txn::default()
            .and(StoreWrite::Put(key, Body::from_value(&object(n))))
            // Two keys in one transaction must agree.
            .and(StoreWrite::Put(last_key(writer), Body::from_value(&object(n))));
        if n.is_multiple_of(7) && n > N_KEYS {
            // A deletion in between; the key comes back within the round.
            txn = txn.and(StoreWrite::Delete(store_key(writer, n + 1)));
        }
        storage.txn(txn).await?;
        if n.is_multiple_of(ACK_EVERY) {
            say(&format!("ACK store{writer} {n}"));
        }
    }
    Ok(())
}

async fn write_ledger(ledger: Ledger, start: u64) -> anyhow::Result<()> {
    for n in start + 1.. {
        let value = serde_json::to_vec(&object(n))?;
        let put = |key: String| Change::Put { table: Table::Desired, key, value: value.clone() };
        ledger.commit(vec![put(format!("k{}", n % N_KEYS)), put("last".to_owned())]).await?;
        if n.is_multiple_of(ACK_EVERY) {
            say(&format!("ACK ledger {n}"));
        }
    }
    Ok(())
}

async fn write_vital(ledger: Ledger, start: u64) -> anyhow::Result<()> {
    for n in start + 1.. {
        let vital = Vital {
            accepted_revision: n,
            node_name: "n".to_owned(),
            key_pem: "k".repeat(usize::try_from(n % 3000)?),
            ..Vital::default()
        };
        ledger.set_vital(vital).await?;
        if n.is_multiple_of(ACK_EVERY) {
            say(&format!("ACK vital {n}"));
        }
    }
    Ok(())
}

fn check(dir: &Path) -> anyhow::Result<()> {
    let (storage, ledger) = open(dir)?;
    for writer in 0..N_WRITERS {
        say(&format!("HAVE store{writer} {}", stored(&*storage, writer)?));
    }
    say(&format!("HAVE ledger {}", kept(&ledger)?));
    let vital = ledger.vital();
    let expected = usize::try_from(vital.accepted_revision % 3000)?;
    ensure!(vital.key_pem.len() == expected, "BAD vital: its parts do not fit together");
    say(&format!("HAVE vital {}", vital.accepted_revision));
    say("CHECKED");
    Ok(())
}

/// The last number of a writer, after checking that everything before it is there and whole.
fn stored(storage: &dyn Storage, writer: u64) -> anyhow::Result<u64> {
    let Some(last) = storage.get(&last_key(writer)) else { return Ok(0) };
    let last = number(&last.value())?;
    // The key before these may be deleted: its turn comes next.
    for n in last.saturating_sub(N_KEYS - 2).max(1)..=last {
        let entry = storage.get(&store_key(writer, n));
        let entry =
            entry.with_context(|| format!("BAD store{writer}: {n} of {last} is missing"))?;
        let found = number(&entry.value())?;
        ensure!(found == n, "BAD store{writer}: {found} stands in the place of {n}, last {last}");
    }
    Ok(last)
}

fn kept(ledger: &Ledger) -> anyhow::Result<u64> {
    let read = |key: &str| -> anyhow::Result<Option<u64>> {
        let Some(bytes) = ledger.read(Table::Desired, key) else { return Ok(None) };
        number(&serde_json::from_slice(&bytes)?).map(Some)
    };
    let Some(last) = read("last")? else { return Ok(0) };
    for n in last.saturating_sub(N_KEYS - 1).max(1)..=last {
        let found = read(&format!("k{}", n % N_KEYS))?;
        ensure!(found == Some(n), "BAD ledger: {found:?} stands in the place of {n}, last {last}");
    }
    Ok(last)
}

fn object(n: u64) -> Value {
    // Sizes as of real pods, with some large ones.
    let size = if n.is_multiple_of(97) { 200_000 } else { 300 + n * 37 % 5000 };
    let fill = "x".repeat(usize::try_from(size).unwrap_or(0));
    json!({"metadata": {"name": format!("n{n}")}, "n": n, "fill": fill, "size": size})
}

fn number(object: &Value) -> anyhow::Result<u64> {
    let n = object["n"].as_u64().context("BAD object without number")?;
    let size = object["fill"].as_str().map(str::len);
    ensure!(
        size == object["size"].as_u64().and_then(|it| usize::try_from(it).ok()),
        "BAD object {n}: it is torn"
    );
    Ok(n)
}

fn store_key(writer: u64, n: u64) -> Key {
    Key::new("core", "configmaps", Some(&format!("w{writer}")), &format!("k{}", n % N_KEYS))
}

fn last_key(writer: u64) -> Key {
    Key::new("core", "configmaps", Some(&format!("w{writer}")), "last")
}
