//! `test`: every test there is, from units to virtual machines, and how many ran.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::{
    cluster::Cluster,
    dist, example_images,
    oci_push::{ImageConfigInput, push_image},
    sh::{self, say, step},
    tools, up, vm,
};

#[derive(clap::Args)]
pub(crate) struct TestOptions {
    /// Leave out what boots virtual machines
    #[arg(long)]
    no_vm: bool,
    /// Leave out `up` and `down` on this machine
    #[arg(long)]
    no_up: bool,
}

impl TestOptions {
    /// Leaves nothing out.
    pub(crate) const ALL: Self = Self { no_vm: false, no_up: false };
}

/// Runs them. Fails if one fails, or if none ran.
pub(crate) fn run(options: &TestOptions) -> anyhow::Result<()> {
    sh::ensure_root()?;
    tools::ensure_packages(&tools::UP)?;
    tools::ensure_packages(&tools::TEST)?;
    let kubectl = tools::current_kubectl()?;
    let old_kubectl = tools::old_kubectl()?;
    let (helm3, helm4) = (tools::helm(3)?, tools::helm(4)?);
    let (informers, python) = (tools::informers()?, tools::python()?);
    let mut counts = Counts::default();

    let bin = step("Building the binaries under test", || dist::build(dist::Purpose::Test))?;
    let registry_data = sh::root().join("target/test-registry");
    step("Filling a registry for the tests", || fill_registry(&registry_data))?;
    step("Running unit, property, kernel and client tests", || {
        let mut cargo = sh::command(env!("CARGO"));
        cargo.args(["test", "--workspace", "--no-fail-fast"]);
        cargo.env("REQUIRE_PRIVILEGED", "1");
        cargo.env("OUTBYE_BIN_DIR", &bin);
        cargo.env("OUTBYE_REGISTRY_DATA", registry_data.join("registry/data"));
        cargo.env("OUTBYE_KUBECTL", &kubectl).env("OUTBYE_OLD_KUBECTL", &old_kubectl);
        cargo.env("OUTBYE_HELM3", &helm3).env("OUTBYE_HELM4", &helm4);
        cargo.env("OUTBYE_INFORMERS", &informers).env("OUTBYE_PYTHON", &python);
        counts.absorb(cargo)
    })?;
    if !options.no_up {
        step("Running the README's main job: up, up again, down", || {
            up::up()?;
            up::up()?;
            up::down()?;
            counts.passed += 1;
            Ok(())
        })?;
    }
    if !options.no_vm {
        counts.passed += vm::run(&vm::VmOptions::CI)?;
    }
    ensure!(counts.passed > 0, "no test ran");
    ensure!(counts.ignored == 0, "{} tests are ignored: mend or remove them", counts.ignored);
    say(format!("{} tests passed, none failed, none were skipped.", counts.passed));
    Ok(())
}

/// The example images, in the data of a registry that the tests start themselves.
fn fill_registry(dir: &Path) -> anyhow::Result<()> {
    let cluster = Cluster::registry_only(dir);
    cluster.stop("registry")?;
    cluster.start_registry()?;
    let registry = cluster.addresses.registry;
    let pushed = example_images::build_and_push(registry, &dir.join("images"))
        .and_then(|()| push_foreign(registry));
    cluster.stop("registry")?;
    pushed
}

/// An image that no machine here can run.
fn push_foreign(registry: &str) -> anyhow::Result<()> {
    let config = ImageConfigInput { architecture: Some("s390x"), ..ImageConfigInput::default() };
    push_image(registry, "outbye/foreign", "1", &[], &config).map(drop)
}

#[derive(Default)]
struct Counts {
    passed: usize,
    ignored: usize,
}

impl Counts {
    /// Runs `cargo test`, shows what it prints and adds its results up.
    fn absorb(&mut self, mut cargo: Command) -> anyhow::Result<()> {
        let shown = sh::show(&cargo);
        let mut child = cargo.stdout(Stdio::piped()).spawn().context("could not run cargo")?;
        let stdout = child.stdout.take().context("cargo has no output")?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if let Some((passed, ignored)) = parse_result(&line) {
                self.passed += passed;
                self.ignored += ignored;
            }
            say(line);
        }
        let status = child.wait()?;
        ensure!(status.success(), "{shown} failed ({status})");
        Ok(())
    }
}

/// Reads `test result: ok. 7 passed; 0 failed; 0 ignored; ...`.
fn parse_result(line: &str) -> Option<(usize, usize)> {
    let rest = line.strip_prefix("test result: ")?;
    let count = |what: &str| {
        rest.split([';', '.']).find_map(|it| it.trim().strip_suffix(what)?.trim().parse().ok())
    };
    Some((count("passed")?, count("ignored")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read() {
        let line = "test result: ok. 7 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.47s";
        assert_eq!(parse_result(line), Some((7, 2)));
        assert_eq!(parse_result("running 7 tests"), None);
    }
}
