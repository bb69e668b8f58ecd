//! Makes the data files under `hub/api/data` from what Kubernetes publishes.
//!
//! Four files, each the gzip of one compact JSON object with sorted keys:
//!
//! `schema.json.gz`: `{"definitions": {NAME: SCHEMA}}`, from the OpenAPI definitions without their
//! descriptions. SCHEMA has one shape wherever it stands (definition, property, items,
//! additionalProperties) and every key is optional: `type`, `format` (also `int-or-string` and
//! `quantity`), `ref` (full name of a definition), `properties`, `required`, `items`,
//! `additionalProperties`, `listType`, `listMapKeys`, `patchStrategy`, `patchMergeKey`, `mapType`,
//! `default`, `kinds` (`[[group, version, kind]]`) and `open` (true: anything is allowed below).
//!
//! `protobuf.json.gz`: `{"messages": {NAME: [[NUMBER, JSON_NAME, TYPE, FLAGS]]}}`, from the
//! `.proto` files and the Go structs they describe. NAME is that of the schema. TYPE is a scalar or
//! a NAME. FLAGS: `r` repeated, `m` map from string, `i` inlined into its parent, `z` left out when
//! zero. A field without a JSON name is the whole value of its message.
//!
//! `descriptions-core.json.gz` and `descriptions-others.json.gz`: `{NAME: {FIELD: TEXT}}`, the
//! words of the definitions; the empty field stands for the definition. Those of alpha and beta
//! versions are left out.
//!
//! Needs Python with pip and Go. Downloads stay under the target directory.

mod go_source;
mod proto_files;
mod schema;

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;

/// The Python package that publishes the definitions, with its version.
const DEFINITIONS_PACKAGE: (&str, &str) = ("kubernetes-validate", "1.37.0");
/// Where the definitions are within that package.
const DEFINITIONS_PATH: &str =
    "kubernetes_validate/kubernetes-json-schema/v1.37.0-local/_definitions.json";
/// The Go modules that hold the `.proto` files and the structs.
const GO_MODULES: [&str; 4] = [
    "k8s.io/api",
    "k8s.io/apiextensions-apiserver",
    "k8s.io/apimachinery",
    "k8s.io/kube-aggregator",
];
/// Their version.
const GO_VERSION: &str = "v0.37.2";

/// Writes the data files, or with `check` fails if they are not what would be written.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")?;
    let downloads = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), PathBuf::from)
        .join("codegen");
    let downloads = std::path::absolute(downloads)?;
    fs::create_dir_all(&downloads)?;

    let modules = go_modules(&downloads)?;
    let structs = go_source::structs(&modules)?;
    let data = root.join("hub/api/data");
    fs::create_dir_all(&data)?;
    let published: Value = serde_json::from_slice(&definitions(&downloads)?)?;
    settle(&data.join("schema.json.gz"), &schema::compact(&published, &structs)?, check)?;
    for (file, is_core) in [("core", true), ("others", false)] {
        let file = data.join(format!("descriptions-{file}.json.gz"));
        settle(&file, &schema::descriptions(&published, is_core)?, check)?;
    }
    let schemas = published["$defs"].as_object().context("no $defs")?;
    let messages = proto_files::messages(&modules, &structs, schemas.keys())?;
    settle(&data.join("protobuf.json.gz"), &messages, check)
}

fn settle(path: &Path, content: &Value, check: bool) -> anyhow::Result<()> {
    let text = serde_json::to_vec(content)?;
    if check {
        let file = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut found = Vec::new();
        GzDecoder::new(file).read_to_end(&mut found)?;
        ensure!(found == text, "{} is stale: run `cargo xtask codegen`", path.display());
        return Ok(());
    }
    let mut packed = GzEncoder::new(fs::File::create(path)?, Compression::best());
    packed.write_all(&text)?;
    packed.finish()?;
    Ok(())
}

fn definitions(downloads: &Path) -> anyhow::Result<Vec<u8>> {
    let (name, version) = DEFINITIONS_PACKAGE;
    let wheel = downloads.join(format!("{}-{version}-py3-none-any.whl", name.replace('-', "_")));
    if !wheel.exists() {
        let wanted = format!("{name}=={version}");
        let arguments = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest"];
        let arguments = arguments.map(OsStr::new);
        let rest = [downloads.as_os_str(), OsStr::new(&wanted)];
        output(downloads, "python3", arguments.into_iter().chain(rest))?;
    }
    let script = "import sys, zipfile; \
                  sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))";
    let arguments =
        [OsStr::new("-c"), OsStr::new(script), wheel.as_os_str(), OsStr::new(DEFINITIONS_PATH)];
    output(downloads, "python3", arguments)
}

/// The module directories, with the module path that each stands for.
fn go_modules(downloads: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for module in GO_MODULES {
        let wanted = format!("{module}@{GO_VERSION}");
        let arguments = ["mod", "download", "-json", &wanted].map(OsStr::new);
        let answer: Value = serde_json::from_slice(&output(downloads, "go", arguments)?)?;
        let dir = answer["Dir"].as_str().context("go mod download names no directory")?;
        found.push((module.to_owned(), PathBuf::from(dir)));
    }
    Ok(found)
}

#[expect(clippy::disallowed_methods, reason = "a developer's tool, not the control path")]
fn output<'a>(
    dir: &Path,
    program: &str,
    arguments: impl IntoIterator<Item = &'a OsStr>,
) -> anyhow::Result<Vec<u8>> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .output()
        .with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

/// The schema's name for a type of a Go package: `k8s.io/api/core/v1` and `Pod` give
/// `io.k8s.api.core.v1.Pod`.
fn definition_name(package: &str, name: &str) -> String {
    let package = package.strip_prefix("k8s.io/").unwrap_or(package).replace('/', ".");
    format!("io.k8s.{package}.{name}")
}
