//! `tidy`: the rules of this tree that no compiler checks.

mod walls;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::sh;

/// A file above this size is not source.
const MAX_BLOB: u64 = 100 << 10;
/// Data files that are larger for a reason: the types of Kubernetes, compressed.
const LARGE_FILES: [&str; 2] = ["hub/api/data/", "Cargo.lock"];
/// Files of code above this length need a defence in their `//!`.
const MAX_LINES: usize = 800;

/// Checks everything and lists every fault.
pub(crate) fn run() -> anyhow::Result<()> {
    let files = tracked_files()?;
    let mut faults = Vec::new();
    for file in &files {
        check_file(file, &mut faults)?;
    }
    walls::check(&files, &mut faults)?;
    ensure!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    Ok(())
}

/// What git knows, and what it would add.
fn tracked_files() -> anyhow::Result<Vec<PathBuf>> {
    let list = sh::read(sh::command("git").args([
        "-c",
        "safe.directory=*",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    Ok(list.lines().map(PathBuf::from).filter(|it| sh::root().join(it).is_file()).collect())
}

fn check_file(file: &Path, faults: &mut Vec<String>) -> anyhow::Result<()> {
    let shown = file.display().to_string();
    let path = sh::root().join(file);
    let size = fs::metadata(&path)?.len();
    if size > MAX_BLOB && !LARGE_FILES.iter().any(|it| shown.starts_with(it)) {
        faults.push(format!("{shown}: {size} bytes; keep generated and binary files out"));
    }
    if file.extension().is_none_or(|it| it != "rs") {
        return Ok(());
    }
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {shown}"))?;
    check_source(&shown, &text, faults);
    Ok(())
}

fn check_source(shown: &str, text: &str, faults: &mut Vec<String>) {
    let first = text.lines().find(|it| !it.is_empty() && !it.starts_with("#!["));
    if !first.is_some_and(|it| it.starts_with("//!")) {
        faults.push(format!("{shown}: does not open with //! that says what it is for"));
    }
    if shown.ends_with("/mod.rs") {
        faults.push(format!("{shown}: name the file after the module instead"));
    }
    let code = text.lines().filter(|it| !it.trim_start().starts_with("//")).count();
    if code > MAX_LINES {
        faults.push(format!("{shown}: {code} lines of code; split it"));
    }
    let marks = [
        concat!("FIX", "ME"),
        concat!("to", "do!("),
        concat!("#[ign", "ore"),
        concat!("should_", "panic"),
    ];
    for (line, content) in (1..).zip(text.lines()) {
        for mark in marks {
            if content.contains(mark) {
                faults.push(format!("{shown}:{line}: {mark}"));
            }
        }
    }
}
