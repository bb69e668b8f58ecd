//! `fuzz`: runs fuzz targets for as long as is wanted. They are tests, and `cargo test` runs each for a moment.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::sh::{self, say};

#[derive(clap::Args)]
pub(crate) struct FuzzOptions {
    /// Which; `all` for each in turn. They are listed when none is named
    targets: Vec<String>,
    /// For how long, each
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// One test of a file `fuzz.rs`.
struct Target {
    name: String,
    package: String,
    test: String,
}

pub(crate) fn run(options: &FuzzOptions) -> anyhow::Result<()> {
    let all = find()?;
    if options.targets.is_empty() {
        all.iter().for_each(|it| say(format!("{:24} {}", it.name, it.package)));
        return Ok(());
    }
    let is_all = options.targets == ["all"];
    let wanted = |it: &&Target| is_all || options.targets.contains(&it.name);
    let targets: Vec<&Target> = all.iter().filter(wanted).collect();
    ensure!(
        is_all || targets.len() == options.targets.len(),
        "there is no such target; `cargo xtask fuzz` lists them"
    );
    let dir = sh::root().join("target/fuzz");
    fs::create_dir_all(&dir)?;
    let mut failed = Vec::new();
    for target in targets {
        if let Err(err) = fuzz(target, options.seconds, &dir) {
            say(format!("{err:#}"));
            failed.push(target.name.as_str());
        }
    }
    ensure!(
        failed.is_empty(),
        "inputs of {} failed: mend what reads them, and add them to the seeds",
        failed.join(", ")
    );
    Ok(())
}

fn fuzz(target: &Target, seconds: u64, dir: &Path) -> anyhow::Result<()> {
    let mut cargo = sh::command(env!("CARGO"));
    cargo.args(["test", "--quiet", "--package", &target.package, "--lib"]);
    cargo.args([&target.test, "--", "--nocapture", "--exact"]);
    cargo.env("OUTBYE_FUZZ_SECONDS", seconds.to_string()).env("OUTBYE_FUZZ_DIR", dir);
    let current = dir.join(format!("{}.current", target.name));
    sh::run(&mut cargo).with_context(|| {
        format!("{} failed; the last input is in {}", target.name, current.display())
    })
}

/// All that there are, by the text of the sources.
fn find() -> anyhow::Result<Vec<Target>> {
    let listed =
        sh::read(sh::command("git").args(["ls-files", "--cached", "--others", "*/fuzz.rs"]))?;
    let mut targets = Vec::new();
    for file in listed.lines().filter(|it| !it.starts_with("xtask/")) {
        let (package, module) =
            file.split_once("/src/").with_context(|| format!("{file} is in no src"))?;
        let module = module.trim_end_matches(".rs").replace('/', "::");
        let text = fs::read_to_string(sh::root().join(PathBuf::from(file)))?;
        let mut test = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("fn ").and_then(|it| it.strip_suffix("() {")) {
                test = Some(name);
            }
            let name = line.split_once("::new(\"").and_then(|(_, it)| it.split_once('"'));
            let is_target = line.contains("Target::new(") || line.contains("Fuzz::new(");
            if let (true, Some((name, _)), Some(test)) =
                (is_target, name, test.take_if(|_| is_target))
            {
                targets.push(Target {
                    name: name.to_owned(),
                    package: package.replace('/', "-"),
                    test: format!("{module}::{test}"),
                });
            }
        }
    }
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_names_of_their_own() {
        let targets = find().unwrap();
        let mut names: Vec<&str> = targets.iter().map(|it| it.name.as_str()).collect();
        assert!(names.contains(&"spdy-frames") && names.contains(&"bodies"), "{names:?}");
        let frames = targets.iter().find(|it| it.name == "spdy-frames").unwrap();
        assert_eq!(frames.test, "streaming::spdy::fuzz::spdy_frames");
        let n = names.len();
        names.dedup();
        assert_eq!(names.len(), n);
    }
}
