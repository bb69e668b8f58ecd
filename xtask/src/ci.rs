//! `ci`: exactly what must pass before a change lands.

use crate::{
    codegen,
    sh::{self, say, step},
    test, tidy,
};

pub(crate) fn run() -> anyhow::Result<()> {
    let started = sh::now();
    step("Checking the format", || {
        sh::run(sh::command(env!("CARGO")).args(["fmt", "--all", "--check"]))
    })?;
    step("Tidy", tidy::run)?;
    step("Clippy", || {
        let mut cargo = sh::command(env!("CARGO"));
        cargo.args(["clippy", "--workspace", "--all-targets", "--quiet", "--locked", "--"]);
        sh::run(cargo.args(["-D", "warnings"]))
    })?;
    step("Documentation", || {
        let mut cargo = sh::command(env!("CARGO"));
        cargo.args(["doc", "--workspace", "--no-deps", "--quiet", "--locked"]);
        sh::run(cargo.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    step("Checking the generated data", || codegen::run(true))?;
    test::run(&test::TestOptions::ALL)?;
    say(format!("CI passed in {} min.", started.elapsed().as_secs().div_ceil(60)));
    Ok(())
}
