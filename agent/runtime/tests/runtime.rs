//! Containers against the real kernel, driven through the keeper as the agent drives it.
//!
//! No test harness: this program is also the keeper that its cases start, so `dispatch` comes first. An
//! argument selects cases by a part of their name. Needs root; without it everything is skipped, or
//! fails if `REQUIRE_PRIVILEGED=1`.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "this program is a test, which clippy cannot know without the usual harness"
)]

#[path = "runtime/world.rs"]
mod world;

#[path = "runtime/lifecycle.rs"]
mod lifecycle;
#[path = "runtime/processes.rs"]
mod processes;
#[path = "runtime/security.rs"]
mod security;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use world::World;

type Case = (&'static str, fn(&mut World) -> outcome::Result);

/// Errors of a case are texts.
mod outcome {
    pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;
}

fn cases() -> Vec<Case> {
    [lifecycle::CASES, processes::CASES, security::CASES].concat()
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = agent_runtime::dispatch(&args) {
        return code;
    }
    if args.get(1).is_some_and(|it| it == "second-agent") {
        return processes::second_agent(&args);
    }
    let filter = args.iter().skip(1).filter_map(|it| it.to_str()).find(|it| !it.starts_with('-'));
    if !rustix::process::geteuid().is_root() {
        let required = std::env::var_os("REQUIRE_PRIVILEGED").is_some();
        println!("runtime: skipped, needs root");
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let (mut passed, mut failed, mut filtered) = (0, Vec::new(), 0);
    for (name, case) in cases() {
        if filter.is_some_and(|it| !name.contains(it)) {
            filtered += 1;
            continue;
        }
        match World::run(case, Duration::from_secs(30)) {
            Ok(()) => {
                println!("test {name} ... ok");
                passed += 1;
            }
            Err(err) => {
                println!("test {name} ... FAILED: {err}");
                failed.push(name);
            }
        }
    }
    println!("test result: {passed} passed; {} failed; {filtered} filtered out", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
