//! The commands that a user types, with the kubectl of today and with that of 2020.

use std::path::Path;

use crate::world::{World, old_kubectl, text, with_world};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: c
          image: 10.99.0.1:5000/outbye/busybox:1
          command: [sh, -c, "echo hello from $VERSION; exec sleep 1000"]
          env: [{name: VERSION, value: one}]
"#;

/// What to type, and what must be in the answer.
const COMMANDS: [(&str, &str); 34] = [
    ("version", "Server Version"),
    ("api-resources", "deployments"),
    ("api-versions", "apps/v1"),
    ("get all", "deployment.apps/web"),
    ("get pods -o wide", "n0"),
    ("get pods -A", "default"),
    ("get pods -l app=web -o name", "pod/web-"),
    ("get pods --field-selector status.phase=Running -o name", "pod/web-"),
    ("get deployment web -o yaml", "kind: Deployment"),
    ("get deployment web -o jsonpath={.spec.replicas}", "1"),
    ("get nodes", "Ready"),
    ("get namespaces", "kube-system"),
    ("get endpointslices", "kubernetes"),
    ("get leases -n kube-node-lease", "n0"),
    ("get serviceaccounts", "default"),
    ("describe deployment web", "NewReplicaSetAvailable"),
    ("describe node n0", "Allocatable"),
    ("describe pods -l app=web", "Started"),
    ("create configmap greeting --from-literal=a=b", "configmap/greeting created"),
    ("get configmap greeting -o jsonpath={.data.a}", "b"),
    ("create secret generic hush --from-literal=a=b", "secret/hush created"),
    ("create namespace other", "namespace/other created"),
    ("label configmap greeting x=y", "labeled"),
    ("annotate configmap greeting x=y", "annotated"),
    ("get configmap greeting --show-labels", "x=y"),
    ("scale deployment web --replicas=2", "scaled"),
    ("rollout status deployment/web --timeout=60s", "successfully rolled out"),
    ("logs deployment/web", "hello from one"),
    ("logs deployment/web --tail=1 --since=1h", "hello from one"),
    ("exec deploy/web -- echo through the hub", "through the hub"),
    ("rollout restart deployment/web", "restarted"),
    ("rollout status deployment/web --timeout=60s", "successfully rolled out"),
    ("rollout undo deployment/web", "rolled back"),
    ("rollout status deployment/web --timeout=60s", "successfully rolled out"),
];

/// After these nothing is left.
const CLEANUP: [(&str, &str); 5] = [
    ("delete deployment web", "deleted"),
    ("delete pods -l app=web --grace-period=0 --force --ignore-not-found", ""),
    ("delete configmap greeting", "deleted"),
    ("delete secret hush", "deleted"),
    ("delete namespace other", "deleted"),
];

#[test]
fn todays_kubectl_works() {
    with_world(1, |world| {
        let program = std::path::PathBuf::from(std::env::var_os("OUTBYE_KUBECTL").unwrap());
        session(world, &program);
    });
}

#[test]
fn kubectl_of_2020_works() {
    with_world(1, |world| session(world, &old_kubectl()));
}

fn session(world: &World, program: &Path) {
    world.apply(WEB);
    world.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    for (line, expected) in COMMANDS.iter().chain(&CLEANUP) {
        let output = world.kubectl_command(program).args(line.split(' ')).output().unwrap();
        let said = text(&output);
        assert!(output.status.success(), "kubectl {line}\n{said}");
        assert!(said.contains(expected), "kubectl {line}: no {expected:?} in\n{said}");
    }
    let code = world.kubectl_command(program).args(["get", "deployment", "web"]).output().unwrap();
    assert!(text(&code).contains("\"web\" not found"), "{}", text(&code));
}

#[test]
fn exit_codes_and_terminals_pass_through() {
    with_world(1, |world| {
        world.apply(WEB);
        world.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        for program in [std::env::var_os("OUTBYE_KUBECTL").unwrap().into(), old_kubectl()] {
            let run = |args: &[&str]| {
                world
                    .kubectl_command(&program)
                    .args(["exec", "deploy/web"])
                    .args(args)
                    .output()
                    .unwrap()
            };
            let failed = run(&["--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
            assert_eq!(failed.status.code(), Some(7), "{}", text(&failed));
            assert_eq!(failed.stdout, b"out\n");
            assert!(String::from_utf8_lossy(&failed.stderr).starts_with("err\n"));
            let missing = run(&["--", "/no/such/program"]);
            assert!(!missing.status.success());
        }
    });
}
