//! Durable writes: every client sends its next request when the last one is answered.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    connection::{Connection, Failure, Target},
    objects, percentile, rate,
};

/// Creates for so long, then updates of the status of what was created.
pub(crate) async fn writes(
    target: &Target,
    clients: usize,
    length: Duration,
) -> Result<Value, Failure> {
    let connections = connect(target, clients).await?;
    let run = std::process::id();
    let name = move |client: usize, number: usize| format!("load-{run}-{client}-{number}");
    let mut tasks = JoinSet::new();
    let begin = Instant::now();
    for (client, mut connection) in connections.into_iter().enumerate() {
        let target = target.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            while begin.elapsed() < length {
                let sent = Instant::now();
                objects::create(&target, &mut connection, &name(client, times.len())).await?;
                times.push(sent.elapsed());
            }
            Ok::<_, Failure>((client, connection, times))
        });
    }
    let mut made = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        made.push(ended??);
    }
    let created = begin.elapsed();
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    let mut creates = Vec::new();
    for (client, mut connection, times) in made {
        let (target, known) = (target.clone(), times.len());
        creates.extend(times);
        tasks.spawn(async move {
            let mut times = Vec::new();
            while begin.elapsed() < length && known > 0 {
                let sent = Instant::now();
                let name = name(client, times.len() % known);
                objects::update_status(&target, &mut connection, &name, times.len()).await?;
                times.push(sent.elapsed());
            }
            Ok::<_, Failure>(times)
        });
    }
    let mut updates = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        updates.extend(ended??);
    }
    let updated = begin.elapsed();
    Ok(json!({
        "creates": figures(&mut creates, created)?,
        "updates": figures(&mut updates, updated)?,
    }))
}

/// So many objects.
pub(crate) async fn fill(
    target: &Target,
    clients: usize,
    objects: usize,
) -> Result<Value, Failure> {
    let mut tasks = JoinSet::new();
    let begin = Instant::now();
    for (client, mut connection) in connect(target, clients).await?.into_iter().enumerate() {
        let target = target.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            for number in (client..objects).step_by(clients) {
                let sent = Instant::now();
                objects::create(&target, &mut connection, &format!("fill-{number}")).await?;
                times.push(sent.elapsed());
            }
            Ok::<_, Failure>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        times.extend(ended??);
    }
    figures(&mut times, begin.elapsed())
}

/// Connected before the clock starts: a handshake is not a write.
async fn connect(target: &Target, clients: usize) -> Result<Vec<Connection>, Failure> {
    let mut connections = Vec::with_capacity(clients);
    for _ in 0..clients {
        connections.push(target.connect().await?);
    }
    Ok(connections)
}

fn figures(times: &mut [Duration], took: Duration) -> Result<Value, Failure> {
    Ok(json!({
        "per_second": rate(times.len(), took)?,
        "p50_ms": percentile(times, 50),
        "p99_ms": percentile(times, 99),
    }))
}
