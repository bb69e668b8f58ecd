//! Bodies of requests: bounded in size and time.

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hub_api::{Media, Status, protobuf};
use hyper::body::Incoming;
use serde_json::Value;

use crate::limits::{BODY_READ_TIMEOUT, MAX_BODY};

/// Reads the whole body.
pub(super) async fn read(body: Incoming) -> Result<Bytes, Status> {
    let collected = tokio::time::timeout(BODY_READ_TIMEOUT, Limited::new(body, MAX_BODY).collect());
    match collected.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(err)) if err.is::<http_body_util::LengthLimitError>() => {
            Err(Status::request_entity_too_large(&format!("limit is {MAX_BODY}")))
        }
        Ok(Err(err)) => {
            Err(Status::bad_request(format!("unable to read the body of the request: {err}")))
        }
        Err(_) => Err(Status::timeout("request did not complete within the allotted timeout")),
    }
}

/// Decodes a body that is no object of a resource: options, bindings, evictions, scales.
/// An empty one is an empty object.
pub(super) fn plain_value(bytes: &[u8], media: Media, definition: &str) -> Result<Value, Status> {
    if bytes.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    match media {
        Media::Protobuf => protobuf::decode(bytes, Some(definition)),
        Media::Json | Media::Yaml => serde_json::from_slice(bytes).map_err(|err| {
            let kind = definition.rsplit('.').next().unwrap_or_default();
            Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {err}"
            ))
        }),
    }
}
