//! Containers come, run and go.

use std::fs;

use agent_runtime::{ContainerSpec, Phase, RefusalKind};

use crate::Case;
use crate::outcome::Result;
use crate::world::{World, wait_exit, wait_until};

pub(crate) const CASES: &[Case] = &[
    ("a_container_runs_and_its_exit_code_is_told", runs),
    ("a_signal_ends_with_128_and_its_number", signalled),
    ("asking_twice_is_asking_once", idempotent),
    ("a_missing_command_is_named_and_leaves_nothing", missing_command),
    ("namespaces_made_ahead_are_as_good_as_fresh_ones", spares),
    ("a_keeper_that_died_in_a_removal_is_replaced_and_leaves_nothing", half_removed),
];

fn runs(w: &mut World) -> Result {
    w.sandbox("s")?;
    let spec = w.sh("echo hello; echo trouble >&2; exit 3");
    let ended = w.run_to_end(&spec)?;
    assert_eq!((ended.exit.code, ended.exit.signal), (3, None));
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("hello\n", "trouble\n"));
    Ok(())
}

/// The first sandboxes are made on demand, later ones from what was made in between.
fn spares(w: &mut World) -> Result {
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..6 {
        let sandbox = w.sandbox_spec(&format!("s{n}"));
        w.block(w.runtime.ensure_sandbox(&sandbox))?;
        let mut spec = w.sh("hostname; for n in net uts ipc; do readlink /proc/self/ns/$n; done; \
             ip link show lo | grep -c LOOPBACK,UP");
        spec.sandbox = sandbox.id;
        let said = w.run_to_end(&spec)?.stdout;
        let lines: Vec<_> = said.lines().collect();
        assert_eq!((lines[0], lines[4]), (&*format!("s{n}-host"), "1"), "{said}");
        seen.extend(lines[1..4].iter().map(|it| (*it).to_owned()));
        // Every other one goes at once: what it held must not come back.
        if n % 2 == 0 {
            w.block(w.runtime.remove_sandbox(&spec.sandbox))?;
        }
    }
    // The kernel may give the number of a namespace that is gone to the next.
    assert!(seen.len() > 3 * 3, "{seen:?}");
    let own = fs::read_link("/proc/self/ns/uts")?;
    assert!(!seen.contains(&*own.to_string_lossy()));
    Ok(())
}

/// Every state that the removal of a sandbox passes through.
fn half_removed(w: &mut World) -> Result {
    const HALVES: [&str; 3] = ["nameless", "unmounted", "recordless"];
    w.sandbox("s")?;
    for name in HALVES {
        w.sandbox(name)?;
    }
    let run_dir = w.config.run_dir.clone();
    let name = |kind: &str, id: &str| run_dir.join(format!("{kind}ns")).join(id);
    for kind in ["net", "uts", "ipc"] {
        for id in ["nameless", "unmounted"] {
            rustix::mount::unmount(name(kind, id), rustix::mount::UnmountFlags::DETACH)?;
        }
        fs::remove_file(name(kind, "nameless"))?;
    }
    fs::remove_file(run_dir.join("sandboxes/recordless.json"))?;
    crate::processes::replace_keeper(w)?;
    let left = w.block(w.runtime.list())?.sandboxes;
    assert_eq!(left.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["s"]);
    for id in HALVES {
        for kind in ["net", "uts", "ipc"] {
            assert!(!name(kind, id).exists(), "{kind} of {id}");
        }
        w.sandbox(id)?;
    }
    assert_eq!(w.output("hostname")?, "s-host\n");
    Ok(())
}

fn signalled(w: &mut World) -> Result {
    w.sandbox("s")?;
    let spec = w.sh("trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done");
    let mut events = w.runtime.events();
    w.start(&spec)?;
    wait_until(|| crate::world::read_log(&spec.log_path).is_ok_and(|it| it.0 == "up\n"));
    w.block(w.runtime.signal(&spec.id, 15))?;
    assert_eq!(w.block(wait_exit(&mut events, &spec.id))?.code, 5);

    let spec = w.sh("sleep 1000");
    w.start(&spec)?;
    w.block(w.runtime.kill(&spec.id))?;
    let exit = w.block(wait_exit(&mut events, &spec.id))?;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), false));
    Ok(())
}

fn idempotent(w: &mut World) -> Result {
    w.sandbox("s")?;
    w.sandbox("s")?;
    let spec = w.sh("sleep 1000");
    let first = w.start(&spec)?;
    assert_eq!(w.start(&spec)?, first);
    let other = ContainerSpec { privileged: true, ..spec.clone() };
    let err = w.block(w.runtime.ensure_container(&other)).unwrap_err();
    assert_eq!(err.refusal().unwrap().kind, RefusalKind::SpecMismatch);
    for _ in 0..2 {
        w.block(w.runtime.remove_container(&spec.id))?;
    }
    assert_eq!(w.block(w.runtime.list())?.containers, []);
    for _ in 0..2 {
        w.block(w.runtime.remove_sandbox(&spec.sandbox))?;
    }
    Ok(())
}

fn missing_command(w: &mut World) -> Result {
    w.sandbox("s")?;
    let mut spec = w.sh("");
    for (command, kind) in [
        ("/no/such", RefusalKind::CommandNotFound),
        ("nosuch", RefusalKind::CommandNotFound),
        ("/etc/passwd", RefusalKind::CommandNotExecutable),
    ] {
        spec.args = vec![command.to_owned()];
        let err = w.block(w.runtime.ensure_container(&spec)).unwrap_err();
        assert_eq!(err.refusal().unwrap().kind, kind, "{command}");
        assert_eq!(w.block(w.runtime.list())?.containers, []);
    }
    // What was made of them is deleted, though nothing was ever removed.
    let trash = w.config.state_dir.join("trash");
    wait_until(|| fs::read_dir(&trash).is_ok_and(|mut it| it.next().is_none()));
    spec.args = vec!["true".to_owned()];
    let ended = w.run_to_end(&spec)?;
    assert_eq!(ended.exit.code, 0);
    assert!(matches!(w.block(w.runtime.list())?.containers[0].phase, Phase::Exited(_)));
    Ok(())
}
