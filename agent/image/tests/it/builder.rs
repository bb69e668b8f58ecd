//! Makes small images in memory.

use std::io::Write;

use agent_image::Digest;
use serde_json::json;

#[derive(Clone)]
pub(crate) struct Blob {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    media_type: &'static str,
}

impl Blob {
    fn new(bytes: Vec<u8>, media_type: &'static str) -> Self {
        Self { digest: Digest::of(&bytes), bytes, media_type }
    }

    fn descriptor(&self) -> serde_json::Value {
        json!({
            "mediaType": self.media_type,
            "digest": self.digest.as_str(),
            "size": self.bytes.len(),
        })
    }
}

#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) layers: Vec<Blob>,
    pub(crate) config: Blob,
}

impl Image {
    /// Layers from tar streams, lowest first, compressed in turn with gzip, zstd and not at all.
    pub(crate) fn new(tars: &[Vec<u8>]) -> Self {
        Self::for_architecture(tars, &agent_image::Platform::host().architecture)
    }

    pub(crate) fn for_architecture(tars: &[Vec<u8>], architecture: &str) -> Self {
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": ["/bin/sh"], "Env": ["PATH=/bin"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": tars.iter().map(|tar| Digest::of(tar).to_string()).collect::<Vec<_>>(),
            },
        });
        let config = config.to_string().into_bytes();
        Self {
            layers: tars.iter().enumerate().map(|(n, tar)| compressed(n, tar)).collect(),
            config: Blob::new(config, "application/vnd.oci.image.config.v1+json"),
        }
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.layers.iter().chain([&self.config])
    }

    pub(crate) fn manifest(&self) -> Vec<u8> {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.config.descriptor(),
            "layers": self.layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        manifest.to_string().into_bytes()
    }

    /// Bytes of all layers as they travel.
    pub(crate) fn size(&self) -> usize {
        self.layers.iter().map(|layer| layer.bytes.len()).sum()
    }
}

fn compressed(n: usize, tar: &[u8]) -> Blob {
    match n % 3 {
        0 => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(tar).unwrap();
            let bytes = encoder.finish().unwrap();
            Blob::new(bytes, "application/vnd.oci.image.layer.v1.tar+gzip")
        }
        1 => {
            let bytes = zstd::encode_all(tar, 1).unwrap();
            Blob::new(bytes, "application/vnd.oci.image.layer.v1.tar+zstd")
        }
        _ => Blob::new(tar.to_vec(), "application/vnd.oci.image.layer.v1.tar"),
    }
}

/// A tar stream of regular files.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len().try_into().unwrap());
        header.set_mode(0o755);
        header.set_mtime(1_700_000_000);
        builder.append_data(&mut header, path, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Bytes that do not compress.
pub(crate) fn noise(n: usize) -> Vec<u8> {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(n + 8);
    while bytes.len() < n {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    bytes.truncate(n);
    bytes
}
