//! The four walls between the crates, by `cargo tree` and by the text of the sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use anyhow::Context;
use serde_json::Value;

use crate::sh;

/// These decide and never perform.
const PURE: [&str; 5] = ["agent-core", "agent-sync", "hub-api", "hub-controllers", "hub-scheduler"];
/// What performs.
const EFFECTS: [&str; 6] = ["tokio", "quinn", "hyper", "nix", "rustix", "mio"];
const EFFECT_CALLS: [&str; 5] =
    ["std::fs", "Instant::now", "SystemTime::now", "Timestamp::now", "std::env::"];
/// These speak of files, containers and links, never of pods.
const NODE_EFFECTS: [&str; 4] = ["agent-image", "agent-runtime", "agent-volume", "cni"];
/// Never linked into the product.
const BANNED: [&str; 3] = ["aws-lc-sys", "openssl-sys", "native-tls"];

pub(super) fn check(files: &[PathBuf], faults: &mut Vec<String>) -> anyhow::Result<()> {
    let packages = Packages::load()?;
    for name in PURE {
        let reached = packages.reachable(name);
        for effect in EFFECTS {
            if reached.contains(effect) {
                faults.push(format!("{name} is pure, but reaches {effect}"));
            }
        }
    }
    for name in NODE_EFFECTS {
        let reached = packages.reachable(name);
        for kubernetes in ["k8s-openapi", "hub-api", "agent-core"] {
            if reached.contains(kubernetes) {
                faults.push(format!("{name} must not know Kubernetes, but reaches {kubernetes}"));
            }
        }
    }
    for (name, direct) in &packages.direct {
        if direct.contains("quinn") && !["agent", "hub"].contains(&name.as_str()) {
            faults.push(format!("{name} uses quinn; only the two programs may"));
        }
        let programs = direct.iter().filter(|it| ["agent", "hub"].contains(&it.as_str()));
        for program in programs.filter(|_| name != "tests") {
            faults.push(format!("{name} depends on the program {program}"));
        }
    }
    for program in ["agent", "hub", "outbye-cni"] {
        let reached = packages.reachable(program);
        for banned in BANNED.iter().filter(|it| reached.contains(**it)) {
            faults.push(format!("{program} links {banned}; the TLS stack is rustls with ring"));
        }
    }
    check_names(&packages, faults);
    check_architecture(&packages, faults)?;
    check_sources(files, faults)
}

/// A package is named after its path.
fn check_names(packages: &Packages, faults: &mut Vec<String>) {
    for (name, path) in &packages.paths {
        if path.replace('/', "-") != *name {
            faults.push(format!("{path}: its package is named {name}"));
        }
    }
}

fn check_architecture(packages: &Packages, faults: &mut Vec<String>) -> anyhow::Result<()> {
    let text = fs::read_to_string(sh::root().join("ARCHITECTURE.md"))
        .context("could not read ARCHITECTURE.md")?;
    for (name, path) in &packages.paths {
        if !text.contains(&format!("`{name}`")) && !text.contains(&format!("`{path}`")) {
            faults.push(format!("ARCHITECTURE.md does not name `{name}`"));
        }
    }
    Ok(())
}

fn check_sources(files: &[PathBuf], faults: &mut Vec<String>) -> anyhow::Result<()> {
    let pure: Vec<String> =
        PURE.iter().map(|it| format!("{}/src/", it.replace('-', "/"))).collect();
    for file in files.iter().filter(|it| it.extension().is_some_and(|it| it == "rs")) {
        let shown = file.display().to_string();
        let text = fs::read_to_string(sh::root().join(file))?;
        let unsafe_allowed = shown.starts_with("agent/sys/") || shown.starts_with("xtask/src/tidy");
        let in_pure = pure.iter().any(|it| shown.starts_with(it.as_str()));
        for (number, line) in (1..).zip(text.lines()) {
            let code = line.split("//").next().unwrap_or_default();
            if !unsafe_allowed && (code.contains("unsafe {") || code.contains("allow(unsafe_code"))
            {
                faults.push(format!("{shown}:{number}: unsafe code belongs in agent-sys"));
            }
            if in_pure {
                for call in EFFECT_CALLS.iter().filter(|it| code.contains(**it)) {
                    faults.push(format!("{shown}:{number}: {call} in a pure crate"));
                }
            }
        }
    }
    Ok(())
}

/// The dependency graph without development dependencies.
struct Packages {
    /// Path below the root, by package name; workspace members only.
    paths: BTreeMap<String, String>,
    /// Direct dependencies by package name; workspace members only.
    direct: BTreeMap<String, BTreeSet<String>>,
    names: BTreeMap<String, String>,
    edges: BTreeMap<String, Vec<String>>,
}

impl Packages {
    fn load() -> anyhow::Result<Self> {
        let mut cargo = sh::command(env!("CARGO"));
        let text = sh::read(cargo.args(["metadata", "--format-version=1", "--locked"]))?;
        let metadata: Value = serde_json::from_str(&text)?;
        let root = sh::root();
        let mut packages = Self {
            paths: BTreeMap::new(),
            direct: BTreeMap::new(),
            names: BTreeMap::new(),
            edges: BTreeMap::new(),
        };
        for package in array(&metadata["packages"]) {
            let (id, name) = (text_of(&package["id"]), text_of(&package["name"]));
            packages.names.insert(id, name.clone());
            if package["source"].is_null() {
                let manifest = PathBuf::from(text_of(&package["manifest_path"]));
                let dir = manifest.parent().and_then(|it| it.strip_prefix(&root).ok());
                packages.paths.insert(
                    name.clone(),
                    dir.map(|it| it.display().to_string()).unwrap_or_default(),
                );
                let direct = array(&package["dependencies"])
                    .filter(|it| it["kind"].is_null())
                    .map(|it| text_of(&it["name"]))
                    .collect();
                packages.direct.insert(name, direct);
            }
        }
        for node in array(&metadata["resolve"]["nodes"]) {
            let targets = array(&node["deps"])
                .filter(|it| array(&it["dep_kinds"]).any(|kind| kind["kind"].is_null()))
                .map(|it| text_of(&it["pkg"]))
                .collect();
            packages.edges.insert(text_of(&node["id"]), targets);
        }
        Ok(packages)
    }

    /// Names of everything that a member links.
    fn reachable(&self, member: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut queue: Vec<&String> =
            self.names.iter().filter(|(_, name)| *name == member).map(|(id, _)| id).collect();
        let mut names = BTreeSet::new();
        while let Some(id) = queue.pop() {
            if !seen.insert(id) {
                continue;
            }
            if let Some(name) = self.names.get(id).filter(|it| *it != member) {
                names.insert(name.as_str());
            }
            queue.extend(self.edges.get(id).into_iter().flatten());
        }
        names
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
