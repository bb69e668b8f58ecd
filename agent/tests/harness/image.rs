//! An image with nothing but busybox, in the formats of OCI.

use std::fs;

use ring::digest::{SHA256, digest};
use serde_json::json;

const BLOCK: usize = 512;
const APPLETS: [&str; 6] = ["sh", "sleep", "httpd", "echo", "cat", "ps"];

/// Blobs of the image, and its manifest.
pub(crate) struct Image {
    pub(crate) manifest: Vec<u8>,
    pub(crate) blobs: Vec<(String, Vec<u8>)>,
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Builds it, if this machine has a busybox.
pub(crate) fn build() -> Option<Image> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|it| fs::read(it).ok())?;
    let mut layer = Vec::new();
    for dir in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
        entry(&mut layer, dir, '5', 0o755, "", &[]);
    }
    entry(&mut layer, "bin/busybox", '0', 0o755, "", &busybox);
    for name in APPLETS {
        entry(&mut layer, &format!("bin/{name}"), '2', 0o777, "busybox", &[]);
    }
    layer.extend_from_slice(&[0; 2 * BLOCK]);
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({"architecture": architecture, "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(&layer)]}});
    let config = config.to_string().into_bytes();
    let describe = |kind: &str, bytes: &[u8]| {
        let media = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": media, "digest": digest_of(bytes), "size": bytes.len()})
    };
    let manifest = json!({"schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("config.v1+json", &config),
        "layers": [describe("layer.v1.tar", &layer)]});
    let blobs = [config, layer].map(|bytes| (digest_of(&bytes), bytes)).into();
    Some(Image { manifest: manifest.to_string().into_bytes(), blobs })
}

/// One entry of a tar archive.
fn entry(out: &mut Vec<u8>, name: &str, kind: char, mode: u32, link: &str, bytes: &[u8]) {
    let mut head = [0_u8; BLOCK];
    let mut put =
        |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", bytes.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, &kind.to_string());
    put(157, link);
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}
