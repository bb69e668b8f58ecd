//! Measures durable writes: how many creates in a second, and how long one takes.
//!
//! `load hub <kubeconfig> <clients> <seconds>`: config maps of 2 KiB, over HTTPS with the kubeconfig's client certificate,
//! one keep-alive connection for each client.
//! `load etcd <host:port> <clients> <seconds>`: values of 2 KiB into etcd, over gRPC without TLS, one connection for each
//! client.
//!
//! Prints one line of JSON. Every client sends its next request when the last one is answered. Compare on the same
//! machine, in turns; a number alone means nothing.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "this program measures time and prints it"
)]

mod target;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::JoinSet;

use crate::target::{Failure, Target};

const USAGE: &str = "usage: load hub <kubeconfig> <clients> <seconds>\n       load etcd <host:port> <clients> <seconds>";

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match measure(&args).await {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(err) => {
            println!("{err}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(args: &[String]) -> Result<String, Failure> {
    let [kind, place, clients, seconds] = args else { return Err(USAGE.into()) };
    let clients: usize = clients.parse()?;
    let length = Duration::from_secs(seconds.parse()?);
    let target = match kind.as_str() {
        "hub" => Target::hub(&std::fs::read_to_string(place)?)?,
        "etcd" => Target::etcd(place),
        _ => return Err(USAGE.into()),
    };
    // Connected before the clock starts: a handshake is not a write.
    let mut connections = Vec::with_capacity(clients);
    for _ in 0..clients {
        connections.push(target.connect().await?);
    }
    let begin = Instant::now();
    let mut tasks: JoinSet<Result<Vec<Duration>, Failure>> = JoinSet::new();
    for (client, mut connection) in connections.into_iter().enumerate() {
        tasks.spawn(async move {
            let mut times = Vec::new();
            while begin.elapsed() < length {
                let sent = Instant::now();
                let name = format!("load-{}-{client}-{}", std::process::id(), times.len());
                connection.write(&name).await?;
                times.push(sent.elapsed());
            }
            Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        times.extend(ended??);
    }
    let took = begin.elapsed();
    times.sort_unstable();
    let percentile = |percent: usize| {
        times.get(times.len() * percent / 100).map_or(0.0, |it| it.as_secs_f64() * 1000.0)
    };
    let count = u32::try_from(times.len())?;
    Ok(json!({
        "writes": count,
        "per_second": f64::from(count) / took.as_secs_f64(),
        "p50_ms": percentile(50),
        "p99_ms": percentile(99),
    })
    .to_string())
}
