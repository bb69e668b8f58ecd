//! Builds an image of one layer and pushes it to a registry on this machine, in plain HTTP.
//!
//! The same files give the same digest: owners, times and order do not depend on the machine.

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// How the image runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageConfigInput {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    /// `NAME=value`.
    pub(crate) env: Vec<String>,
    /// `80/tcp`.
    pub(crate) exposed: Vec<String>,
    pub(crate) user: String,
    pub(crate) workdir: String,
    /// As OCI names it, such as `arm64`; this machine's if absent.
    pub(crate) architecture: Option<&'static str>,
}

/// Pushes an image of these files, directories and links, each with its path in the image.
/// Returns the digest of the manifest.
pub(crate) fn push_image(
    registry: &str,
    repository: &str,
    tag: &str,
    files: &[(PathBuf, String)],
    config: &ImageConfigInput,
) -> anyhow::Result<String> {
    let tar = layer(files)?;
    let diff_id = digest(&tar);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&tar)?;
    let layer = encoder.finish()?;
    let config = image_config(config, &diff_id).to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest(&config), "size": config.len()},
        "layers": [{"mediaType": LAYER, "digest": digest(&layer), "size": layer.len()}],
    });
    let manifest = manifest.to_string().into_bytes();
    push_blob(registry, repository, &layer)?;
    push_blob(registry, repository, &config)?;
    let path = format!("/v2/{repository}/manifests/{tag}");
    let answer = request(registry, "PUT", &path, MANIFEST, &manifest)?;
    ensure!(answer.status == 201, "the registry refused the manifest: {}", answer.body);
    Ok(digest(&manifest))
}

fn image_config(config: &ImageConfigInput, diff_id: &str) -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut run = json!({});
    let lists = [("Entrypoint", &config.entrypoint), ("Cmd", &config.cmd), ("Env", &config.env)];
    for (key, list) in lists {
        if !list.is_empty() {
            run[key] = json!(list);
        }
    }
    for (key, text) in [("User", &config.user), ("WorkingDir", &config.workdir)] {
        if !text.is_empty() {
            run[key] = json!(text);
        }
    }
    for port in &config.exposed {
        run["ExposedPorts"][port] = json!({});
    }
    json!({
        "architecture": config.architecture.unwrap_or(architecture),
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    })
}

fn layer(files: &[(PathBuf, String)]) -> anyhow::Result<Vec<u8>> {
    let mut files: Vec<(&str, &Path)> = files
        .iter()
        .map(|(host, path)| (path.trim_matches('/'), host.as_path()))
        .filter(|(path, _)| !path.is_empty())
        .collect();
    files.sort();
    files.dedup_by_key(|(path, _)| *path);
    let mut builder = tar::Builder::new(Vec::new());
    for (path, host) in files {
        append(&mut builder, path, host)
            .with_context(|| format!("could not add {} as {path}", host.display()))?;
    }
    Ok(builder.into_inner()?)
}

fn append(builder: &mut tar::Builder<Vec<u8>>, path: &str, host: &Path) -> anyhow::Result<()> {
    let facts = fs::symlink_metadata(host)?;
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_mode(facts.permissions().mode() & 0o7777);
    header.set_size(0);
    if facts.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        builder.append_data(&mut header, format!("{path}/"), std::io::empty())?;
    } else if facts.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        builder.append_link(&mut header, path, fs::read_link(host)?)?;
    } else if facts.is_file() {
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(facts.len());
        builder.append_data(&mut header, path, fs::File::open(host)?)?;
    } else {
        bail!("neither file nor directory nor link");
    }
    Ok(())
}

fn push_blob(registry: &str, repository: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let digest = digest(bytes);
    let known = format!("/v2/{repository}/blobs/{digest}");
    if request(registry, "HEAD", &known, "", b"")?.status == 200 {
        return Ok(());
    }
    let begin = format!("/v2/{repository}/blobs/uploads/");
    let answer = request(registry, "POST", &begin, "", b"")?;
    ensure!(answer.status == 202, "the registry refused an upload: {}", answer.body);
    let location = answer.header("location").context("the registry named no upload location")?;
    let path =
        match location.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]))
        {
            Some(path) => path,
            None => location,
        };
    let joint = if path.contains('?') { '&' } else { '?' };
    let target = format!("{path}{joint}digest={digest}");
    let answer = request(registry, "PUT", &target, "application/octet-stream", bytes)?;
    ensure!(answer.status == 201, "the registry refused a blob: {}", answer.body);
    Ok(())
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// One request on a connection of its own.
fn request(
    host: &str,
    method: &str,
    path: &str,
    media_type: &str,
    body: &[u8],
) -> anyhow::Result<Answer> {
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    if !media_type.is_empty() {
        write!(head, "Content-Type: {media_type}\r\n")?;
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(host)
        .with_context(|| format!("could not reach the registry at {host}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer))
        .with_context(|| format!("the registry at {host} gave no HTTP answer to {method} {path}"))
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    Some(Answer { status, headers: lines.filter_map(header).collect(), body: body.to_owned() })
}

fn digest(bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // a String takes whatever is written
        hex
    });
    format!("sha256:{hex}")
}
