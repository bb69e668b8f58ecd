//! The protocol, with a store in a temporary directory; ADD to DEL against the kernel in namespaces of our own.

use std::{path::Path, thread};

use nix::sched::{CloneFlags, unshare};

use super::*;

fn config(dir: &Path, version: &str, subnet: &str) -> Value {
    json!({
        "cniVersion": version, "name": "test", "type": "outbye-cni", "bridge": "obtest1",
        "ipam": {"subnet": subnet, "dataDir": dir},
    })
}

fn environment(command: &str, id: &str, netns: Option<PathBuf>) -> Environment {
    Environment {
        command: command.into(),
        container_id: Some(id.into()),
        netns,
        ifname: Some("eth0".into()),
    }
}

fn fails(environment: &Environment, stdin: &str, code: u32) {
    let err = run(environment, stdin).unwrap_err();
    assert_eq!(err.code(), code, "{err}");
    assert_eq!(err.to_json()["code"], code);
}

#[test]
fn says_its_versions() {
    let answer = run(&environment("VERSION", "a", None), "{}").unwrap().unwrap();
    assert_eq!(answer["supportedVersions"][4], "1.1.0");
}

#[test]
fn bad_input_has_the_codes_of_the_specification() {
    let dir = tempfile::tempdir().unwrap();
    let good = config(dir.path(), "1.1.0", "10.79.0.0/24").to_string();
    fails(&environment("ADD", "a", None), "{", 6);
    fails(
        &environment("ADD", "a", None),
        &config(dir.path(), "2.0.0", "10.0.0.0/24").to_string(),
        1,
    );
    fails(
        &environment("ADD", "a", None),
        &config(dir.path(), "1.0.0", "10.0.0.0/31").to_string(),
        7,
    );
    fails(&environment("FROB", "a", None), &good, 4);
    fails(&environment("ADD", "../a", None), &good, 4);
    fails(&environment("ADD", "a", None), &good, 4);
    fails(&environment("ADD", "a", Some("/nonexistent".into())), &good, 5);
    fails(&environment("GC", "a", None), &good, 7);
    fails(&environment("CHECK", "a", Some("/proc/self/ns/net".into())), &good, 103);
    assert!(run(&environment("STATUS", "a", None), &good).unwrap().is_none());
}

#[test]
fn add_check_gc_and_del() {
    let dir = tempfile::tempdir().unwrap();
    let host = thread::spawn(move || {
        if let Err(err) = unshare(CloneFlags::CLONE_NEWNET) {
            assert!(std::env::var_os("REQUIRE_PRIVILEGED").is_none(), "{err}");
            return;
        }
        let config = config(dir.path(), "1.1.0", "10.79.0.0/29");
        let text = config.to_string();
        let (netns, _keep) = sandbox();
        let added = run(&environment("ADD", "a", Some(netns.clone())), &text).unwrap().unwrap();
        assert_eq!(added["ips"][0]["address"], "10.79.0.2/32");
        assert_eq!(added["interfaces"][2]["sandbox"], netns.display().to_string());
        let again = run(&environment("ADD", "a", Some(netns.clone())), &text).unwrap().unwrap();
        assert_eq!(added, again);
        run(&environment("CHECK", "a", Some(netns.clone())), &text).unwrap();

        let (other, _keep_too) = sandbox();
        run(&environment("ADD", "b", Some(other.clone())), &text).unwrap();
        let mut gc = config;
        gc["cni.dev/valid-attachments"] = json!([{"containerID": "b", "ifname": "eth0"}]);
        run(&environment("GC", "", None), &gc.to_string()).unwrap();
        assert!(run(&environment("CHECK", "a", Some(netns.clone())), &text).is_err());
        run(&environment("CHECK", "b", Some(other)), &text).unwrap();
        assert_eq!(crate::attached().unwrap(), [crate::host_ifname("b/eth0")]);

        // The namespace may be gone by the time of DEL.
        for id in ["a", "b", "b", "never"] {
            run(&environment("DEL", id, None), &text).unwrap();
        }
        assert_eq!(crate::attached().unwrap(), [""; 0]);
        full(&text, &netns);
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

fn full(text: &str, netns: &Path) {
    let mut n_added = 0;
    let err = loop {
        let id = format!("c{n_added}");
        let environment = Environment {
            ifname: Some(format!("eth{n_added}")),
            ..environment("ADD", &id, Some(netns.into()))
        };
        match run(&environment, text) {
            Ok(_) => n_added += 1,
            Err(err) => break err,
        }
    };
    assert_eq!((n_added, err.code()), (5, 11), "{err:?}");
}

/// A network namespace by path, as long as the sender lives.
fn sandbox() -> (PathBuf, std::sync::mpsc::Sender<()>) {
    let (path_tx, path_rx) = std::sync::mpsc::channel();
    let (alive_tx, alive_rx) = std::sync::mpsc::channel::<()>();
    thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let tid = nix::unistd::gettid();
        path_tx.send(PathBuf::from(format!("/proc/self/task/{tid}/ns/net"))).unwrap();
        alive_rx.recv().unwrap_err();
    });
    (path_rx.recv().unwrap(), alive_tx)
}
