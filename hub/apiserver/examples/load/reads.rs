//! Reads of what is large: lists, and the documents in which a server says what it serves.

use std::time::Instant;

use bytes::Bytes;
use http::Request;
use serde_json::{Map, Value, json};

use crate::{
    connection::{Connection, Failure, Target},
    grpc, objects, percentile,
};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const DISCOVERY: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// The whole list, one after the other: in one answer, in pages of 500, and in such pages as tables.
pub(crate) async fn list(target: &Target, rounds: usize) -> Result<Value, Failure> {
    let mut connection = target.connect().await?;
    let mut result = Map::new();
    if target.is_etcd() {
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..rounds {
            let begin = Instant::now();
            let request = grpc::request(&connection, "KV/Range");
            bytes = connection.call(request, grpc::range(objects::PREFIX)?).await?.len();
            times.push(begin.elapsed());
        }
        result.insert(
            "whole".to_owned(),
            json!({"p50_ms": percentile(&mut times, 50), "bytes": bytes}),
        );
        return Ok(result.into());
    }
    for (what, accept, limit) in [
        ("whole", "application/json", 0),
        ("pages", "application/json", 500),
        ("tables", TABLE, 500),
    ] {
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..rounds {
            let begin = Instant::now();
            bytes = pages(&mut connection, accept, limit).await?;
            times.push(begin.elapsed());
        }
        result
            .insert(what.to_owned(), json!({"p50_ms": percentile(&mut times, 50), "bytes": bytes}));
    }
    Ok(result.into())
}

async fn pages(connection: &mut Connection, accept: &str, limit: usize) -> Result<usize, Failure> {
    let (mut bytes, mut token) = (0, String::new());
    loop {
        let limit = if limit > 0 { format!("?limit={limit}") } else { String::new() };
        let next = if token.is_empty() { String::new() } else { format!("&continue={token}") };
        let url = connection.url(&format!("/api/v1/pods{limit}{next}"));
        let page =
            connection.call(Request::get(url).header("accept", accept), Bytes::new()).await?;
        bytes += page.len();
        token = continue_of(&page).unwrap_or_default();
        if token.is_empty() {
            return Ok(bytes);
        }
    }
}

/// The token of the next page, without reading the page: that is not what is measured.
fn continue_of(page: &[u8]) -> Option<String> {
    let head = page.get(..page.len().min(4096))?;
    let text = String::from_utf8_lossy(head);
    let rest = text.split_once("\"continue\":\"")?.1;
    Some(rest.split_once('"')?.0.to_owned())
}

/// How long each document takes, one request after the other.
pub(crate) async fn documents(target: &Target, rounds: usize) -> Result<Value, Failure> {
    let mut connection = target.connect().await?;
    let mut result = Map::new();
    for (path, accept) in [
        ("/api", DISCOVERY),
        ("/apis", DISCOVERY),
        ("/apis/apps/v1", "application/json"),
        ("/openapi/v2", "application/json"),
        ("/openapi/v3", "application/json"),
        ("/openapi/v3/apis/apps/v1", "application/json"),
    ] {
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..rounds {
            let begin = Instant::now();
            let request = Request::get(connection.url(path)).header("accept", accept);
            bytes = connection.call(request, Bytes::new()).await?.len();
            times.push(begin.elapsed());
        }
        let first = times.first().map_or(0.0, |it| it.as_secs_f64() * 1000.0);
        let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
        result.insert(
            path.to_owned(),
            json!({"first_ms": first, "p50_ms": p50, "p99_ms": p99, "bytes": bytes}),
        );
    }
    Ok(result.into())
}
