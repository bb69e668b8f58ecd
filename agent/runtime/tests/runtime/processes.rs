//! Commands in running containers, terminals, limits, logs, and agents and keepers that are killed.

use std::fs;

use agent_runtime::{
    ContainerSpec, ExecSpec, Phase, Resources, Runtime, RuntimeEvent, SandboxSpec, User,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Case;
use crate::outcome::Result;
use crate::world::{World, read_log, wait_exit, wait_until, with_source};

pub(crate) const CASES: &[Case] = &[
    ("a_command_runs_inside_with_streams_and_exit_code", exec),
    ("a_command_with_a_terminal_has_a_size", exec_tty),
    ("a_command_is_confined_like_its_container", exec_confined),
    ("a_container_with_a_terminal_writes_its_log", container_tty),
    ("input_reaches_a_container_that_asked_for_it", attach),
    ("too_much_memory_is_told_as_such", oom),
    ("limits_are_set_on_the_cgroup", limits),
    ("processes_can_be_shared_in_a_sandbox", shared_processes),
    ("removing_a_sandbox_ends_what_is_in_it", remove_sandbox),
    ("long_output_is_all_in_the_log", long_output),
    ("a_flood_of_output_is_held_up_and_nobody_else_is", flood),
    ("containers_outlive_their_agent", reconnect),
    ("containers_outlive_their_keeper", keeper_killed),
    ("what_an_earlier_boot_took_with_it_has_no_start", lost),
    ("many_containers_start_at_once", many),
    ("a_network_namespace_can_be_had", netns),
    ("low_ports_are_for_everybody_in_a_sandbox", low_ports),
];

fn exec_spec(args: &[&str]) -> ExecSpec {
    ExecSpec { args: args.iter().map(|it| (*it).to_owned()).collect(), ..ExecSpec::default() }
}

fn sleeper(w: &mut World) -> Result<ContainerSpec> {
    w.sandbox("s")?;
    let spec = w.sh("sleep 1000");
    w.start(&spec)?;
    Ok(spec)
}

/// Runs a command with this input; exit code, output and error.
fn exec_to_end(
    w: &World,
    spec: &ContainerSpec,
    exec: &ExecSpec,
    input: &str,
) -> Result<(i32, String, String)> {
    w.block(async {
        let mut process = w.runtime.exec(&spec.id, exec).await.map_err(with_source)?;
        if let Some(mut stdin) = process.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        let (mut stdout, mut stderr) = (String::new(), String::new());
        if let Some(it) = &mut process.stdout {
            it.read_to_string(&mut stdout).await?;
        }
        if let Some(it) = &mut process.stderr {
            it.read_to_string(&mut stderr).await?;
        }
        Ok((process.wait().await?.code, stdout, stderr))
    })
}

fn exec(w: &mut World) -> Result {
    let mut spec = w.sh("sleep 1000");
    w.sandbox("s")?;
    spec.env = vec!["A=1".to_owned(), "B=2".to_owned()];
    w.start(&spec)?;
    let command = ExecSpec {
        env: vec!["B=3".to_owned()],
        stdin: true,
        cwd: Some("/tmp".into()),
        ..exec_spec(&["sh", "-c", "cat; echo $A$B $(pwd) $(hostname) >&2; exit 7"])
    };
    let (code, stdout, stderr) = exec_to_end(w, &spec, &command, "input")?;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (7, "input", "13 /tmp s-host\n"));
    let (code, ..) = exec_to_end(w, &spec, &exec_spec(&["sh", "-c", "kill -9 $$"]), "")?;
    assert_eq!(code, 137);
    let err = w.block(w.runtime.exec(&spec.id, &exec_spec(&["nosuch"]))).unwrap_err();
    assert_eq!(err.refusal().unwrap().kind, agent_runtime::RefusalKind::CommandNotFound);
    w.block(async {
        let mut process = w.runtime.exec(&spec.id, &exec_spec(&["sleep", "1000"])).await?;
        process.signal(15).await?;
        assert_eq!(process.wait().await?.code, 143);
        Result::Ok(())
    })
}

fn exec_tty(w: &mut World) -> Result {
    let spec = sleeper(w)?;
    let command = ExecSpec {
        tty: true,
        stdin: true,
        ..exec_spec(&["sh", "-c", "read x; stty size; tty; echo $TERM $x"])
    };
    w.block(async {
        let mut process = w.runtime.exec(&spec.id, &command).await.map_err(with_source)?;
        process.resize(120, 40)?;
        process.stdin.as_mut().unwrap().write_all(b"hey\n").await?;
        let mut output = String::new();
        process.stdout.as_mut().unwrap().read_to_string(&mut output).await?;
        assert_eq!(output, "hey\r\n40 120\r\n/dev/pts/0\r\nxterm hey\r\n");
        assert_eq!(process.wait().await?.code, 0);
        Result::Ok(())
    })
}

fn exec_confined(w: &mut World) -> Result {
    let spec = sleeper(w)?;
    let script = "grep -E '^(CapEff|CapBnd|Seccomp):' /proc/self/status | tr -d '\\t'; ls /proc/self/fd | wc -l; \
                  cat /proc/self/oom_score_adj; unshare -U true; echo $?; readlink /proc/self/ns/pid";
    let (_, stdout, _) = exec_to_end(w, &spec, &exec_spec(&["sh", "-c", script]), "")?;
    let pid = w.start(&spec)?;
    let namespace = fs::read_link(format!("/proc/{pid}/ns/pid"))?;
    let expected =
        format!("CapBnd:00000000a80425fb\nSeccomp:2\n4\n0\n1\n{}\n", namespace.display());
    assert_eq!(stdout, format!("CapEff:00000000a80425fb\n{expected}"));
    let user = Some(User { image: "web".to_owned(), ..User::default() });
    let command = ExecSpec { user, ..exec_spec(&["id", "-u"]) };
    assert_eq!(exec_to_end(w, &spec, &command, "")?.1, "1000\n");
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    assert!(
        cgroup.contains(&format!("{}/burstable/pods/{}", w.config.cgroup_root, spec.id)),
        "{cgroup}"
    );
    Ok(())
}

fn container_tty(w: &mut World) -> Result {
    w.sandbox("s")?;
    let spec = ContainerSpec { tty: true, ..w.sh("tty; echo done") };
    let ended = w.run_to_end(&spec)?;
    assert_eq!(
        ended.stdout, "/dev/pts/0\ndone\n",
        "the carriage returns are lost with the line ends"
    );
    Ok(())
}

fn attach(w: &mut World) -> Result {
    w.sandbox("s")?;
    let spec = ContainerSpec { stdin: true, ..w.sh("read x; echo got $x; read y; echo and $y") };
    w.start(&spec)?;
    w.block(async {
        let mut process = w.runtime.attach(&spec.id).await.map_err(with_source)?;
        process.stdin.as_mut().unwrap().write_all(b"one\ntwo\n").await?;
        let mut output = String::new();
        process.stdout.as_mut().unwrap().read_to_string(&mut output).await?;
        assert_eq!(output, "got one\nand two\n");
        assert_eq!(process.wait().await?.code, 0);
        Result::Ok(())
    })?;
    assert_eq!(read_log(&spec.log_path)?.0, "got one\nand two\n");
    Ok(())
}

fn oom(w: &mut World) -> Result {
    w.sandbox("s")?;
    let mut spec = w.sh("exec dd if=/dev/zero of=/dev/null bs=64M count=2");
    spec.resources = Resources { memory_limit: Some(16 << 20), ..Resources::default() };
    let ended = w.run_to_end(&spec)?;
    assert!(ended.exit.oom_killed, "{ended:?}");
    assert_eq!((ended.exit.code, ended.exit.signal), (137, Some(9)));
    Ok(())
}

fn limits(w: &mut World) -> Result {
    w.sandbox("s")?;
    let mut spec = w.sh("ulimit -n; cat /proc/self/oom_score_adj; sleep 1000");
    spec.resources = Resources {
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        memory_limit: Some(64 << 20),
        pids_limit: Some(33),
    };
    spec.rlimits.insert("nofile".to_owned(), (99, 100));
    spec.oom_score_adj = 321;
    w.start(&spec)?;
    wait_until(|| read_log(&spec.log_path).is_ok_and(|it| it.0 == "99\n321\n"));
    let path = format!("{}/burstable/pods/{}", w.config.cgroup_root, spec.id);
    for (file, v2, expected) in [
        ("cpu/{}/cpu.shares", false, "512"),
        ("cpu/{}/cpu.cfs_quota_us", false, "50000"),
        ("memory/{}/memory.limit_in_bytes", false, "67108864"),
        ("pids/{}/pids.max", false, "33"),
        ("{}/cpu.max", true, "50000 100000"),
        ("{}/memory.max", true, "67108864"),
        ("{}/pids.max", true, "33"),
    ] {
        let unified = fs::exists("/sys/fs/cgroup/cgroup.controllers")?;
        if v2 == unified {
            let file = format!("/sys/fs/cgroup/{}", file.replace("{}", &path));
            assert_eq!(fs::read_to_string(&file)?.trim(), expected, "{file}");
        }
    }
    let stats = w.block(w.runtime.stats(&spec.id))?;
    assert!(stats.pids >= 1 && stats.memory_usage > 0 && stats.oom_kills == 0, "{stats:?}");
    Ok(())
}

fn shared_processes(w: &mut World) -> Result {
    let sandbox = SandboxSpec { share_process_namespace: true, ..w.sandbox_spec("s") };
    w.block(w.runtime.ensure_sandbox(&sandbox))?;
    let first = w.sh("sleep 4711");
    w.start(&first)?;
    let output = w.output("ps -o pid,args | grep -c '[s]leep 4711'; [ $$ = 1 ]; echo $?")?;
    assert_eq!(output, "1\n1\n");
    // What a container leaves behind ends with it.
    let spec = w.sh("sleep 4712 & exit 4");
    assert_eq!(w.run_to_end(&spec)?.exit.code, 4);
    wait_until(|| w.output("ps -o args | grep -c '[s]leep 4712'").is_ok_and(|it| it == "0\n"));
    Ok(())
}

fn remove_sandbox(w: &mut World) -> Result {
    w.sandbox("s")?;
    let (one, two) = (w.sh("trap '' TERM; sleep 1000"), w.sh("true"));
    let pid = w.start(&one)?;
    w.run_to_end(&two)?;
    w.block(w.runtime.remove_sandbox(&one.sandbox))?;
    assert_eq!(w.block(w.runtime.list())?, agent_runtime::Inventory::default());
    assert!(!fs::exists(format!("/proc/{pid}"))?);
    assert!(!fs::exists(w.config.run_dir.join("netns/s"))?);
    assert_eq!(fs::read_dir(w.config.state_dir.join("containers"))?.count(), 0);
    Ok(())
}

fn long_output(w: &mut World) -> Result {
    w.sandbox("s")?;
    let spec = w.sh("seq 1 50000; head -c 40000 /dev/zero | tr '\\0' x");
    let ended = w.run_to_end(&spec)?;
    let expected: String = (1..=50000).map(|it| format!("{it}\n")).collect();
    assert_eq!(ended.stdout.len(), expected.len() + 40001);
    assert!(ended.stdout.starts_with(&expected));
    Ok(())
}

fn flood(w: &mut World) -> Result {
    const RATE: u64 = 64 << 10;
    w.sandbox("s")?;
    let mut flood = w.sh("yes; echo over");
    flood.log_rate = Some(RATE);
    let size = |spec: &ContainerSpec| {
        let rotated = spec.log_path.with_extension("log.1");
        let len = |path| fs::metadata(path).map_or(0, |it| it.len());
        len(spec.log_path.clone()) + len(rotated)
    };
    let since = std::time::Instant::now();
    w.start(&flood)?;
    // Four seconds' worth come at once, then it waits.
    wait_until(|| size(&flood) > 4 * RATE);
    let mut quiet = w.sh("echo in between");
    quiet.log_rate = Some(RATE);
    assert_eq!(w.run_to_end(&quiet)?.stdout, "in between\n");
    wait_until(|| size(&flood) > 5 * RATE);
    let taken = size(&flood);
    let allowed = RATE as f64 * (4.0 + since.elapsed().as_secs_f64());
    // One chunk of a pipe, as lines of two bytes, may be more than what was left.
    let chunk = (64 << 10) / 2 * "2026-11-20T08:00:00.123456789Z stdout F y\n".len();
    assert!((taken as f64) < allowed + 2.0 * chunk as f64, "{taken} bytes, {allowed} allowed");
    // It ends like any other, also while it is held up.
    w.block(w.runtime.kill(&flood.id))?;
    w.block(w.runtime.remove_container(&flood.id))?;
    Ok(())
}

/// Another program that is an agent: starts what the files in the directory say, and waits to be killed.
pub(crate) fn second_agent(args: &[std::ffi::OsString]) -> std::process::ExitCode {
    let dir = std::path::PathBuf::from(&args[2]);
    let config = agent_runtime::RuntimeConfig {
        state_dir: dir.join("state"),
        run_dir: dir.join("run"),
        cgroup_root: args[3].to_str().unwrap().to_owned(),
    };
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let runtime = Runtime::connect(&config).await.unwrap();
        for name in ["stays", "ends"] {
            let spec = fs::read(dir.join(format!("{name}.json"))).unwrap();
            let spec: ContainerSpec = serde_json::from_slice(&spec).unwrap();
            runtime.ensure_container(&spec).await.unwrap();
        }
        println!("started");
        std::future::pending::<()>().await;
    });
    std::process::ExitCode::SUCCESS
}

fn reconnect(w: &mut World) -> Result {
    use std::io::{BufRead, BufReader};
    w.sandbox("s")?;
    let (dir, volume) = (w.dir.path().to_owned(), w.dir.path().join("v"));
    fs::create_dir(&volume)?;
    let stays = w.sh("sleep 1000");
    let mounts = vec![crate::security::bind(volume.clone(), "/v", true)];
    let script = "while [ ! -e /v/go ]; do sleep 0.01; done; echo gap; exit 9";
    let ends = ContainerSpec { mounts, ..w.sh(script) };
    for (name, spec) in [("stays", &stays), ("ends", &ends)] {
        fs::write(dir.join(format!("{name}.json")), serde_json::to_vec(spec)?)?;
    }
    let mut agent = std::process::Command::new(std::env::current_exe()?)
        .arg("second-agent")
        .arg(&dir)
        .arg(&w.config.cgroup_root)
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    BufReader::new(agent.stdout.take().unwrap()).read_line(&mut said)?;
    assert_eq!(said, "started\n");
    let phase = |w: &World, id: &agent_runtime::ContainerId| -> Result<Phase> {
        let found = w.block(w.runtime.list())?.containers.into_iter().find(|it| it.id == *id);
        Ok(found.ok_or("no such container")?.phase)
    };
    let before = phase(w, &stays.id)?;
    // The agent that started them is killed, and one container ends before another one comes.
    let keeper = keeper_pid(w)?;
    agent.kill()?;
    agent.wait()?;
    fs::write(volume.join("go"), "")?;
    let record = w.config.state_dir.join("containers").join(ends.id.as_str()).join("exit.json");
    wait_until(|| record.exists());
    w.runtime = w.block(Runtime::connect(&w.config))?;
    assert_eq!(keeper_pid(w)?, keeper);
    assert_eq!(phase(w, &stays.id)?, before);
    assert!(matches!(phase(w, &ends.id)?, Phase::Exited(exit) if exit.code == 9 && !exit.unknown));
    assert_eq!(read_log(&ends.log_path)?.0, "gap\n");
    Ok(())
}

fn keeper_pid(w: &World) -> Result<i32> {
    let directory = w.config.run_dir.to_str().unwrap().to_owned();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|it| it.parse().ok()) else { continue };
        let args = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if args.contains("\0keeper\0") && args.contains(&directory) {
            return Ok(pid);
        }
    }
    Err("no keeper".into())
}

/// Kills the keeper, and waits for the next one.
pub(crate) fn replace_keeper(w: &World) -> Result {
    let mut events = w.runtime.events();
    let keeper = nix::unistd::Pid::from_raw(keeper_pid(w)?);
    nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGKILL)?;
    w.block(async {
        while events.recv().await? != RuntimeEvent::KeeperRestarted {}
        Ok(())
    })
}

fn keeper_killed(w: &mut World) -> Result {
    w.sandbox("s")?;
    let volume = w.dir.path().join("v");
    fs::create_dir(&volume)?;
    let mount = crate::security::bind(volume.clone(), "/v", true);
    let script = "while :; do echo tick; sleep 0.01; [ -e /v/go ] && exit 9; done";
    let spec = ContainerSpec { mounts: vec![mount], ..w.sh(script) };
    let ended = w.sh("exit 3");
    w.run_to_end(&ended)?;
    let pid = w.start(&spec)?;
    let mut events = w.runtime.events();
    replace_keeper(w)?;
    let inventory = w.block(w.runtime.list())?;
    let phases: Vec<_> = inventory.containers.iter().map(|it| &it.phase).collect();
    assert!(
        phases.iter().any(|it| matches!(it, Phase::Running { pid: now, .. } if *now == pid)),
        "{phases:?}"
    );
    assert!(
        phases.iter().any(|it| matches!(it, Phase::Exited(exit) if exit.code == 3)),
        "{phases:?}"
    );
    // It still runs, its log still grows, commands still run in it, its end is noticed.
    let lines = || read_log(&spec.log_path).map_or(0, |it| it.0.lines().count());
    let before = lines();
    wait_until(|| lines() > before + 3);
    assert_eq!(exec_to_end(w, &spec, &exec_spec(&["hostname"]), "")?.1, "s-host\n");
    fs::write(volume.join("go"), "")?;
    let exit = w.block(wait_exit(&mut events, &spec.id))?;
    assert_eq!((exit.code, exit.unknown, exit.started_at.is_some()), (255, true, true));
    Ok(())
}

fn lost(w: &mut World) -> Result {
    let (gone, kept) = (sleeper(w)?, sleeper(w)?);
    let record = |spec: &ContainerSpec| {
        w.config.run_dir.join("containers").join(format!("{}.json", spec.id))
    };
    // A boot empties the directory, or leaves it as it is.
    fs::remove_file(record(&gone))?;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let text = fs::read_to_string(record(&kept))?;
    assert!(text.contains(boot_id.trim()));
    fs::write(record(&kept), text.replace(boot_id.trim(), "another"))?;
    replace_keeper(w)?;
    let inventory = w.block(w.runtime.list())?;
    assert_eq!(inventory.containers.len(), 2);
    for container in inventory.containers {
        let Phase::Exited(exit) = container.phase else { return Err("it runs".into()) };
        assert_eq!((exit.code, exit.unknown, exit.started_at), (255, true, None));
    }
    Ok(())
}

fn many(w: &mut World) -> Result {
    w.sandbox("s")?;
    let specs: Vec<_> = (0..20).map(|_| w.sh("sleep 1000")).collect();
    w.block(async {
        let mut set = tokio::task::JoinSet::new();
        for spec in specs {
            let runtime = w.runtime.clone();
            set.spawn(async move { runtime.ensure_container(&spec).await.is_ok() });
        }
        assert_eq!(set.join_all().await, [true; 20]);
    });
    Ok(())
}

fn netns(w: &mut World) -> Result {
    use std::os::unix::fs::MetadataExt;
    w.sandbox("s")?;
    let fd = w.block(w.runtime.netns(&agent_runtime::SandboxId::new("s")?))?;
    let by_path = fs::metadata(w.config.run_dir.join("netns/s"))?.ino();
    assert_eq!(fs::File::from(fd).metadata()?.ino(), by_path);
    assert!(w.output("readlink /proc/self/ns/net")?.contains(&by_path.to_string()));
    Ok(())
}

fn low_ports(w: &mut World) -> Result {
    w.sandbox("s")?;
    let mut spec = w.sh(
        "id -u; busybox httpd -p 127.0.0.1:80 -h /etc; busybox wget -q -O- http://127.0.0.1/group",
    );
    spec.user = User { image: "web".to_owned(), ..User::default() };
    spec.capabilities.drop = vec!["ALL".to_owned()];
    let ended = w.run_to_end(&spec)?;
    assert!(ended.stdout.starts_with("1000\nroot:x:0:"), "{ended:?}");
    Ok(())
}
