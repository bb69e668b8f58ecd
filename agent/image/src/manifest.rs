//! What a registry says an image consists of, checked before any of it is fetched.

use oci_spec::image::ImageConfiguration;
use serde::Deserialize;

use crate::{
    DiffId, Digest, ImageRef, Limits, MalformedImage, Platform, PullError, blob::Wanted,
    record::LayerRecord,
};

/// An answer to a request for a manifest.
#[derive(Debug)]
pub(crate) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

/// An image for one platform.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) config: Wanted,
    pub(crate) layers: Vec<Wanted>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<DescribedPlatform>,
}

#[derive(Debug, Deserialize)]
struct DescribedPlatform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFEST_TYPES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

impl Document {
    pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, MalformedImage> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|err| json("manifest", &err))?;
        if raw.schema_version != 2 {
            return Err(MalformedImage::MediaType(format!("schema {}", raw.schema_version)));
        }
        let ty = raw.media_type.as_deref();
        // A document that can be read as both is one that two readers read differently.
        match (raw.config, raw.layers, raw.manifests) {
            (None, None, Some(manifests)) if ty.is_none_or(|ty| INDEX_TYPES.contains(&ty)) => {
                Ok(Self::Index(manifests))
            }
            (Some(config), Some(layers), None)
                if ty.is_none_or(|ty| MANIFEST_TYPES.contains(&ty)) =>
            {
                Manifest::check(&config, &layers, limits).map(Self::Manifest)
            }
            _ => Err(MalformedImage::MediaType(ty.unwrap_or_default().chars().take(100).collect())),
        }
    }
}

impl Manifest {
    fn check(
        config: &Descriptor,
        layers: &[Descriptor],
        limits: &Limits,
    ) -> Result<Self, MalformedImage> {
        if layers.len() > limits.layers {
            let limit = u64::try_from(limits.layers).unwrap_or(u64::MAX);
            return Err(MalformedImage::TooBig { what: "layers", limit });
        }
        if let Some(layer) = layers.iter().find(|layer| !is_layer(&layer.media_type)) {
            let ty = layer.media_type.chars().take(100).collect();
            return Err(MalformedImage::MediaType(ty));
        }
        let what = "bytes in a configuration";
        let config = config.wanted(what, limits.manifest_bytes)?;
        let what = "bytes in a layer";
        let layers = layers.iter().map(|layer| layer.wanted(what, limits.layer_bytes));
        Ok(Self { config, layers: layers.collect::<Result<_, _>>()? })
    }

    /// The layers with the `diff_id`s that the configuration has for them.
    pub(crate) fn layers(
        &self,
        config: &ImageConfiguration,
    ) -> Result<Vec<LayerRecord>, MalformedImage> {
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != self.layers.len() {
            let (layers, diff_ids) = (self.layers.len(), diff_ids.len());
            return Err(MalformedImage::LayerCount { layers, diff_ids });
        }
        let record = |(layer, diff_id): (&Wanted, &String)| {
            let diff_id = DiffId(diff_id.parse()?);
            Ok(LayerRecord { blob: layer.digest.clone(), size: layer.size, diff_id })
        };
        self.layers.iter().zip(diff_ids).map(record).collect()
    }
}

impl Descriptor {
    fn wanted(&self, what: &'static str, limit: u64) -> Result<Wanted, MalformedImage> {
        if self.size > limit {
            return Err(MalformedImage::TooBig { what, limit });
        }
        Ok(Wanted { digest: self.digest.parse()?, size: self.size })
    }
}

/// The entry of an index that fits this node best; the first of several.
pub(crate) fn select(
    image: &ImageRef,
    entries: &[Descriptor],
    wanted: &Platform,
) -> Result<Digest, PullError> {
    let fit = |entry: &&Descriptor| {
        let it = entry.platform.as_ref()?;
        wanted.fit(&it.os, &it.architecture, it.variant.as_deref())
    };
    let best = entries.iter().filter(|entry| fit(entry).is_some()).min_by_key(fit);
    let Some(best) = best else {
        let available = entries.iter().filter_map(|entry| entry.platform.as_ref());
        let available: std::collections::BTreeSet<String> =
            available.map(ToString::to_string).filter(|it| it != "unknown/unknown").collect();
        return Err(wrong_platform(image, wanted, available.into_iter().take(20).collect()));
    };
    let digest = best.digest.parse::<Digest>();
    digest.map_err(|err| PullError::Malformed { image: image.clone(), why: err.into() })
}

/// Reads a configuration, and refuses one that is made for another platform.
pub(crate) fn config(
    image: &ImageRef,
    bytes: &[u8],
    wanted: &Platform,
) -> Result<ImageConfiguration, PullError> {
    let config: ImageConfiguration = serde_json::from_slice(bytes).map_err(|err| {
        PullError::Malformed { image: image.clone(), why: json("configuration", &err) }
    })?;
    let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
    // Some builders leave these empty, for images that run anywhere.
    let is_silent = os.is_empty() || architecture.is_empty();
    // Variants are the index's business; here they are often missing or noise.
    if is_silent || wanted.fit(&os, &architecture, wanted.variant.as_deref()).is_some() {
        Ok(config)
    } else {
        Err(wrong_platform(image, wanted, vec![format!("{os}/{architecture}")]))
    }
}

fn wrong_platform(image: &ImageRef, wanted: &Platform, available: Vec<String>) -> PullError {
    PullError::WrongPlatform { image: image.clone(), wanted: wanted.clone(), available }
}

fn json(document: &'static str, err: &serde_json::Error) -> MalformedImage {
    MalformedImage::Json { document, message: err.to_string().chars().take(200).collect() }
}

/// Compression is told by the contents, but what is not a layer at all is told here.
fn is_layer(media_type: &str) -> bool {
    let oci = media_type.strip_prefix("application/vnd.oci.image.layer.v1.tar").or_else(|| {
        media_type.strip_prefix("application/vnd.oci.image.layer.nondistributable.v1.tar")
    });
    let docker =
        media_type.strip_prefix("application/vnd.docker.image.rootfs.diff.tar").or_else(|| {
            media_type.strip_prefix("application/vnd.docker.image.rootfs.foreign.diff.tar")
        });
    matches!(oci, Some("" | "+gzip" | "+zstd")) || matches!(docker, Some("" | ".gzip" | ".zstd"))
}

impl std::fmt::Display for DescribedPlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|it| write!(f, "/{it}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let json = json.replace("HEX", HEX);
        let found = match Document::parse(json.as_bytes(), &Limits::standard()) {
            Ok(Document::Index(entries)) => format!("index of {}", entries.len()),
            Ok(Document::Manifest(manifest)) => format!("{} layers", manifest.layers.len()),
            Err(err) => err.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn documents_are_what_they_contain() {
        check(r#"{"schemaVersion":2,"manifests":[]}"#, "index of 0");
        check(
            r#"{"schemaVersion":2,"config":{"digest":"HEX","size":2},"layers":[
                {"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","digest":"HEX","size":1}]}"#,
            "1 layers",
        );
        check(r#"{"schemaVersion":1}"#, r#"media type "schema 1" is not supported"#);
        check("{", "manifest does not parse: EOF while parsing an object at line 1 column 1");
    }

    #[test]
    fn ambiguous_and_foreign_documents_are_refused() {
        check(
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",
                "manifests":[],"config":{"digest":"HEX","size":2},"layers":[]}"#,
            r#"media type "application/vnd.oci.image.index.v1+json" is not supported"#,
        );
        check(
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",
                "config":{"digest":"HEX","size":2},"layers":[]}"#,
            r#"media type "application/vnd.oci.image.index.v1+json" is not supported"#,
        );
        check(
            r#"{"schemaVersion":2,"config":{"digest":"HEX","size":2},
                "layers":[{"mediaType":"application/x-chart","digest":"HEX","size":1}]}"#,
            r#"media type "application/x-chart" is not supported"#,
        );
        check(
            r#"{"schemaVersion":2,"config":{"digest":"HEX","size":99999999},"layers":[]}"#,
            "more than 4194304 bytes in a configuration",
        );
        check(
            r#"{"schemaVersion":2,"config":{"digest":"sha256:..","size":9},"layers":[]}"#,
            "\"sha256:..\" is not a sha256 digest",
        );
    }

    #[test]
    fn an_index_without_our_platform_says_what_it_has() {
        let image: ImageRef = "a".parse().unwrap();
        let wanted = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        let entry = |os: &str, architecture: &str, digest: &str| Descriptor {
            media_type: String::new(),
            digest: digest.to_owned(),
            size: 1,
            platform: Some(DescribedPlatform {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: None,
            }),
        };
        let entries = [entry("linux", "s390x", HEX), entry("unknown", "unknown", HEX)];
        let err = select(&image, &entries, &wanted).unwrap_err();
        let expected =
            "image docker.io/library/a:latest is not made for linux/amd64, only for linux/s390x";
        assert_eq!(err.to_string(), expected);
        let entries = [entry("linux", "arm64", "x"), entry("linux", "amd64", HEX)];
        assert_eq!(select(&image, &entries, &wanted).unwrap().as_str(), HEX);
    }
}
