//! Puts load on an API server, or on etcd, and says how it went in one line of JSON.
//!
//! ```text
//! load <hub|etcd> <kubeconfig|host:port> writes <clients> <seconds>      durable creates, then updates of their status
//! load <hub|etcd> <kubeconfig|host:port> fill <clients> <objects>        so many objects, as fast as they are taken
//! load <hub|etcd> <kubeconfig|host:port> list <rounds>                   all that was filled in
//! load <hub|etcd> <kubeconfig|host:port> fanout <watches> <rate> <seconds> [Object|Table|PartialObjectMetadata]
//! load <hub|etcd> <kubeconfig|host:port> idle <watches> <per connection> says `ready`, then waits for the end of its input
//! load hub <kubeconfig> documents <rounds>                               discovery and OpenAPI
//! load certificates <directory> <host:port>                              an authority, and a kubeconfig of an administrator
//! ```
//! `hub` is any API server of Kubernetes. Objects are pods of 2 KiB, or values of that size in etcd. All speak HTTP/2, as
//! client-go does; the API with TLS and a client certificate, etcd's gRPC without. Compare on the same machine, in turns; a
//! number alone means nothing.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "this program measures time and prints it"
)]

mod certificates;
mod connection;
mod grpc;
mod objects;
mod reads;
mod watches;
mod writes;

use std::{path::Path, process::ExitCode, str::FromStr, time::Duration};

use serde_json::Value;

use crate::connection::{Failure, Target};

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match measure(&args).await {
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(err) => {
            println!("{err}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(args: &[&str]) -> Result<Value, Failure> {
    let [kind, place, what, numbers @ ..] = args else { return Err("see the file's head".into()) };
    if *kind == "certificates" {
        return certificates::write(Path::new(place), what);
    }
    let target = Target::new(kind, place)?;
    match (*what, numbers) {
        ("writes", [clients, seconds]) => {
            writes::writes(&target, number(clients)?, Duration::from_secs(number(seconds)?)).await
        }
        ("fill", [clients, objects]) => {
            writes::fill(&target, number(clients)?, number(objects)?).await
        }
        ("list", [rounds]) => reads::list(&target, number(rounds)?).await,
        ("documents", [rounds]) => reads::documents(&target, number(rounds)?).await,
        ("fanout", [watches, rate, seconds, form @ ..]) => {
            let form = form.first().copied().unwrap_or("Object");
            let seconds = Duration::from_secs(number(seconds)?);
            watches::fanout(&target, number(watches)?, number(rate)?, seconds, form).await
        }
        ("idle", [watches, each]) => watches::idle(&target, number(watches)?, number(each)?).await,
        _ => Err("see the file's head".into()),
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, Failure>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    Ok(text.parse()?)
}

/// The time that `percent` of a hundred are not above, in milliseconds. Sorts.
fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(place).map_or(0.0, |it| it.as_secs_f64() * 1000.0)
}

/// How many in a second.
fn rate(count: usize, took: Duration) -> Result<f64, Failure> {
    Ok(f64::from(u32::try_from(count)?) / took.as_secs_f64())
}
