//! What a container can see, do and break: nothing it should not.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use agent_runtime::{
    Capabilities, ContainerSpec, Mount, MountKind, Propagation, RefusalKind, Seccomp, User,
};

use crate::Case;
use crate::outcome::Result;
use crate::world::World;

pub(crate) const CASES: &[Case] = &[
    ("the_default_container_has_the_default_capabilities", capabilities),
    ("users_are_looked_up_in_the_image", users),
    ("the_default_filter_refuses_what_no_container_needs", seccomp),
    ("paths_of_the_kernel_are_masked_or_read_only", masked_paths),
    ("devices_are_the_standard_ones", devices),
    ("a_device_that_was_asked_for_is_there", asked_device),
    ("a_read_only_root_cannot_be_written", read_only_root),
    ("a_privileged_container_may_do_everything", privileged),
    ("only_three_descriptors_are_inherited", descriptors),
    ("new_privileges_can_be_refused", no_new_privs),
    ("namespaces_are_its_own", namespaces),
    ("links_of_a_hostile_image_lead_nowhere", hostile_links),
    ("a_working_directory_never_leaves_the_root", hostile_cwd),
    ("the_program_of_the_keeper_is_out_of_reach", hostile_exe),
    ("a_sub_path_never_leaves_its_volume", hostile_sub_path),
    ("nothing_is_mounted_into_proc", mount_into_proc),
];

/// The default set as `/proc/self/status` shows it.
const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";

fn capabilities(w: &mut World) -> Result {
    w.sandbox("s")?;
    let script = "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status | tr -d '\\t'";
    let status = w.output(script)?;
    let d = DEFAULT_CAPABILITIES;
    let none = "0000000000000000";
    let expected = format!(
        "CapInh:{none}\nCapPrm:{d}\nCapEff:{d}\nCapBnd:{d}\nCapAmb:{none}\nNoNewPrivs:0\nSeccomp:2\n"
    );
    assert_eq!(status, expected);

    let mut spec = w.sh(script);
    spec.capabilities =
        Capabilities { add: vec!["NET_BIND_SERVICE".into()], drop: vec!["ALL".into()] };
    spec.user.uid = Some(1000);
    let status = w.run_to_end(&spec)?.stdout;
    assert!(status.contains("CapBnd:0000000000000400\n"), "{status}");
    assert!(status.contains(&format!("CapEff:{none}\n")), "{status}");
    Ok(())
}

fn users(w: &mut World) -> Result {
    w.sandbox("s")?;
    for (image, uid, expected) in [
        ("", None, "0 0 0 /root\n"),
        ("web", None, "1000 1001 40 1001 /home/web\n"),
        ("web:logs", None, "1000 40 40 /home/web\n"),
        ("4711", None, "4711 0 0 /\n"),
        ("root", Some(1000), "1000 1001 40 1001 /home/web\n"),
    ] {
        let mut spec = w.sh(
            "echo $(id -u) $(id -g) $(id -G | tr ' ' '\\n' | sort -n) $HOME; echo x >/dev/stdout",
        );
        spec.user = User { image: image.to_owned(), uid, ..User::default() };
        let ended = w.run_to_end(&spec)?;
        assert_eq!(ended.stdout, format!("{expected}x\n"), "{image}: {}", ended.stderr);
    }
    let mut spec = w.sh("true");
    spec.user.image = "nobody-here".to_owned();
    let err = w.block(w.runtime.ensure_container(&spec)).unwrap_err();
    assert_eq!(err.refusal().unwrap().kind, RefusalKind::InvalidSpec, "{err:?}");
    Ok(())
}

fn seccomp(w: &mut World) -> Result {
    w.sandbox("s")?;
    let script = "unshare -U true; echo $?; mount -t tmpfs x /tmp; echo $?; unshare -m true; echo $?; \
                  chroot / /bin/true; echo $?; ulimit -n";
    let mut spec = w.sh(script);
    spec.capabilities.add = vec!["SYS_TIME".to_owned()];
    let output = w.run_to_end(&spec)?;
    let codes: Vec<_> = output.stdout.lines().take(4).collect();
    assert_eq!(codes, ["1", "1", "1", "0"], "{output:?}");
    let refused = output.stderr.matches("Operation not permitted").count()
        + output.stderr.matches("permission denied").count();
    assert_eq!(refused, 3, "{output:?}");

    let mut spec = w.sh("unshare -U true; echo $?");
    spec.seccomp = Seccomp::Unconfined;
    assert_eq!(w.run_to_end(&spec)?.stdout, "0\n");
    Ok(())
}

fn masked_paths(w: &mut World) -> Result {
    w.sandbox("s")?;
    let script = "head -c1 /proc/kcore | wc -c; head -c1 /proc/timer_list | wc -c; ls /sys/firmware | wc -l; \
                  echo 1 >/proc/sys/kernel/panic; echo $?; echo h >/proc/sysrq-trigger; echo $?; \
                  mkdir /sys/x 2>/dev/null; echo $?; ls -d /proc/1 /dev/shm /dev/mqueue /dev/pts/ptmx";
    let output = w.output(script)?;
    let tail = "/dev/mqueue\n/dev/pts/ptmx\n/dev/shm\n/proc/1\n";
    assert_eq!(output, format!("0\n0\n0\n1\n1\n1\n{tail}"));
    Ok(())
}

fn devices(w: &mut World) -> Result {
    w.sandbox("s")?;
    let script = "cd /dev; for f in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' $f; done; \
                  for f in fd stdin ptmx; do readlink $f; done; echo x >/dev/null; head -c2 /dev/zero | wc -c; \
                  mknod /tmp/sda b 8 0; echo $?; cat /tmp/sda; echo $?; mknod /tmp/kmem c 1 2; cat /tmp/kmem; echo $?";
    let spec = w.sh(script);
    let output = w.run_to_end(&spec)?;
    let nodes =
        ["null 1:3", "zero 1:5", "full 1:7", "random 1:8", "urandom 1:9", "tty 5:0"].map(|it| {
            let (name, number) = it.split_once(' ').unwrap();
            format!("{name} character special file {number} 666\n")
        });
    let expected =
        format!("{}/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n2\n0\n1\n1\n", nodes.concat());
    assert_eq!(output.stdout, expected, "{}", output.stderr);
    assert_eq!(output.stderr.matches("Operation not permitted").count(), 2, "{}", output.stderr);
    Ok(())
}

fn read_only_root(w: &mut World) -> Result {
    w.sandbox("s")?;
    let script = "touch /x; echo $?; touch /data/x; echo $?; touch /ro/x; echo $?; touch /dev/shm/x; echo $?";
    let mut spec = w.sh(script);
    spec.read_only_rootfs = true;
    let dir = w.dir.path().to_owned();
    for (name, read_only) in [("data", false), ("ro", true)] {
        fs::create_dir(dir.join(name))?;
        spec.mounts.push(bind(dir.join(name), &format!("/{name}"), read_only));
    }
    assert_eq!(w.run_to_end(&spec)?.stdout, "1\n0\n1\n0\n");
    assert!(dir.join("data/x").exists());
    Ok(())
}

pub(crate) fn bind(source: PathBuf, target: &str, read_only: bool) -> Mount {
    Mount {
        source,
        target: PathBuf::from(target),
        read_only,
        kind: MountKind::Bind,
        sub_path: None,
        propagation: Propagation::Private,
    }
}

fn privileged(w: &mut World) -> Result {
    w.sandbox("s")?;
    let mut spec =
        w.sh("mount -t tmpfs x /tmp && unshare -m true && grep -c 'Seccomp:.0' /proc/self/status");
    spec.privileged = true;
    let output = w.run_to_end(&spec)?;
    assert_eq!((output.exit.code, output.stdout.as_str()), (0, "1\n"), "{output:?}");
    Ok(())
}

fn descriptors(w: &mut World) -> Result {
    w.sandbox("s")?;
    // `ls` itself holds the directory open.
    assert_eq!(w.output("exec ls /proc/self/fd")?, "0\n1\n2\n3\n");
    // Seen from outside, of a command that opens nothing: it has been executed when it is said to run.
    let mut spec = w.sh("");
    spec.args = ["sleep", "1000"].map(str::to_owned).to_vec();
    let pid = w.start(&spec)?;
    let open = fs::read_dir(format!("/proc/{pid}/fd"))?;
    let mut open: Vec<_> = open.flatten().map(|it| it.file_name()).collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2"]);
    Ok(())
}

fn no_new_privs(w: &mut World) -> Result {
    w.sandbox("s")?;
    let mut spec = w.sh("grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'");
    spec.no_new_privs = true;
    spec.user.uid = Some(1000);
    assert_eq!(w.run_to_end(&spec)?.stdout, "NoNewPrivs:1\nSeccomp:2\n");
    Ok(())
}

fn namespaces(w: &mut World) -> Result {
    w.sandbox("s")?;
    let output = w.output(
        "echo $$; hostname; for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done; \
         cat /proc/self/cgroup | grep -c ':/$'; ip link | grep -c 'lo:.*UP'",
    )?;
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[..2], ["1", "s-host"]);
    for name in &lines[2..8] {
        let kind = name.split(':').next().unwrap();
        let own = fs::read_link(format!("/proc/self/ns/{kind}"))?;
        assert_ne!(own.to_str().unwrap(), *name);
    }
    assert_eq!(lines[9], "1");

    let mut host = w.sandbox_spec("h");
    (host.host_network, host.host_pid, host.host_ipc) = (true, true, true);
    w.block(w.runtime.ensure_sandbox(&host))?;
    let mut spec = w.sh("readlink /proc/self/ns/net; [ $$ = 1 ] || echo not one; hostname");
    spec.sandbox = host.id;
    let output = w.run_to_end(&spec)?;
    let net = fs::read_link("/proc/self/ns/net")?;
    let host_name = fs::read_to_string("/proc/sys/kernel/hostname")?;
    assert_eq!(
        output.stdout,
        format!("{}\nnot one\n{host_name}", net.display()),
        "{}",
        output.stderr
    );
    Ok(())
}

fn hostile_links(w: &mut World) -> Result {
    w.sandbox("s")?;
    let host = w.dir.path().join("host");
    fs::create_dir(&host)?;
    fs::write(w.dir.path().join("data"), "data")?;
    let data = w.dir.path().join("data");
    // Each of the runtime's own places as a link: refused, and nothing appears on the host.
    for place in ["proc", "dev", "sys"] {
        let image =
            w.layer(&format!("hostile-{place}"), |layer| symlink(&host, layer.join(place)))?;
        let mut spec = w.sh("true");
        spec.layers.push(image);
        let err = w.block(w.runtime.ensure_container(&spec)).unwrap_err();
        assert_eq!(err.refusal().unwrap().kind, RefusalKind::Setup, "{place}");
    }
    // A mount target that leads out of the root leads to the same path inside.
    let image = w.layer("hostile-etc", |layer| {
        symlink(&host, layer.join("out"))?;
        symlink("../../../../../../..", layer.join("up"))
    })?;
    let mut spec = w.sh("cat /out/file /up/upfile; cat /proc/mounts | grep -c upfile");
    spec.layers.push(image);
    spec.mounts.push(bind(data.clone(), "/out/file", true));
    spec.mounts.push(bind(data, "/up/upfile", true));
    let output = w.run_to_end(&spec)?;
    assert_eq!(output.stdout, "datadata1\n", "{output:?}");
    assert_eq!(fs::read_dir(&host)?.count(), 0);
    // Another null device does not become a mask.
    let image = w.layer("hostile-null", |layer| {
        fs::create_dir(layer.join("dev"))?;
        fs::write(layer.join("dev/null"), "not null")
    })?;
    let mut spec = w.sh("stat -c %t:%T /dev/null");
    spec.layers.push(image);
    assert_eq!(w.run_to_end(&spec)?.stdout, "1:3\n");
    Ok(())
}

fn hostile_cwd(w: &mut World) -> Result {
    w.sandbox("s")?;
    for n in 3..64 {
        let mut spec = w.sh("pwd; cd ../../../../..; pwd; ls etc/passwd");
        spec.cwd = PathBuf::from(format!("/proc/self/fd/{n}"));
        // Refused before anything runs; a descriptor that is not there is a name that is not there.
        let err = w.block(w.runtime.ensure_container(&spec)).unwrap_err();
        assert_eq!(err.refusal().unwrap().kind, RefusalKind::Setup, "{n}");
    }
    let mut spec = w.sh("pwd");
    spec.cwd = PathBuf::from("/../../made/./here");
    assert_eq!(w.run_to_end(&spec)?.stdout, "/made/here\n");
    Ok(())
}

fn hostile_exe(w: &mut World) -> Result {
    w.sandbox("s")?;
    let program = std::env::current_exe()?;
    let before = (fs::metadata(&program)?.len(), fs::metadata(&program)?.modified()?);
    // The first process executes whatever it was before: the keeper's sealed copy, which does nothing
    // here, and cannot be opened for writing.
    let mut spec = w.sh("");
    spec.args = vec!["/proc/self/exe".to_owned(), "keeper".to_owned()];
    match w.run_to_end(&spec) {
        Ok(ended) => assert_ne!(ended.exit.code, 0),
        Err(err) => assert!(err.to_string().contains("exec: \"/proc/self/exe\""), "{err}"),
    }
    let shares =
        agent_runtime::SandboxSpec { share_process_namespace: true, ..w.sandbox_spec("p") };
    w.block(w.runtime.ensure_sandbox(&shares))?;
    let mut spec = w.sh(
        "echo x >/proc/1/exe; ls /proc/1/root/; readlink /proc/1/exe /proc/1/cwd; cat /proc/1/environ; \
         kill -9 1; sleep 0.05; kill -0 1 && echo alive",
    );
    spec.sandbox = shares.id;
    let output = w.run_to_end(&spec)?;
    assert_eq!(output.stdout, "alive\n", "{output:?}");
    let mut spec =
        ContainerSpec { privileged: true, ..w.sh("echo x >/proc/1/exe || ls /proc/1/root/") };
    spec.sandbox = agent_runtime::SandboxId::new("p")?;
    let output = w.run_to_end(&spec)?;
    assert_eq!(output.stdout, "", "{output:?}");
    assert_eq!(before, (fs::metadata(&program)?.len(), fs::metadata(&program)?.modified()?));
    Ok(())
}

fn hostile_sub_path(w: &mut World) -> Result {
    w.sandbox("s")?;
    let volume = w.dir.path().join("volume");
    fs::create_dir_all(volume.join("real"))?;
    fs::write(volume.join("real/file"), "inside")?;
    symlink("/etc", volume.join("abs"))?;
    symlink("../../../../../../etc", volume.join("up"))?;
    for (sub_path, expected) in [("real", "inside"), ("abs", ""), ("up", ""), ("new/dir", "")] {
        let mut spec = w.sh("cat /v/file /v/shadow 2>/dev/null; true");
        let mount = bind(volume.clone(), "/v", false);
        spec.mounts.push(Mount { sub_path: Some(PathBuf::from(sub_path)), ..mount });
        let output = w.run_to_end(&spec)?;
        assert_eq!(output.stdout.trim_end(), expected, "{sub_path}");
    }
    assert!(volume.join("new/dir").is_dir());

    // Made for whoever the volume was made for.
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777))?;
    let mut spec = w.sh("touch /v/x; echo $?");
    spec.user.uid = Some(1000);
    let mount = bind(volume.clone(), "/v", false);
    spec.mounts.push(Mount { sub_path: Some(PathBuf::from("own/dir")), ..mount });
    assert_eq!(w.run_to_end(&spec)?.stdout, "0\n");
    Ok(())
}

fn mount_into_proc(w: &mut World) -> Result {
    w.sandbox("s")?;
    let file = w.dir.path().join("file");
    fs::write(&file, "x")?;
    let mut spec = w.sh("true");
    spec.mounts.push(bind(file, "/proc/self/attr/exec", false));
    let err = w.block(w.runtime.ensure_container(&spec)).unwrap_err();
    assert_eq!(err.refusal().unwrap().kind, RefusalKind::Setup);
    Ok(())
}

fn asked_device(w: &mut World) -> Result {
    w.sandbox("s")?;
    let mut spec = w.sh(
        "head -c0 /dev/other && stat -c %t:%T /dev/other; mknod /tmp/f c 10 229 && head -c0 /tmp/f",
    );
    spec.devices.push(agent_runtime::Device {
        source: PathBuf::from("/dev/loop-control"),
        target: PathBuf::from("/dev/other"),
        access: "r".to_owned(),
    });
    let output = w.run_to_end(&spec)?;
    assert_eq!(output.stdout, "a:ed\n", "{output:?}");
    assert_ne!(output.exit.code, 0);
    Ok(())
}
