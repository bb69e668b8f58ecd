//! Watches: how many events they deliver, and how much it costs to have them.

use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    connection::{Connection, Failure, Target},
    grpc, objects, rate,
};

/// Streams of one connection: what API servers allow.
const STREAMS: usize = 100;
/// Clients that write while others watch.
const WRITERS: usize = 16;
/// Pods whose status they update.
const PODS: usize = 64;
/// After the last write, the last events come within this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Watches the pods with so many watches while so many updates are written in a second.
pub(crate) async fn fanout(
    target: &Target,
    watches: usize,
    wanted: u32,
    length: Duration,
    form: &str,
) -> Result<Value, Failure> {
    let mut writer = target.connect().await?;
    let run = std::process::id();
    let name = move |number: usize| format!("watched-{run}-{}", number % PODS);
    for number in 0..PODS {
        objects::create(target, &mut writer, &name(number)).await?;
    }
    let delivered = Arc::new(AtomicUsize::new(0));
    let bytes = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    let mut connection = target.connect().await?;
    for number in 0..watches {
        if number % STREAMS == STREAMS - 1 {
            connection = target.connect().await?;
        }
        let (delivered, bytes) = (delivered.clone(), bytes.clone());
        let mut stream = open(target, &mut connection, form).await?;
        readers.spawn(async move { stream.read(&delivered, &bytes).await });
    }
    // What there was at the start is not what is measured.
    settle(&delivered).await;
    let (before, before_bytes) = (delivered.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
    let begin = Instant::now();
    let written = write(target, wanted, length, name).await?;
    let wrote = begin.elapsed();
    let all = written * watches;
    while delivered.load(Ordering::Relaxed) - before < all && begin.elapsed() < length + PATIENCE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = begin.elapsed();
    let count = delivered.load(Ordering::Relaxed) - before;
    let bytes = bytes.load(Ordering::Relaxed) - before_bytes;
    if let Some(ended) = readers.try_join_next() {
        ended??;
        return Err("a watch ended".into());
    }
    Ok(json!({
        "writes_per_second": rate(written, wrote)?,
        "deliveries_per_second": rate(count, took)?,
        "missing": all.saturating_sub(count),
        "bytes_each": bytes / count.max(1),
        "lag_ms": (took - wrote).as_secs_f64() * 1000.0,
    }))
}

async fn settle(delivered: &AtomicUsize) {
    let mut last = usize::MAX;
    while delivered.load(Ordering::Relaxed) != last {
        last = delivered.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Writes at a steady rate, or as fast as it goes if that is less. Returns how often.
async fn write(
    target: &Target,
    wanted: u32,
    length: Duration,
    name: impl Fn(usize) -> String + Copy + Send + 'static,
) -> Result<usize, Failure> {
    let next = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (target, next, mut connection) =
            (target.clone(), next.clone(), target.connect().await?);
        writers.spawn(async move {
            let mut written = 0;
            while begin.elapsed() < length {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let due =
                    Duration::from_secs_f64(f64::from(u32::try_from(number)?) / f64::from(wanted));
                tokio::time::sleep(due.saturating_sub(begin.elapsed())).await;
                objects::update_status(&target, &mut connection, &name(number), number).await?;
                written += 1;
            }
            Ok::<usize, Failure>(written)
        });
    }
    let mut written = 0;
    while let Some(ended) = writers.join_next().await {
        written += ended??;
    }
    Ok(written)
}

/// Opens watches and holds them until the input ends.
pub(crate) async fn idle(target: &Target, watches: usize, each: usize) -> Result<Value, Failure> {
    let mut readers = JoinSet::new();
    let delivered = Arc::new(AtomicUsize::new(0));
    let mut connection = target.connect().await?;
    for number in 0..watches {
        if number % each.max(1) == 0 {
            connection = target.connect().await?;
        }
        let delivered = delivered.clone();
        let mut stream = open(target, &mut connection, "Object").await?;
        readers.spawn(async move { stream.read(&delivered, &AtomicUsize::new(0)).await });
    }
    settle(&delivered).await;
    println!("ready");
    let waited = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    waited.await??;
    if readers.try_join_next().is_some() {
        return Err("a watch ended".into());
    }
    Ok(json!({"watches": watches}))
}

struct Stream {
    body: hyper::body::Incoming,
    /// Set for etcd; elsewhere an event is a line.
    events: Option<grpc::Events>,
}

/// Opens a watch of what happens from now on.
async fn open(target: &Target, connection: &mut Connection, form: &str) -> Result<Stream, Failure> {
    if target.is_etcd() {
        let request = grpc::request(connection, "Watch/Watch");
        let answer = connection.send(request, grpc::watch(objects::PREFIX)?).await?;
        return Ok(Stream { body: answer.into_body(), events: Some(grpc::Events::default()) });
    }
    let accept = match form {
        "Object" => "application/json".to_owned(),
        form => format!("application/json;as={form};v=v1;g=meta.k8s.io"),
    };
    let list = Request::get(connection.url(&format!("{}?limit=1", objects::PODS)));
    let list: Value = serde_json::from_slice(&connection.call(list, Bytes::new()).await?)?;
    let revision = list["metadata"]["resourceVersion"].as_str().ok_or("no resourceVersion")?;
    let query = format!(
        "watch=true&allowWatchBookmarks=true&timeoutSeconds=3600&resourceVersion={revision}"
    );
    let path = connection.url(&format!("{}?{query}", objects::PODS));
    let request = Request::get(path).header("accept", accept);
    let answer = connection.send(request, Bytes::new()).await?;
    Ok(Stream { body: answer.into_body(), events: None })
}

impl Stream {
    /// Reads to the end, and counts.
    async fn read(&mut self, delivered: &AtomicUsize, bytes: &AtomicUsize) -> Result<(), Failure> {
        while let Some(frame) = self.body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let events = match &mut self.events {
                Some(events) => events.count(&data)?,
                None => data.iter().filter(|it| **it == b'\n').count(),
            };
            delivered.fetch_add(events, Ordering::Relaxed);
            bytes.fetch_add(data.len(), Ordering::Relaxed);
        }
        Ok(())
    }
}
