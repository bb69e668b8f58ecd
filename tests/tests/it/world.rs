//! A hub, its registry and its nodes, each in a network namespace of its own, on one switch.
//!
//! ```text
//!   namespace <id>-hub: bridge 10.99.0.1/24, hub, registry, kubectl
//!        |            |
//!   <id>-n0       <id>-n1      veth 10.99.0.10, .11: one agent each
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

const HUB_ADDRESS: &str = "10.99.0.1";
pub(crate) const REGISTRY: &str = "10.99.0.1:5000";
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// What takes longer has failed: two cores run everything, and other tests beside it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What `cargo xtask test` provides.
struct Tools {
    bin: PathBuf,
    registry_data: PathBuf,
    kubectl: PathBuf,
}

fn tools() -> Option<Tools> {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    Some(Tools {
        bin: path("OUTBYE_BIN_DIR")?,
        registry_data: path("OUTBYE_REGISTRY_DATA")?,
        kubectl: path("OUTBYE_KUBECTL")?,
    })
}

/// A program that `cargo xtask test` provides by this variable.
pub(crate) fn tool(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    path.map_or_else(|| panic!("cargo xtask test sets {variable}"), PathBuf::from)
}

/// Debian's kubectl of long ago.
pub(crate) fn old_kubectl() -> PathBuf {
    tool("OUTBYE_OLD_KUBECTL")
}

pub(crate) struct World {
    tools: Tools,
    pub(crate) dir: TempDir,
    id: String,
    registry: Option<Child>,
    hub: Option<Child>,
    /// More options of `outbye-hub serve`, for its next start.
    pub(crate) hub_options: Vec<String>,
    pub(crate) nodes: Vec<Node>,
    _turn: MutexGuard<'static, ()>,
}

pub(crate) struct Node {
    pub(crate) name: String,
    namespace: String,
    state_dir: PathBuf,
    run_dir: PathBuf,
    log: PathBuf,
    cgroup: String,
    bin: PathBuf,
    agent: Option<Child>,
}

/// Runs `test` in a world with so many nodes, all Ready. Without the tools of `cargo xtask test`
/// it is a skip on a laptop, and a failure where `REQUIRE_PRIVILEGED` is set.
pub(crate) fn with_world(n_nodes: u8, test: impl FnOnce(&mut World)) {
    let Some(tools) = tools() else {
        assert!(
            std::env::var_os("REQUIRE_PRIVILEGED").is_none(),
            "run these tests by `cargo xtask test`: it provides binaries, images and kubectl"
        );
        eprintln!("skipped: run by `cargo xtask test`");
        return;
    };
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut world = World::build(tools, n_nodes, turn);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&mut world)));
    if let Err(panic) = result {
        world.show_logs();
        drop(world);
        std::panic::resume_unwind(panic);
    }
    world.end();
}

impl World {
    fn build(tools: Tools, n_nodes: u8, turn: MutexGuard<'static, ()>) -> Self {
        let dir = tempfile::Builder::new().prefix("obt").tempdir().unwrap();
        let id = dir.path().file_name().unwrap().to_string_lossy().replace('.', "");
        let mut world = Self {
            tools,
            dir,
            id,
            registry: None,
            hub: None,
            hub_options: Vec::new(),
            nodes: Vec::new(),
            _turn: turn,
        };
        world.build_switch();
        world.start_registry();
        world.start_hub();
        for number in 0..n_nodes {
            world.add_node(number);
        }
        for number in 0..world.nodes.len() {
            let name = world.nodes[number].name.clone();
            world.wait(&format!("{name} to be Ready"), |it| it.node_is_ready(&name));
        }
        world
    }

    pub(crate) fn hub_namespace(&self) -> String {
        format!("{}-hub", self.id)
    }

    fn build_switch(&self) {
        let ns = self.hub_namespace();
        ip(&format!("netns add {ns}"));
        ip(&format!("-n {ns} link set lo up"));
        ip(&format!("-n {ns} link add lan type bridge"));
        ip(&format!("-n {ns} addr add {HUB_ADDRESS}/24 dev lan"));
        ip(&format!("-n {ns} link set lan up"));
    }

    fn start_registry(&mut self) {
        let config = json!({
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": self.tools.registry_data}},
            "http": {"addr": REGISTRY},
        });
        let path = self.dir.path().join("registry.yml");
        write(&path, &config.to_string());
        let mut command = inside(&self.hub_namespace(), "docker-registry");
        command.arg("serve").arg(path);
        self.registry = Some(spawn(command, &self.dir.path().join("registry.log")));
        wait_until("the registry", || listens(self.registry.as_ref(), 5000));
    }

    pub(crate) fn hub_command(&self) -> Command {
        inside(&self.hub_namespace(), self.tools.bin.join("outbye-hub"))
    }

    pub(crate) fn start_hub(&mut self) {
        let mut command = self.hub_command();
        command.arg("serve").arg("--data-dir").arg(self.hub_dir());
        command.args(["--listen", "10.99.0.1:6443", "--sync-listen", "10.99.0.1:6444"]);
        command.args(&self.hub_options);
        self.hub = Some(spawn(command, &self.dir.path().join("hub.log")));
        wait_until("the hub", || listens(self.hub.as_ref(), 6443));
    }

    pub(crate) fn hub_dir(&self) -> PathBuf {
        self.dir.path().join("hub")
    }

    /// As a crash does it.
    pub(crate) fn kill_hub(&mut self) {
        if let Some(mut hub) = self.hub.take() {
            hub.kill().unwrap();
            hub.wait().unwrap();
        }
    }

    pub(crate) fn token(&self) -> String {
        let mut command = self.hub_command();
        command.args(["token", "create", "--data-dir"]).arg(self.hub_dir());
        let output = wait_for("a token", || {
            let output = command.output().unwrap();
            if output.status.success() { Ok(output) } else { Err(text(&output)) }
        });
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn add_node(&mut self, number: u8) {
        let node = self.make_node(number, &format!("n{number}"));
        let token = self.token();
        let output = node.join(&token, &node.name);
        assert!(output.status.success(), "could not join: {}", text(&output));
        self.nodes.push(node);
        self.nodes.last_mut().unwrap().start();
    }

    /// A machine on the switch that has not joined.
    pub(crate) fn make_node(&self, number: u8, name: &str) -> Node {
        let (hub, ns) = (self.hub_namespace(), format!("{}-n{number}", self.id));
        let address = Ipv4Addr::new(10, 99, 0, 10 + number);
        ip(&format!("netns add {ns}"));
        ip(&format!("-n {ns} link set lo up"));
        ip(&format!("-n {hub} link add lan{number} type veth peer name eth0 netns {ns}"));
        ip(&format!("-n {hub} link set lan{number} master lan up"));
        ip(&format!("-n {ns} addr add {address}/24 dev eth0"));
        ip(&format!("-n {ns} link set eth0 up"));
        ip(&format!("-n {ns} route add default via {HUB_ADDRESS}"));
        let dir = self.dir.path().join(format!("n{number}"));
        Node {
            name: name.to_owned(),
            namespace: ns,
            state_dir: dir.join("state"),
            run_dir: dir.join("run"),
            log: self.dir.path().join(format!("n{number}.log")),
            cgroup: format!("{}-n{number}", self.id),
            bin: self.tools.bin.clone(),
            agent: None,
        }
    }

    pub(crate) fn set_link(&self, node: usize, state: &str) {
        ip(&format!("-n {} link set lan{node} {state}", self.hub_namespace()));
    }

    /// Runs kubectl; its output whatever comes of it.
    pub(crate) fn try_kubectl(&self, args: &[&str]) -> Output {
        self.kubectl_command(&self.tools.kubectl).args(args).output().unwrap()
    }

    pub(crate) fn kubectl_path(&self) -> PathBuf {
        self.tools.kubectl.clone()
    }

    pub(crate) fn kubectl_command(&self, program: &Path) -> Command {
        let mut command = inside(&self.hub_namespace(), program);
        command.env("KUBECONFIG", self.hub_dir().join("admin.kubeconfig"));
        command.env("HOME", self.dir.path());
        command
    }

    /// Runs kubectl, which must succeed.
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        let output = self.try_kubectl(args);
        assert!(output.status.success(), "kubectl {}: {}", args.join(" "), text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Applies manifests, JSON or YAML.
    pub(crate) fn apply(&self, manifest: &str) -> String {
        let output = self.try_apply(manifest);
        assert!(output.status.success(), "apply: {}", text(&output));
        text(&output)
    }

    pub(crate) fn try_apply(&self, manifest: &str) -> Output {
        let path = self.dir.path().join("manifest.yaml");
        write(&path, manifest);
        self.try_kubectl(&["apply", "-f", &path.display().to_string()])
    }

    pub(crate) fn get(&self, args: &[&str]) -> Value {
        let mut all = vec!["get", "-o", "json"];
        all.extend(args);
        serde_json::from_str(&self.kubectl(&all)).unwrap()
    }

    pub(crate) fn node_is_ready(&self, name: &str) -> Result<(), String> {
        let output = self.try_kubectl(&["get", "node", name, "-o", "json"]);
        let node: Value = serde_json::from_slice(&output.stdout).map_err(|_| text(&output))?;
        match condition(&node, "Ready") {
            Some("True") => Ok(()),
            _ => Err(node["status"]["conditions"].to_string()),
        }
    }

    /// Waits until the pod's condition Ready is true; the answer is the pod.
    pub(crate) fn wait_ready(&self, pod: &str) -> Value {
        self.wait(&format!("pod {pod} to be Ready"), |it| {
            let output = it.try_kubectl(&["get", "pod", pod, "-o", "json"]);
            let pod: Value = serde_json::from_slice(&output.stdout).map_err(|_| text(&output))?;
            match condition(&pod, "Ready") {
                Some("True") => Ok(pod),
                _ => Err(pod["status"].to_string()),
            }
        })
    }

    /// What a web server on the hub's loopback answers there.
    pub(crate) fn fetch_at_hub(&self, port: u16) -> Result<String, String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        within(&self.hub_namespace(), move || request(&address).map_err(|err| err.to_string()))
    }

    /// Waits until `check` says yes; fails with what it said last.
    pub(crate) fn wait<T>(
        &self,
        what: &str,
        mut check: impl FnMut(&Self) -> Result<T, String>,
    ) -> T {
        wait_for(what, || check(self))
    }

    fn show_logs(&self) {
        let mut logs = vec![self.dir.path().join("hub.log")];
        logs.extend(self.nodes.iter().map(|it| it.log.clone()));
        for log in logs {
            let content = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = content.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("--- end of {}\n{tail}", log.display());
        }
    }

    /// Takes everything down and checks that nothing is left.
    fn end(mut self) {
        let mut left = Vec::new();
        for node in &mut self.nodes {
            left.extend(node.end());
        }
        drop(self);
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.end();
        }
        for child in [&mut self.hub, &mut self.registry].into_iter().flatten() {
            // Already ended is what we want.
            let _ended = child.kill();
            let _ended = child.wait();
        }
        for node in &self.nodes {
            ip(&format!("netns del {}", node.namespace));
        }
        ip(&format!("netns del {}", self.hub_namespace()));
    }
}

impl Node {
    /// The node's command line, in its namespace.
    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = inside(&self.namespace, self.bin.join("outbye-agent"));
        command.arg(subcommand);
        command.arg("--state-dir").arg(&self.state_dir).arg("--run-dir").arg(&self.run_dir);
        command
    }

    pub(crate) fn join(&self, token: &str, name: &str) -> Output {
        self.join_at("10.99.0.1:6444", token, name)
    }

    /// Joins a hub of this address, or one of several.
    pub(crate) fn join_at(&self, hub: &str, token: &str, name: &str) -> Output {
        let mut join = self.command("join");
        join.args(["--hub", hub, "--token", token, "--node-name", name]);
        join.output().unwrap()
    }

    pub(crate) fn start(&mut self) {
        let mut command = self.command("run");
        command.args(["--plain-http-registry", REGISTRY, "--cgroup-root", &self.cgroup]);
        self.agent = Some(spawn(command, &self.log));
        wait_for("the agent", || {
            let output = self.command("status").output().unwrap();
            if output.status.success() { Ok(()) } else { Err(text(&output)) }
        });
    }

    /// As a crash does it.
    pub(crate) fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }

    pub(crate) fn agent_output(&self, subcommand: &str, args: &[&str]) -> Output {
        self.command(subcommand).args(args).output().unwrap()
    }

    /// How often the agent has connected to its hub so far.
    pub(crate) fn n_connects(&self) -> usize {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.matches("Connected to the hub").count()
    }

    /// A command in the node's namespace.
    pub(crate) fn inside(&self, program: &str) -> Command {
        inside(&self.namespace, program)
    }

    /// What a web server answers to this node.
    pub(crate) fn fetch(&self, address: &str) -> Result<String, String> {
        let address = format!("{address}:80").parse().unwrap();
        within(&self.namespace, move || request(&address).map_err(|err| err.to_string()))
    }

    /// What runs in this node's containers, as the kernel sees it.
    pub(crate) fn processes(&self) -> BTreeMap<u32, String> {
        let mut found = BTreeMap::new();
        // One hierarchy of cgroup v1, or the only one of v2.
        for hierarchy in ["memory", "."] {
            collect(&Path::new("/sys/fs/cgroup").join(hierarchy).join(&self.cgroup), &mut found);
        }
        found
    }

    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Stops the agent and removes everything; the answer is what is left all the same.
    fn end(&mut self) -> Vec<String> {
        self.kill_agent();
        if !self.state_dir.exists() {
            return Vec::new();
        }
        let output = self.agent_output("reset", &["--yes", "--cgroup-root", &self.cgroup]);
        let mut left = Vec::new();
        if !output.status.success() {
            left.push(text(&output));
        }
        let dir = self.run_dir.parent().unwrap().to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(mounts.lines().filter(|it| it.contains(&dir)).map(|it| format!("mount {it}")));
        for cgroup in ["", "memory", "pids", "cpu", "unified"] {
            let path = Path::new("/sys/fs/cgroup").join(cgroup).join(&self.cgroup);
            if path.exists() {
                left.push(format!("cgroup {}", path.display()));
            }
        }
        if left.is_empty() {
            fs::remove_dir_all(self.run_dir.parent().unwrap()).unwrap();
        }
        left
    }
}

fn collect(dir: &Path, found: &mut BTreeMap<u32, String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        found.insert(pid.parse().unwrap(), command);
    }
    for entry in entries.filter_map(Result::ok).filter(|it| it.path().is_dir()) {
        collect(&entry.path(), found);
    }
}

/// Runs `work` in a network namespace.
pub(crate) fn within<T: Send + 'static>(
    namespace: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    match start_within(namespace, work).join() {
        Ok(answer) => answer,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Starts `work` in a network namespace, on a thread of its own: entering a namespace concerns the
/// thread, for good.
pub(crate) fn start_within<T: Send + 'static>(
    namespace: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// One HTTP/1.0 request; the answer is the body.
fn request(address: &SocketAddr) -> io::Result<String> {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(io::Error::other(text)),
    }
}

/// `status.conditions` of this type.
pub(crate) fn condition<'a>(object: &'a Value, ty: &str) -> Option<&'a str> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|it| it["type"] == ty)
        .and_then(|it| it["status"].as_str())
}

/// What a command said, for messages.
pub(crate) fn text(output: &Output) -> String {
    format!(
        "{} {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[expect(clippy::disallowed_methods, reason = "a test measures time")]
pub(crate) fn wait_for<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match check() {
            Ok(value) => return value,
            Err(why) => {
                assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}: {why}");
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[expect(clippy::disallowed_methods, reason = "a test measures time")]
pub(crate) fn wait_until(what: &str, check: impl Fn() -> bool) {
    let started = Instant::now();
    while !check() {
        assert!(started.elapsed() < START_TIMEOUT, "waited {START_TIMEOUT:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A command in a network namespace; mounts and cgroups are the machine's.
#[expect(clippy::disallowed_methods, reason = "tests run programs")]
pub(crate) fn inside(namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(program);
    command.stdin(Stdio::null());
    command
}

/// Whether somebody listens on this TCP port in the namespace of the process.
pub(crate) fn listens(child: Option<&Child>, port: u16) -> bool {
    let Some(child) = child else { return false };
    let wanted = format!(":{port:04X}");
    ["tcp", "tcp6"].iter().any(|table| {
        // Address and port, the peer's, and state 0A: proc_net_tcp(5).
        fs::read_to_string(format!("/proc/{}/net/{table}", child.id()))
            .unwrap_or_default()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .any(|it| it.len() > 3 && it[1].ends_with(&wanted) && it[3] == "0A")
    })
}

#[expect(clippy::disallowed_methods, reason = "tests run programs")]
pub(crate) fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", text(&output));
}

pub(crate) fn spawn(mut command: Command, log: &Path) -> Child {
    let file = File::options().create(true).append(true).open(log).unwrap();
    command.stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
    command.spawn().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "scratch files of a test")]
pub(crate) fn write(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "scratch files of a test")]
pub(crate) fn write_bytes(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
}
