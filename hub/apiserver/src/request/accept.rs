//! Content negotiation. Kubernetes' own media type parameters (`as`, `g`, `v`) ask for a
//! transformation; a type whose transformation is unknown is skipped, as if it were not there.

use hub_api::{Media, Status};

/// How an answer is to look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// The objects as they are.
    Plain,
    /// A `meta.k8s.io` `Table`; old clients ask for `v1beta1`.
    Table { beta: bool },
    /// `PartialObjectMetadata`, or its list.
    Metadata { beta: bool },
    /// `apidiscovery.k8s.io` `APIGroupDiscoveryList`.
    Aggregated { beta: bool },
}

/// What kind of answer is about to be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// One object or several: every form but aggregated discovery.
    Objects,
    /// Metadata forms make no sense (subresources, discovery of a group).
    JsonOnly,
    /// `/api` and `/apis`.
    Discovery,
}

/// One element of an `Accept` header.
#[derive(Debug)]
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// In thousandths.
    quality: u16,
}

/// Picks the form of an answer.
pub(crate) fn negotiate(accept: Option<&str>, answer: Answer) -> Result<Form, Status> {
    let Some(accept) = accept.map(str::trim).filter(|it| !it.is_empty()) else {
        return Ok(Form::Plain);
    };
    let mut ranges: Vec<Range<'_>> = accept.split(',').filter_map(Range::parse).collect();
    // Stable: equal qualities stay in the client's order.
    ranges.sort_by_key(|it| std::cmp::Reverse(it.quality));
    ranges
        .iter()
        .filter(|it| it.quality > 0)
        .find_map(|it| it.form(answer))
        .ok_or_else(Status::not_acceptable)
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let parameters: Vec<_> = parts
            .filter_map(|it| it.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
            .collect();
        let quality = parameters
            .iter()
            .find(|(key, _)| *key == "q")
            .map_or(Some(1000), |(_, value)| thousandths(value))?;
        Some(Self { kind, subtype, parameters, quality })
    }

    fn form(&self, answer: Answer) -> Option<Form> {
        let json = matches!((self.kind, self.subtype), ("application", "json" | "*") | ("*", "*"));
        if !json {
            return None;
        }
        let parameter =
            |key| self.parameters.iter().find(|(it, _)| *it == key).map(|(_, value)| *value);
        let Some(target) = parameter("as") else { return Some(Form::Plain) };
        let beta = match (answer, parameter("v")?) {
            (Answer::Discovery, "v2") | (Answer::Objects, "v1") => false,
            (Answer::Discovery, "v2beta1") | (Answer::Objects, "v1beta1") => true,
            _ => return None,
        };
        match (answer, target, parameter("g")?) {
            (Answer::Objects, "Table", "meta.k8s.io") => Some(Form::Table { beta }),
            (
                Answer::Objects,
                "PartialObjectMetadata" | "PartialObjectMetadataList",
                "meta.k8s.io",
            ) => Some(Form::Metadata { beta }),
            (Answer::Discovery, "APIGroupDiscoveryList", "apidiscovery.k8s.io") => {
                Some(Form::Aggregated { beta })
            }
            _ => None,
        }
    }
}

fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let whole: u16 = whole.parse().ok()?;
    Some((whole.min(1) * 1000 + digits.parse::<u16>().ok()?).min(1000))
}

/// Media types of objects that are read.
pub(crate) const BODY_TYPES: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// The media type of a request's body; none at all is JSON.
pub(crate) fn body_media(content_type: Option<&str>) -> Result<Media, Status> {
    match essence(content_type).as_str() {
        "" | "application/json" => Ok(Media::Json),
        "application/yaml" => Ok(Media::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Media::Protobuf),
        _ => Err(Status::unsupported_media_type(&BODY_TYPES)),
    }
}

/// A media type without its parameters, in lower case.
pub(crate) fn essence(content_type: Option<&str>) -> String {
    content_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// Whether the client takes gzip.
pub(crate) fn accepts_gzip(accept_encoding: Option<&str>) -> bool {
    accept_encoding.unwrap_or_default().split(',').any(|it| {
        let mut parts = it.split(';').map(str::trim);
        let named = parts.next() == Some("gzip");
        named && !parts.any(|q| matches!(q, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_picked_in_the_clients_order() {
        const TABLES: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        for (accept, answer, form) in [
            ("", Answer::Objects, Some(Form::Plain)),
            ("*/*", Answer::Objects, Some(Form::Plain)),
            (TABLES, Answer::Objects, Some(Form::Table { beta: false })),
            (TABLES, Answer::JsonOnly, Some(Form::Plain)),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Answer::Objects,
                Some(Form::Plain),
            ),
            ("application/vnd.kubernetes.protobuf", Answer::Objects, None),
            ("application/json;as=Nonsense;v=v1;g=meta.k8s.io", Answer::Objects, None),
            ("text/html", Answer::Objects, None),
            ("application/json;q=0", Answer::Objects, None),
            (
                "application/json;q=0.5,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1;q=0.9",
                Answer::Objects,
                Some(Form::Metadata { beta: false }),
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
                Answer::Discovery,
                Some(Form::Aggregated { beta: true }),
            ),
        ] {
            assert_eq!(negotiate(Some(accept), answer).ok(), form, "{accept}");
        }
    }

    #[test]
    fn bodies_are_json_unless_they_say_otherwise() {
        assert_eq!(body_media(None).unwrap(), Media::Json);
        assert_eq!(body_media(Some("application/json; charset=utf-8")).unwrap(), Media::Json);
        assert_eq!(body_media(Some("text/plain")).unwrap_err().code, 415);
        assert!(accepts_gzip(Some("br, gzip;q=0.8")) && !accepts_gzip(Some("gzip;q=0")));
    }
}
