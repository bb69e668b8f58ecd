//! Running other programs: shown before they run, with their output when they fail.

use std::{
    ffi::OsStr,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// A command that starts in the root of the workspace, without standard input.
#[expect(clippy::disallowed_methods, reason = "a development tool runs other tools")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "a development tool measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Prints a line for the user.
#[expect(clippy::print_stdout, reason = "this is the command line")]
pub(crate) fn say(text: impl AsRef<str>) {
    println!("{}", text.as_ref());
}

/// Runs `work` as a step that the user sees begin and end.
pub(crate) fn step<T>(title: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let started = now();
    let spinner = if std::io::stdout().is_terminal() {
        let spinner = ProgressBar::new_spinner().with_message(title.to_owned());
        spinner.set_style(ProgressStyle::with_template("{spinner} {msg} ({elapsed})")?);
        spinner.enable_steady_tick(Duration::from_millis(120));
        Some(spinner)
    } else {
        say(format!("==> {title}"));
        None
    };
    let result = work();
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let seconds = started.elapsed().as_secs_f32();
    match &result {
        Ok(_) => say(format!("  ok  {title} ({seconds:.1} s)")),
        Err(_) => say(format!("FAIL  {title} ({seconds:.1} s)")),
    }
    result
}

/// Runs a command to its end and returns what it printed.
pub(crate) fn read(command: &mut Command) -> anyhow::Result<String> {
    let shown = show(command);
    let output = command.output().with_context(|| format!("could not run {shown}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{shown} failed ({})\n{stdout}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(stdout)
}

/// Runs a command to its end; its output goes to ours.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("could not run {shown}"))?;
    ensure!(status.success(), "{shown} failed ({status})");
    Ok(())
}

/// The command as a person would type it.
pub(crate) fn show(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|it| it.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Waits until `check` gives a value.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut check: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let started = now();
    loop {
        let last = match check() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            Err(err) => Some(err),
        };
        if started.elapsed() > limit {
            return Err(match last {
                Some(err) => err.context(format!("{what}: not within {limit:?}")),
                None => anyhow::anyhow!("{what}: not within {limit:?}"),
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Kernel work needs root.
pub(crate) fn ensure_root() -> anyhow::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let uid = status
        .lines()
        .find_map(|it| it.strip_prefix("Uid:"))
        .and_then(|it| it.split_whitespace().nth(1));
    ensure!(
        uid == Some("0"),
        "this needs root (namespaces, mounts, nftables): run it as root, or `sudo -E env PATH=$PATH cargo xtask ...`"
    );
    Ok(())
}

/// Finds a program on `PATH`.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|it| it.join(program))
        .find(|it| it.is_file())
}
