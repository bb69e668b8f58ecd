//! Decoding request bodies: JSON, YAML or Kubernetes' protobuf into an object of one resource.
//!
//! The schema guides the decoding, as Go's types do in Kubernetes: `null` is absent, empty lists and
//! maps are absent, times and quantities get their usual text, a wrong type refuses the request, and
//! what no schema knows is dropped with an error or a warning for each place, never silently.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::custom::Custom;
use crate::path::Path;
use crate::resource::Resource;
use crate::schema;
use crate::status::Status;

mod applied;
mod custom;
mod open;
mod syntax;
mod typed;
mod words;

pub use applied::applied;
use open::{Open, Twice};

/// What happens to fields that the schema does not know, and to fields that stand twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FieldValidation {
    /// They are dropped silently.
    Ignore,
    /// They refuse the request.
    Strict,
    /// They are dropped with a warning each.
    Warn,
}

/// The encoding of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Media {
    /// `application/json`.
    Json,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
    /// `application/yaml`.
    Yaml,
}

/// A decoded body.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object, with its kind and without nulls.
    pub object: Value,
    /// What to tell the client in `Warning` headers.
    pub warnings: Vec<String>,
}

impl FieldValidation {
    /// Reads the `fieldValidation` parameter; absent means to warn.
    pub fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "" | "Warn" => Ok(Self::Warn),
            "Strict" => Ok(Self::Strict),
            "Ignore" => Ok(Self::Ignore),
            other => {
                let wrong = crate::FieldError::not_supported(
                    "fieldValidation",
                    other,
                    &["", "Ignore", "Strict", "Warn"],
                );
                Err(Status::invalid("meta.k8s.io", "CreateOptions", "", vec![wrong]))
            }
        }
    }
}

/// Decodes an object of `resource`.
pub fn decode(
    resource: &Resource,
    body: &[u8],
    media: Media,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    match &resource.custom {
        Some(custom) => decode_custom(Target::of(resource), custom, body, media, validation),
        None => decode_kind(Target::of(resource), body, media, validation),
    }
}

/// Decodes a custom resource. There is no protobuf of it.
fn decode_custom(
    target: Target<'_>,
    definition: &Custom,
    body: &[u8],
    media: Media,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let mut twice = Vec::new();
    let noted = Twice { path: Path::Root, found: &mut twice };
    let seed = Open { depth: 0, twice: Some(noted) };
    let wrong = |why: String| cannot_be_handled(target, &why);
    let value = match media {
        Media::Json => {
            let mut reader = serde_json::Deserializer::from_slice(body);
            let value = seed.deserialize(&mut reader).and_then(|it| reader.end().map(|()| it));
            value.map_err(|it| {
                let why = syntax::go_json_error(&it, body);
                unrecognized(
                    target,
                    &format!("couldn't get version/kind; json parse error: {why}"),
                    body,
                )
            })?
        }
        Media::Yaml => {
            let mut options = serde_saphyr::Options::default();
            options.duplicate_keys = serde_saphyr::options::DuplicateKeyPolicy::LastWins;
            serde_saphyr::with_deserializer_from_slice_with_options(body, options, |reader| {
                seed.deserialize(reader)
            })
            .map_err(|it| wrong(it.to_string()))?
        }
        Media::Protobuf => {
            return Err(Status::unsupported_media_type(&["application/json", "application/yaml"]));
        }
    };
    custom::shape(target, definition, value, twice, validation)
}

/// A kind that a body must have: of a resource, or of what a subresource exchanges.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Version in the group.
    pub version: &'a str,
    /// The kind.
    pub kind: &'a str,
    /// Name of the schema definition.
    pub schema: &'a str,
}

/// Decodes an object of any kind that the schema table knows: `Scale`, `Binding`, `DeleteOptions`, ...
pub fn decode_kind(
    target: Target<'_>,
    body: &[u8],
    media: Media,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    match media {
        Media::Json => {
            let meta: TypeMeta = serde_json::from_slice(body).map_err(|it| {
                let why = syntax::go_json_error(&it, body);
                unrecognized(
                    target,
                    &format!("couldn't get version/kind; json parse error: {why}"),
                    body,
                )
            })?;
            meta.check(target)?;
            let mut reader = serde_json::Deserializer::from_slice(body);
            let out = run(target, validation, |it| it.deserialize(&mut reader))?;
            Ok(out)
        }
        Media::Yaml => {
            let mut options = serde_saphyr::Options::default();
            options.duplicate_keys = serde_saphyr::options::DuplicateKeyPolicy::LastWins;
            let out = run(target, validation, |it| {
                serde_saphyr::with_deserializer_from_slice_with_options(body, options, |reader| {
                    it.deserialize(reader)
                })
            })?;
            Ok(out)
        }
        Media::Protobuf => {
            let object = crate::protobuf::decode(body, Some(target.schema))?;
            TypeMeta::of(&object).check(target)?;
            run(target, validation, |it| it.deserialize(&object))
        }
    }
}

/// Brings a patched object into the shape that decoding gives: same checks, same errors.
pub fn conform(
    resource: &Resource,
    object: &Value,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    match &resource.custom {
        Some(it) => custom::shape(Target::of(resource), it, object.clone(), Vec::new(), validation),
        None => conform_kind(Target::of(resource), object, validation),
    }
}

/// Like [`conform`], for any kind that the schema table knows.
pub fn conform_kind(
    target: Target<'_>,
    object: &Value,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    TypeMeta::of(object).check(target)?;
    run(target, validation, |it| it.deserialize(object))
}

/// Decodes with the schema as guide, and judges what was found on the way.
fn run<E: std::fmt::Display>(
    target: Target<'_>,
    validation: FieldValidation,
    read: impl FnOnce(typed::Typed<'_>) -> Result<Option<Value>, E>,
) -> Result<Decoded, Status> {
    let definition = schema::lookup(target.schema)
        .ok_or_else(|| Status::internal(format!("no schema for {}", target.schema)))?;
    let mut findings = typed::Findings::default();
    let short = words::short_name(target.schema);
    let seed = typed::Typed::root(definition, short, &mut findings);
    let read = read(seed).map_err(|it| it.to_string());
    if let Some(wrong) = findings.wrong {
        return Err(cannot_be_handled(target, &wrong));
    }
    let object = read.map_err(|it| cannot_be_handled(target, &it))?;
    let Some(mut object) = object.filter(Value::is_object) else {
        let why = "json: cannot unmarshal into Go value: the object is missing";
        return Err(cannot_be_handled(target, why));
    };
    TypeMeta::of(&object).check(target)?;
    if validation == FieldValidation::Strict && !findings.strict.is_empty() {
        let all = findings.strict.join(", ");
        return Err(cannot_be_handled(target, &format!("strict decoding error: {all}")));
    }
    object["apiVersion"] = Value::from(target.api_version());
    object["kind"] = Value::from(target.kind);
    let warnings = match validation {
        FieldValidation::Warn => findings.strict,
        FieldValidation::Ignore | FieldValidation::Strict => Vec::new(),
    };
    Ok(Decoded { object, warnings })
}

impl<'a> Target<'a> {
    /// The kind of a resource's objects.
    pub fn of(resource: &'a Resource) -> Self {
        Self {
            group: &resource.group,
            version: &resource.version,
            kind: &resource.kind,
            schema: &resource.schema,
        }
    }

    /// `apps/v1`, or `v1` for core.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// What an object says it is.
#[derive(Default)]
struct TypeMeta {
    api_version: Value,
    kind: Value,
}

impl<'de> Deserialize<'de> for TypeMeta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TypeMetaVisitor)
    }
}

struct TypeMetaVisitor;

impl<'de> Visitor<'de> for TypeMetaVisitor {
    type Value = TypeMeta;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<TypeMeta, A::Error> {
        let mut out = TypeMeta::default();
        while let Some(key) = entries.next_key::<String>()? {
            match key.as_str() {
                "apiVersion" => out.api_version = entries.next_value()?,
                "kind" => out.kind = entries.next_value()?,
                _ => {
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(out)
    }
}

impl TypeMeta {
    fn of(object: &Value) -> Self {
        let field = |key: &str| object.get(key).cloned().unwrap_or(Value::Null);
        Self { api_version: field("apiVersion"), kind: field("kind") }
    }

    /// What is there must be what the path says; what is not there is taken from the path.
    fn check(&self, target: Target<'_>) -> Result<(), Status> {
        let kind = self.kind.as_str().unwrap_or_default();
        if !kind.is_empty() && kind != target.kind {
            let version = target.version;
            let package = if target.group.is_empty() { "core" } else { target.group };
            return Err(Status::bad_request(format!(
                "{kind} in version \"{version}\" cannot be handled as a {wanted}: converting ({version}.{kind}) to ({package}.{wanted}): unknown conversion",
                wanted = target.kind,
            )));
        }
        let found = self.api_version.as_str().unwrap_or_default();
        let wanted = target.api_version();
        if !found.is_empty() && found != wanted {
            return Err(Status::bad_request(format!(
                "the API version in the data ({found}) does not match the expected API version ({wanted})"
            )));
        }
        Ok(())
    }
}

fn cannot_be_handled(target: Target<'_>, why: &str) -> Status {
    let Target { version, kind, .. } = target;
    Status::bad_request(format!(
        "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
    ))
}

fn unrecognized(target: Target<'_>, why: &str, body: &[u8]) -> Status {
    let summary = syntax::summary(body);
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {why} ({summary})",
        target.kind
    ))
}

#[cfg(test)]
mod tests;
