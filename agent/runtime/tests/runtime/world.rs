//! One case's own world: directories, a keeper, a root cgroup, and an image made of busybox.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent_runtime::{
    CgroupPath, ContainerId, ContainerSpec, ExitStatus, Phase, Resources, Runtime, RuntimeConfig,
    RuntimeEvent, SandboxId, SandboxSpec,
};

use crate::outcome::Result;

/// What an ended container left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) exit: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: RuntimeConfig,
    pub(crate) runtime: Runtime,
    tokio: tokio::runtime::Runtime,
    next: u32,
}

static WORLDS: AtomicU32 = AtomicU32::new(0);

impl World {
    /// Runs a case in a world of its own and takes that down again, whatever happens.
    pub(crate) fn run(case: fn(&mut Self) -> Result, deadline: Duration) -> Result {
        let tokio =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let dir = tempfile::tempdir()?;
        let name = format!(
            "outbye-test-{}-{}",
            std::process::id(),
            WORLDS.fetch_add(1, Ordering::Relaxed)
        );
        let config = RuntimeConfig {
            state_dir: dir.path().join("state"),
            run_dir: dir.path().join("run"),
            cgroup_root: name.clone(),
        };
        make_image(&dir.path().join("image"))?;
        let runtime = tokio.block_on(Runtime::connect(&config))?;
        let mut world = Self { dir, config, runtime, tokio, next: 0 };
        let watchdog = world.tokio.handle().clone();
        let guard = watchdog.spawn_blocking_deadline(deadline);
        let caught = catch_unwind(AssertUnwindSafe(|| case(&mut world)));
        let result = caught.unwrap_or_else(|_| Err("an assertion failed, see above".into()));
        drop(guard);
        let down = world.take_down();
        result.and(down)
    }

    pub(crate) fn block<T>(&self, future: impl Future<Output = T>) -> T {
        self.tokio.block_on(future)
    }

    fn take_down(self) -> Result {
        let runtime = self.runtime.clone();
        self.tokio.block_on(async {
            for sandbox in runtime.list().await?.sandboxes {
                runtime.remove_sandbox(&sandbox.id).await?;
            }
            for container in runtime.list().await?.containers {
                runtime.remove_container(&container.id).await?;
            }
            runtime.retire_keeper().await?;
            Result::Ok(())
        })?;
        drop(runtime);
        for mount in fs::read_dir("/sys/fs/cgroup")?.flatten() {
            let root = mount.path().join(&self.config.cgroup_root);
            wait_until(|| remove_cgroups(&root));
        }
        let left = fs::read_to_string("/proc/self/mountinfo")?;
        if left.contains(&*self.dir.path().to_string_lossy()) {
            return Err("mounts were left behind".into());
        }
        Ok(())
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// A further layer with these files on top of the image.
    pub(crate) fn layer(
        &self,
        name: &str,
        build: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<PathBuf> {
        let layer = self.dir.path().join(name);
        fs::create_dir_all(&layer)?;
        build(&layer)?;
        Ok(layer)
    }

    pub(crate) fn sandbox_spec(&self, name: &str) -> SandboxSpec {
        SandboxSpec {
            id: SandboxId::new(name).unwrap(),
            hostname: format!("{name}-host"),
            host_network: false,
            host_pid: false,
            host_ipc: false,
            share_process_namespace: false,
            cgroup: CgroupPath::new(format!("burstable/pod{name}")).unwrap(),
            resources: Resources::default(),
            sysctls: BTreeMap::new(),
        }
    }

    pub(crate) fn sandbox(&self, name: &str) -> Result {
        self.block(self.runtime.ensure_sandbox(&self.sandbox_spec(name)))?;
        Ok(())
    }

    /// A container in sandbox `s` that runs a script.
    pub(crate) fn sh(&mut self, script: &str) -> ContainerSpec {
        self.next += 1;
        let id = ContainerId::new(format!("c{}", self.next)).unwrap();
        let log = self.dir.path().join(format!("{id}.log"));
        let args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        ContainerSpec::new(id, SandboxId::new("s").unwrap(), vec![self.image()], args, log)
    }

    pub(crate) fn start(&self, spec: &ContainerSpec) -> Result<i32> {
        let state = self.block(self.runtime.ensure_container(spec)).map_err(with_source)?;
        match state.phase {
            Phase::Running { pid, .. } => Ok(pid),
            other => Err(format!("not running: {other:?}").into()),
        }
    }

    /// Runs a container until it ends.
    pub(crate) fn run_to_end(&self, spec: &ContainerSpec) -> Result<Ended> {
        let mut events = self.runtime.events();
        self.block(self.runtime.ensure_container(spec)).map_err(with_source)?;
        let exit = self.block(wait_exit(&mut events, &spec.id))?;
        let (stdout, stderr) = read_log(&spec.log_path)?;
        Ok(Ended { exit, stdout, stderr })
    }

    /// Runs a script until it ends, and returns what it printed.
    pub(crate) fn output(&mut self, script: &str) -> Result<String> {
        let spec = self.sh(script);
        Ok(self.run_to_end(&spec)?.stdout)
    }
}

trait Deadline {
    fn spawn_blocking_deadline(&self, deadline: Duration) -> std::sync::mpsc::Sender<()>;
}

impl Deadline for tokio::runtime::Handle {
    /// Ends the whole program if the result still lives at the deadline: a case hangs.
    fn spawn_blocking_deadline(&self, deadline: Duration) -> std::sync::mpsc::Sender<()> {
        let (alive, watched) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            if watched.recv_timeout(deadline) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                println!("test hangs");
                std::process::exit(1);
            }
        });
        alive
    }
}

pub(crate) fn with_source(err: agent_runtime::CallError) -> Box<dyn std::error::Error> {
    match err.refusal() {
        Some(refusal) => format!("{err}: {refusal}").into(),
        None => err.into(),
    }
}

pub(crate) async fn wait_exit(
    events: &mut tokio::sync::broadcast::Receiver<RuntimeEvent>,
    id: &ContainerId,
) -> Result<ExitStatus> {
    loop {
        match events.recv().await? {
            RuntimeEvent::Exited { id: ended, exit } if ended == *id => return Ok(exit),
            _ => {}
        }
    }
}

/// Standard output and error of a log, lines joined.
pub(crate) fn read_log(path: &Path) -> Result<(String, String)> {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    for line in fs::read_to_string(path)?.lines() {
        let mut fields = line.splitn(4, ' ');
        let (_, stream, tag) = (fields.next(), fields.next(), fields.next());
        let text = fields.next().unwrap_or("");
        let out = if stream == Some("stderr") { &mut stderr } else { &mut stdout };
        out.push_str(text);
        if tag == Some("F") {
            out.push('\n');
        }
    }
    Ok((stdout, stderr))
}

/// Looks at a condition until it holds; what never does fails.
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    const PAUSE: Duration = Duration::from_millis(2);
    const ATTEMPTS: u32 = 30_000;
    for _ in 0..ATTEMPTS {
        if condition() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
    panic!("waited {:?} in vain", PAUSE * ATTEMPTS);
}

fn remove_cgroups(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return true };
    for entry in entries.flatten() {
        if entry.path().is_dir() && !remove_cgroups(&entry.path()) {
            return false;
        }
    }
    fs::remove_dir(dir).is_ok()
}

fn make_image(image: &Path) -> Result {
    for dir in ["bin", "proc", "dev", "sys", "etc", "root", "home/web", "tmp", "var"] {
        fs::create_dir_all(image.join(dir))?;
    }
    fs::set_permissions(image.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::copy("/bin/busybox", image.join("bin/busybox"))?;
    for applet in [
        "sh", "cat", "ls", "id", "env", "pwd", "sleep", "echo", "stat", "mkdir", "touch", "rm",
        "ps", "kill", "mount", "umount", "unshare", "hostname", "head", "tail", "dd", "seq",
        "grep", "readlink", "stty", "mknod", "ip", "chroot", "true", "false", "test", "wc", "tr",
        "sort", "ulimit", "nproc", "tty", "yes",
    ] {
        symlink("busybox", image.join("bin").join(applet))?;
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/home/web:/bin/sh\n";
    fs::write(image.join("etc/passwd"), passwd)?;
    fs::write(image.join("etc/group"), "root:x:0:\nweb:x:1001:\nlogs:x:40:web\n")?;
    Ok(())
}
