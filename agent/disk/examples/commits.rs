//! Measures group commits, to the database at once and to a log first, in turns: `commits DIR`.
//!
//! A commit has 19 values of 2 KiB, as the hub's have when 64 clients create objects. Prints commits in a second, and
//! the median and the 99th percentile of a commit. Compare the two on one machine in one run; a number alone means
//! nothing.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "this program measures time and prints it"
)]

use std::{error::Error, path::Path, time::Instant};

use agent_disk::{Batch, Disk, Options};

const ROUNDS: u32 = 5;
/// Not measured: a young file still grows.
const WARM_UP: u32 = 300;
const COMMITS: u32 = 300;
const VALUES: u32 = 19;
const VALUE_BYTES: usize = 2048;

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args().nth(1).ok_or("usage: commits DIR")?;
    for round in 0..ROUNDS {
        for (name, log_bytes) in [("database", 0), ("log", 4 << 20)] {
            let dir = Path::new(&root).join(format!("{name}-{round}"));
            let options = Options { segment_bytes: 8 << 20, cache_bytes: 16 << 20, log_bytes };
            let (mut disk, _) = Disk::open(&dir, options)?;
            let (mut begin, mut times) = (Instant::now(), Vec::new());
            for commit in 0..WARM_UP + COMMITS {
                if commit == WARM_UP {
                    (begin, times) = (Instant::now(), Vec::new());
                }
                let mut batch = Batch::default();
                for value in 0..VALUES {
                    let key = format!("ocore/pods/default/pod-{commit}-{value}").into_bytes();
                    batch.put(key, vec![value.to_le_bytes()[0]; VALUE_BYTES]);
                }
                let sent = Instant::now();
                disk.commit(batch)?;
                times.push(sent.elapsed());
            }
            let took = begin.elapsed().as_secs_f64();
            times.sort_unstable();
            let at = |percent: usize| {
                times.get(times.len() * percent / 100).map_or(0.0, |it| it.as_secs_f64() * 1000.0)
            };
            println!(
                "{name:9} {:7.0} commits/s  p50 {:6.2} ms  p99 {:6.2} ms",
                f64::from(COMMITS) / took,
                at(50),
                at(99)
            );
            drop(disk);
            std::fs::remove_dir_all(&dir)?;
        }
    }
    Ok(())
}
