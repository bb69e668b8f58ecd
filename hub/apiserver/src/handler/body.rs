//! Bodies of requests: bounded in size and time.

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hub_api::decode::{self, Target};
use hub_api::{FieldValidation, Media, Status, protobuf};
use serde_json::Value;

use crate::audit;
use crate::limits::{BODY_READ_TIMEOUT, MAX_BODY};
use crate::request::body::RequestBody;

/// Reads the whole body.
pub(super) async fn read(body: RequestBody) -> Result<Bytes, Status> {
    let collected = tokio::time::timeout(BODY_READ_TIMEOUT, Limited::new(body, MAX_BODY).collect());
    match collected.await {
        Ok(Ok(collected)) => {
            let bytes = collected.to_bytes();
            audit::body(&bytes);
            Ok(bytes)
        }
        Ok(Err(err)) if err.is::<http_body_util::LengthLimitError>() => {
            Err(Status::request_entity_too_large(&format!("limit is {MAX_BODY}")))
        }
        Ok(Err(err)) => {
            Err(Status::bad_request(format!("unable to read the body of the request: {err}")))
        }
        Err(_) => Err(Status::timeout("request did not complete within the allotted timeout")),
    }
}

/// Decodes a body that is no object of a resource: options, bindings, evictions. Which version of
/// its group it names does not matter; an empty one is an empty object.
pub(super) fn lenient(bytes: &[u8], media: Media, target: Target<'_>) -> Result<Value, Status> {
    if bytes.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let read = match media {
        Media::Protobuf => Some(protobuf::decode(bytes, Some(target.schema))?),
        Media::Json => serde_json::from_slice::<Value>(bytes).ok(),
        Media::Yaml => None,
    };
    let decoded = match read {
        Some(mut value) => {
            if let Some(map) = value.as_object_mut() {
                map.remove("apiVersion");
            }
            decode::conform_kind(target, &value, FieldValidation::Ignore)?
        }
        None => decode::decode_kind(target, bytes, media, FieldValidation::Ignore)?,
    };
    Ok(decoded.object)
}
