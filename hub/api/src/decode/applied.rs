//! Bodies of server-side applies: YAML (or JSON, which is YAML) of which nothing is dropped, because
//! the types of the fields decide later what does not fit.

use serde::de::DeserializeSeed;
use serde_json::Value;

use super::open::Open;
use super::{Decoded, FieldValidation};
use crate::status::Status;

/// Reads the object that is applied. Keys that stand twice are judged as `validation` says.
///
/// # Errors
/// `BadRequest`.
pub fn applied(body: &[u8], validation: FieldValidation) -> Result<Decoded, Status> {
    let object = read(body, serde_saphyr::options::DuplicateKeyPolicy::LastWins)
        .map_err(|why| Status::bad_request(format!("error decoding YAML: {why}")))?;
    if !object.is_object() {
        return Err(Status::bad_request(
            "error decoding YAML: error unmarshaling JSON: the object is missing",
        ));
    }
    let mut warnings = Vec::new();
    if validation != FieldValidation::Ignore
        && let Err(why) = read(body, serde_saphyr::options::DuplicateKeyPolicy::Error)
    {
        if validation == FieldValidation::Strict {
            return Err(Status::bad_request(format!("error strict decoding YAML: {why}")));
        }
        warnings.push(why);
    }
    Ok(Decoded { object, warnings })
}

fn read(
    body: &[u8],
    duplicates: serde_saphyr::options::DuplicateKeyPolicy,
) -> Result<Value, String> {
    let mut options = serde_saphyr::Options::default();
    options.duplicate_keys = duplicates;
    serde_saphyr::with_deserializer_from_slice_with_options(body, options, |reader| {
        Open { depth: 0, twice: None }.deserialize(reader)
    })
    .map_err(|err| err.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_and_json_are_read_and_duplicates_judged() {
        for body in ["a: 1\nb: [x]\n", "{\"a\": 1, \"b\": [\"x\"]}"] {
            let read = applied(body.as_bytes(), FieldValidation::Strict).unwrap();
            assert_eq!(read.object, json!({"a": 1, "b": ["x"]}));
        }
        let twice = b"a: 1\na: 2\n";
        let read = applied(twice, FieldValidation::Warn).unwrap();
        assert_eq!((read.object, read.warnings.len()), (json!({"a": 2}), 1));
        for (body, start) in [
            (&twice[..], "error strict decoding YAML: "),
            (b"a: [", "error decoding YAML: "),
            (b"", "error decoding YAML: "),
            (b"text", "error decoding YAML: "),
        ] {
            let refused = applied(body, FieldValidation::Strict).unwrap_err();
            assert!(refused.message.starts_with(start), "{}", refused.message);
            assert_eq!(refused.code, 400);
        }
    }
}
