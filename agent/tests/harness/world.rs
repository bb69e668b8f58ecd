//! One agent with directories, bridge, tables and control groups of its own.
#![expect(clippy::disallowed_methods, reason = "a test runs the program from outside")]

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::Value;
use tempfile::TempDir;

use super::{image, registry};

const PROGRAM: &str = env!("CARGO_BIN_EXE_outbye-agent");
/// Long enough for the slowest machine; a test that waits so long has failed.
const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
/// Worlds of one process.
const MAX_WORLDS: u32 = 16;

static WORLDS: AtomicU32 = AtomicU32::new(0);

pub(crate) struct World {
    dir: TempDir,
    registry: String,
    /// Part of every name, so that tests do not meet.
    tag: String,
    subnet: u8,
    agent: Option<Child>,
}

impl World {
    /// A running agent; `None` where the test cannot be run.
    pub(crate) fn start(name: &str) -> Option<Self> {
        let image = image::build();
        let able = nix::unistd::geteuid().is_root() && image.is_some();
        if !able {
            assert!(std::env::var_os("REQUIRE_PRIVILEGED").is_none(), "needs root and busybox");
            return None;
        }
        let tag = format!("t{}{}", std::process::id(), &name[..1]);
        // Tests of one process, and tests of different processes, have different addresses.
        let nth = WORLDS.fetch_add(1, Ordering::Relaxed);
        let subnet = u8::try_from((std::process::id() * MAX_WORLDS + nth) % 250).ok()?;
        let registry = registry::serve(image?);
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self { dir, registry, tag, subnet, agent: None };
        world.start_agent();
        Some(world)
    }

    pub(crate) fn image(&self) -> String {
        format!("{}/box:1", self.registry)
    }

    fn command(&self, args: &[&str]) -> Command {
        self.command_by(Command::new(PROGRAM), args)
    }

    fn command_by(&self, mut command: Command, args: &[&str]) -> Command {
        command.env("OUTBYE_STATE_DIR", self.dir.path().join("state"));
        command.env("OUTBYE_RUN_DIR", self.dir.path().join("run"));
        command.args(args);
        command
    }

    fn names(&self) -> [String; 6] {
        let bridge = format!("b{}", self.tag);
        let table = format!("outbye-{}", self.tag);
        [
            "--bridge".into(),
            bridge,
            "--nft-table".into(),
            table.clone(),
            "--cgroup-root".into(),
            table,
        ]
    }

    pub(crate) fn start_agent(&mut self) {
        self.start_agent_by(Command::new(PROGRAM));
    }

    /// Starts an agent that a limit on its files does not end: its writes fail.
    pub(crate) fn start_patient_agent(&mut self) {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", PROGRAM]);
        self.start_agent_by(shell);
    }

    fn start_agent_by(&mut self, program: Command) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let cidr = format!("10.211.{}.0/24", self.subnet);
        let args = ["run", "--node-name", "n", "--pod-cidr", &cidr];
        let mut command = self.command_by(program, &args);
        command.args(["--plain-http-registry", &self.registry, "--cluster-cidr", "10.211.0.0/16"]);
        command.args(["--service-cidr", "10.212.0.0/16"]).args(self.names());
        self.agent = Some(command.stdin(Stdio::null()).stderr(log).spawn().unwrap());
        self.wait_for("the agent answers", |world| world.run(&["status"]).0 == 0);
    }

    pub(crate) fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// Lets every further write of the agent to a file fail, until it is started again.
    pub(crate) fn break_disk(&self) {
        let pid = i32::try_from(self.agent.as_ref().unwrap().id()).unwrap();
        let nothing = Rlimit { current: Some(0), maximum: None };
        prlimit(rustix::process::Pid::from_raw(pid), Resource::Fsize, nothing).unwrap();
    }

    /// The exit code of an agent that ends by itself.
    pub(crate) fn wait_for_end(&mut self) -> i32 {
        let begin = Instant::now();
        let agent = self.agent.as_mut().unwrap();
        loop {
            if let Some(status) = agent.try_wait().unwrap() {
                self.agent = None;
                return status.code().unwrap_or(-1);
            }
            assert!(begin.elapsed() < DEADLINE, "the agent goes on");
            thread::sleep(PAUSE);
        }
    }

    /// Exit code and output of a command.
    pub(crate) fn run(&self, args: &[&str]) -> (i32, String) {
        let output = self.command(args).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap_or(-1), text)
    }

    /// What a command answers to this input.
    pub(crate) fn pipe(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input).unwrap());
            child.wait_with_output().unwrap().stdout
        })
    }

    /// Replaces what is desired.
    pub(crate) fn put(&self, objects: &[Value]) {
        let file = self.dir.path().join("objects.json");
        fs::write(&file, Value::Array(objects.to_vec()).to_string()).unwrap();
        let (code, text) = self.run(&["put-desired", file.to_str().unwrap()]);
        assert_eq!(code, 0, "{text}");
    }

    pub(crate) fn rows(&self) -> Value {
        let (code, text) = self.run(&["ps", "--json"]);
        assert_eq!(code, 0);
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) fn wait(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        self.wait_for(what, |world| holds(&world.rows()));
    }

    pub(crate) fn wait_for(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            if begin.elapsed() > DEADLINE {
                let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                panic!(
                    "it did not come true that {what}\n{}\n{log}",
                    self.run(&["ps", "--json"]).1
                );
            }
            thread::sleep(PAUSE);
        }
    }

    /// Body of a page in a pod.
    pub(crate) fn get(&self, ip: &str, path: &str) -> String {
        let mut stream = TcpStream::connect((ip, 8080)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Processes in this agent's control groups whose command line begins so.
    fn find(&self, command: &str) -> Vec<i32> {
        let root = format!("outbye-{}", self.tag);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
            let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let groups = String::from_utf8_lossy(&read("cgroup")).into_owned();
            if line.starts_with(command) && groups.contains(&root) {
                found.push(pid);
            }
        }
        // A server forks for every request: what counts is the process that the container began.
        found.iter().copied().filter(|pid| !found.contains(&parent(*pid))).collect()
    }

    pub(crate) fn processes(&self, command: &str) -> usize {
        self.find(command).len()
    }

    /// What the kernel says about the control group of a process.
    pub(crate) fn pids_limit_of(pid: i32) -> String {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        // `8:pids:/path`, or `0::/path` where there is one hierarchy. The pod's is above the container's.
        let path = |line: &str, kind: &str| Some(line.split_once(kind)?.1.to_owned());
        let v1 = groups.lines().find_map(|it| path(it, ":pids:/"));
        let file = match v1 {
            Some(path) => format!("/sys/fs/cgroup/pids/{path}/../pids.max"),
            None => {
                let path = groups.lines().find_map(|it| path(it, "0::/")).unwrap();
                format!("/sys/fs/cgroup/{path}/../pids.max")
            }
        };
        fs::read_to_string(file).unwrap().trim().to_owned()
    }

    pub(crate) fn exec_pid(&self, command: &str) -> i32 {
        let found = self.find(command);
        assert_eq!(found.len(), 1, "{command}: {found:?}");
        found[0]
    }

    pub(crate) fn kill_process(&self, command: &str) {
        kill(Pid::from_raw(self.exec_pid(command)), Signal::SIGKILL).unwrap();
    }

    /// Pods at this agent's bridge.
    pub(crate) fn links(&self) -> usize {
        let dir = format!("/sys/class/net/b{}/brif", self.tag);
        fs::read_dir(dir).map_or(0, Iterator::count)
    }

    /// What the kernel lets this agent's pods send, as `nft` shows it; empty where there is no such table.
    pub(crate) fn guarded(&self) -> String {
        let [_, _, _, table, ..] = self.names();
        let output =
            Command::new("nft").args(["list", "table", "bridge", &table]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Stops the agent as an operator does, and removes everything.
    pub(crate) fn reset(mut self) {
        self.clean();
        assert_eq!(self.guarded(), "");
        assert!(!self.dir.path().join("state").exists() && !self.dir.path().join("run").exists());
        assert!(!Path::new(&format!("/sys/class/net/b{}", self.tag)).exists());
    }

    fn clean(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let pid = i32::try_from(agent.id()).unwrap();
            kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
            let status = agent.wait().unwrap();
            assert!(status.success(), "{status}");
        }
        let names = self.names();
        let mut args = vec!["reset", "--yes"];
        args.extend(names.iter().map(String::as_str));
        let output = self.command(&args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A test that failed leaves nothing either.
        if self.agent.is_some() && thread::panicking() {
            self.kill_agent();
            let names = self.names();
            let _ = self.command(&["reset", "--yes"]).args(names).output();
        }
    }
}

/// The parent of a process, 0 when it is gone.
fn parent(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name is in parentheses and may hold anything: proc_pid_stat(5).
    let fields = stat.rsplit_once(')').map(|it| it.1.split_whitespace());
    fields.and_then(|mut it| it.nth(1)?.parse().ok()).unwrap_or(0)
}
