//! Client libraries in their own languages: the official Python client, and the shared informers of client-go.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::Stdio,
};

use crate::world::{text, tool, with_world};

#[test]
fn the_python_client_works() {
    with_world(1, |world| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/session.py");
        let mut python = world.kubectl_command(&tool("OUTBYE_PYTHON"));
        let output = python.arg(script).arg("10.99.0.1:5000/outbye/busybox:1").output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("all steps passed"), "{}", text(&output));
    });
}

#[test]
fn informers_of_client_go_follow_through_a_crash() {
    with_world(0, |world| {
        let mut program = world.kubectl_command(&tool("OUTBYE_INFORMERS"));
        program.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = program.spawn().unwrap();
        let mut ask = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut answer = || answers.next().and_then(Result::ok).unwrap_or_default();
        assert_eq!(answer(), "synced");
        for round in 0..3 {
            for number in 0..5 {
                let name = format!("map-{round}-{number}");
                world.kubectl(&["create", "configmap", &name]);
                world.kubectl(&["label", "configmap", &name, "app=informed"]);
            }
            writeln!(ask, "expect {}", 5 + round * 4).unwrap();
            assert_eq!(answer(), format!("ok {}", 5 + round * 4), "round {round}");
            // Leaves the selector: for the informer it is gone.
            world.kubectl(&[
                "label",
                "configmap",
                &format!("map-{round}-0"),
                "app-",
                "--overwrite",
            ]);
            world.kill_hub();
            world.start_hub();
        }
        drop(ask);
        assert!(child.wait().unwrap().success());
    });
}
