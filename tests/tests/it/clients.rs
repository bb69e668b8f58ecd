//! The commands that a user types, with the kubectl of today and with that of 2020.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    manifests::{deployment, list, pod, shell, spec, with},
    world::{World, old_kubectl, text, with_world, write},
};

/// Pods that say which version they are.
fn web(version: &str) -> String {
    let container = with(
        shell("echo hello from $VERSION; exec sleep 1000"),
        json!({"env": [{"name": "VERSION", "value": version}]}),
    );
    deployment("web", 1, &spec(&[container])).to_string()
}

/// A pod that logs, serves a page and can be copied from; a ConfigMap beside it.
fn p1() -> String {
    let script = "echo hello from p1; mkdir /www; echo the page > /www/index.html; \
                  httpd -p 80 -h /www; while sleep 1; do echo tick; done";
    list(&[pod("p1", &spec(&[shell(script)])), config_map("cm1")])
}

fn config_map(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"},
    })
}

/// Which kubectl knows a command.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Knows {
    Both,
    Today,
}
use Knows::{Both, Today};

/// What to type, the exit code, and what must be in the answer. `timeout` ends what runs for ever.
const COMMANDS: &[(Knows, &str, i32, &str)] = &[
    (Both, "version", 0, "Server Version"),
    (Both, "api-resources", 0, "horizontalpodautoscalers"),
    (Both, "api-versions", 0, "apps/v1"),
    (Both, "cluster-info", 0, "is running at"),
    (Both, "get --raw /readyz", 0, "ok"),
    (Both, "get all", 0, "deployment.apps/web"),
    (Both, "get pods", 0, "p1"),
    (Both, "get pods -o wide", 0, "n0"),
    (Both, "get pods -o yaml", 0, "kind: List"),
    (Both, "get pod p1 -o yaml", 0, "kind: Pod"),
    (Both, "get pods -A", 0, "default"),
    (Both, "get pods -A --sort-by=.metadata.name", 0, "p1"),
    (Both, "get pods -w --request-timeout=2s", 0, "p1"),
    (Both, "get pods -l app=web -o name", 0, "pod/web-"),
    (Both, "get pods --field-selector status.phase=Running -o name", 0, "pod/web-"),
    (Both, "get deployment web -o yaml", 0, "kind: Deployment"),
    (Both, "get deployment web -o jsonpath={.spec.replicas}", 0, "1"),
    (Both, "get nodes", 0, "Ready"),
    (Both, "get namespaces", 0, "kube-system"),
    (Both, "get endpointslices", 0, "kubernetes"),
    (Both, "get leases -n kube-node-lease", 0, "n0"),
    (Both, "get serviceaccounts", 0, "default"),
    (Both, "get clusterroles", 0, "cluster-admin"),
    (Both, "get priorityclasses", 0, "system-node-critical"),
    (Both, "describe deploy web", 0, "NewReplicaSetAvailable"),
    (Both, "describe node n0", 0, "Allocatable"),
    (Both, "describe pods -l app=web", 0, "Started"),
    (Both, "describe pod p1", 0, "Started container c"),
    (Both, "describe endpointslices", 0, "AddressType"),
    (Both, "describe services", 0, "Endpoints"),
    (Both, "explain pod.spec.containers", 0, "List of containers belonging to the pod"),
    (Both, "create configmap greeting --from-literal=a=b", 0, "configmap/greeting created"),
    (Both, "create configmap greeting --from-literal=a=b", 1, "\"greeting\" already exists"),
    (Both, "get configmap greeting -o jsonpath={.data.a}", 0, "b"),
    (Both, "create secret generic hush --from-literal=a=b", 0, "secret/hush created"),
    (Both, "create ns other", 0, "namespace/other created"),
    (
        Both,
        "create deployment dd --image=10.99.0.1:5000/outbye/busybox:1",
        0,
        "deployment.apps/dd created",
    ),
    (Both, "get deployment dd -o jsonpath={.spec.template.spec.containers[0].name}", 0, "busybox"),
    (Both, "create -f cm2.yaml", 0, "configmap/cm2 created"),
    (
        Both,
        "create -f cm2.yaml",
        1,
        "(AlreadyExists): error when creating \"cm2.yaml\": configmaps \"cm2\" already exists",
    ),
    (Both, "apply -f cm2.yaml", 0, "configmap/cm2 configured"),
    (Both, "apply -f cm2.yaml", 0, "configmap/cm2 unchanged"),
    (Both, "create serviceaccount robot", 0, "serviceaccount/robot created"),
    (Both, "create role reader --verb=get --resource=pods", 0, "role.rbac"),
    (Both, "create rolebinding r --role=reader --serviceaccount=default:robot", 0, "rolebinding"),
    (Both, "auth can-i create pods", 0, "yes"),
    (Both, "auth can-i get pods --as=system:serviceaccount:default:robot", 0, "yes"),
    (Both, "auth can-i delete pods --as=system:serviceaccount:default:robot", 1, "no"),
    (Both, "auth can-i --list", 0, "*.*"),
    (
        Both,
        "delete pod p1 --as=system:serviceaccount:default:robot",
        1,
        "cannot delete resource \"pods\"",
    ),
    (Today, "auth whoami", 0, "system:masters"),
    (Today, "create token robot", 0, "ey"),
    (Today, "create token default", 0, "ey"),
    (Both, "create quota q --hard=pods=100", 0, "resourcequota/q created"),
    (
        Both,
        "create job j --image=10.99.0.1:5000/outbye/busybox:1 -- true",
        0,
        "job.batch/j created",
    ),
    (Both, "label configmap greeting x=y", 0, "labeled"),
    (Both, "label configmap greeting x=z", 1, "'x' already has a value (y)"),
    (Both, "label cm cm1 x=z --overwrite", 0, "configmap/cm1 labeled"),
    (Both, "annotate configmap greeting x=y", 0, "annotated"),
    (Both, "annotate cm cm1 x=z --overwrite", 0, "configmap/cm1 annotated"),
    (Both, "get cm cm1 -o jsonpath={.metadata.labels.x}{.metadata.annotations.x}", 0, "zz"),
    (Both, "get configmap greeting --show-labels", 0, "x=y"),
    (Both, "apply -f web.yaml", 0, "deployment.apps/web unchanged"),
    (Both, "apply -f web.yaml --dry-run=server", 0, "(server dry run)"),
    (Both, "diff -f web.yaml", 0, ""),
    (Both, "diff -f web2.yaml", 1, "two"),
    (Both, "apply --server-side -f web.yaml --force-conflicts", 0, "serverside-applied"),
    (Both, "replace -f web.yaml", 0, "replaced"),
    (Both, "patch deploy web -p {\"spec\":{\"minReadySeconds\":0,\"replicas\":1}}", 0, "patched"),
    (
        Both,
        "patch deploy web --type=merge -p {\"metadata\":{\"labels\":{\"z\":\"1\"}}}",
        0,
        "patched",
    ),
    (Both, "expose deployment web --port=80 --name=sx", 0, "service/sx exposed"),
    (Both, "autoscale deployment web --max=3", 0, "autoscaled"),
    (Both, "get hpa", 0, "Deployment/web"),
    (Both, "delete hpa web", 0, "deleted"),
    (Both, "run r1 --image=10.99.0.1:5000/outbye/busybox:1 -- sleep 1000", 0, "pod/r1 created"),
    (Both, "wait --for=condition=Ready pod/p1 --timeout=30s", 0, "condition met"),
    (Both, "wait --for=condition=Never pod/p1 --timeout=1s", 1, "timed out"),
    (Both, "scale deploy web --replicas=2", 0, "scaled"),
    (Both, "rollout status deployment/web --timeout=60s", 0, "successfully rolled out"),
    (Both, "set env deployment/web VERSION=two", 0, "env updated"),
    (Both, "rollout status deployment/web --timeout=60s", 0, "successfully rolled out"),
    (Both, "logs deployment/web", 0, "hello from"),
    (Both, "logs deployment/web --tail=1 --since=1h", 0, "hello from"),
    (Both, "logs p1", 0, "hello from p1"),
    (Both, "logs p1 --tail=1", 0, "tick"),
    (Both, "exec p1 -- true", 0, ""),
    (Both, "exec p1 -- false", 1, "exit code 1"),
    (Both, "exec deploy/web -- echo through the hub", 0, "through the hub"),
    (Both, "cp p1:/etc/hosts copied-hosts", 0, ""),
    (Both, "rollout history deployment/web", 0, "REVISION"),
    (Both, "rollout restart deployment/web", 0, "restarted"),
    (Both, "rollout status deployment/web --timeout=60s", 0, "successfully rolled out"),
    (Both, "rollout undo deployment/web", 0, "rolled back"),
    (Both, "rollout status deployment/web --timeout=60s", 0, "successfully rolled out"),
    // An image that is nowhere: the pods from before stay, and the rollout waits.
    (Both, "set image deploy/web c=10.99.0.1:5000/outbye/busybox:none", 0, "image updated"),
    (Both, "get deploy web -o jsonpath={.spec.template.spec.containers[0].image}", 0, "box:none"),
    (Both, "rollout status deploy/web --timeout=2s", 1, "timed out waiting for the condition"),
    (Both, "get deploy web -o jsonpath={.status.availableReplicas}", 0, "2"),
    (Both, "set image deploy/web c=10.99.0.1:5000/outbye/busybox:1", 0, "image updated"),
    (Both, "rollout status deploy/web --timeout=60s", 0, "successfully rolled out"),
    (Today, "events", 0, "Started container"),
    // The kubectl of 2020 sends an object of a kind that Kubernetes has no more.
    (
        Today,
        "debug p1 --image=10.99.0.1:5000/outbye/busybox:1 -c dbg --attach=false -- sleep 9",
        0,
        "",
    ),
    (
        Both,
        "debug node/n0 --image=10.99.0.1:5000/outbye/busybox:1 --attach=false -- sleep 1000",
        0,
        "with container debugger on node n0.",
    ),
    (Both, "get pods --field-selector spec.nodeName=n0 -o name", 0, "pod/node-debugger-n0-"),
    (Both, "taint node n0 a=b:NoSchedule --overwrite", 0, "modified"),
    (Both, "taint node n0 a-", 0, "untainted"),
    (Both, "cordon n0", 0, "cordoned"),
    (Both, "uncordon n0", 0, "uncordoned"),
    (
        Both,
        "drain n0 --force --ignore-daemonsets --delete-emptydir-data --timeout=60s",
        0,
        "evicted",
    ),
    (Both, "uncordon n0", 0, "uncordoned"),
    (Both, "delete configmap nobody", 1, "\"nobody\" not found"),
    (Both, "delete cm cm1", 0, "configmap \"cm1\" deleted"),
    (Both, "delete deploy dd --cascade=foreground --wait=false", 0, "\"dd\" deleted"),
    (Both, "delete ns other --wait=false", 0, "namespace \"other\" deleted"),
    (Both, "delete ns nobody --wait=false", 1, "namespaces \"nobody\" not found"),
    (Both, "get nonsense", 1, "doesn't have a resource type"),
];

/// After these nothing is left.
const CLEANUP: &[(&str, &str)] = &[
    ("delete deployment web --cascade=foreground", "deleted"),
    ("delete pods --all --grace-period=0 --force", ""),
    ("delete job j", "deleted"),
    ("delete configmap greeting cm2", "deleted"),
    ("delete secret hush", "deleted"),
    ("delete service sx", "deleted"),
    ("delete quota q", "deleted"),
    ("delete role,rolebinding,serviceaccount reader r robot --ignore-not-found", "deleted"),
    // Its deletion began before.
    ("delete deployment dd --ignore-not-found", ""),
    ("delete namespace other --ignore-not-found", ""),
];

#[test]
fn todays_kubectl_works() {
    with_world(1, |world| {
        let program = std::path::PathBuf::from(std::env::var_os("OUTBYE_KUBECTL").unwrap());
        session(world, &program, true);
    });
}

#[test]
fn kubectl_of_2020_works() {
    with_world(1, |world| session(world, &old_kubectl(), false));
}

fn session(world: &World, program: &Path, is_todays: bool) {
    for (name, manifest) in [
        ("web.yaml", web("one")),
        ("web2.yaml", web("two")),
        ("cm2.yaml", config_map("cm2").to_string()),
    ] {
        write(&world.dir.path().join(name), &manifest);
    }
    world.apply(&web("one"));
    world.apply(&p1());
    world.wait_ready("p1");
    world.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let run = |line: &str| {
        let mut command = world.kubectl_command(program);
        command.current_dir(world.dir.path()).args(line.split(' ')).output().unwrap()
    };
    for (knows, line, code, expected) in COMMANDS {
        if *knows == Today && !is_todays {
            continue;
        }
        let output = run(line);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(*code), "kubectl {line}\n{said}");
        assert!(said.contains(expected), "kubectl {line}: no {expected:?} in\n{said}");
    }
    for (line, expected) in CLEANUP {
        let said = text(&run(line));
        assert!(said.contains(expected), "kubectl {line}: no {expected:?} in\n{said}");
    }
    for left in ["deployment web", "namespace other", "configmap cm1"] {
        let gone = text(&run(&format!("get {left}")));
        assert!(gone.contains("not found"), "{gone}");
    }
}

/// Commands that run until they are stopped.
#[test]
fn streams_pass_through() {
    with_world(1, |world| {
        world.apply(&p1());
        world.wait_ready("p1");
        for program in [std::env::var_os("OUTBYE_KUBECTL").unwrap().into(), old_kubectl()] {
            for (line, expected) in
                [("logs -f p1 --since=10s", "tick"), ("attach p1", "tick"), ("get pods -w", "p1")]
            {
                let mut command = world.kubectl_command(Path::new("timeout"));
                let output = command.arg("3").arg(&program).args(line.split(' ')).output().unwrap();
                assert_eq!(output.status.code(), Some(124), "kubectl {line}: {}", text(&output));
                assert!(text(&output).contains(expected), "kubectl {line}: {}", text(&output));
            }
            let mut command = world.kubectl_command(&program);
            command.args(["port-forward", "p1", "18999:80"]);
            let mut forward = command.spawn().unwrap();
            let page = world.wait("the page through port-forward", |it| it.fetch_at_hub(18999));
            forward.kill().unwrap();
            forward.wait().unwrap();
            assert_eq!(page, "the page\n");
        }
        // Through the proxy, others see what listens at the pod's address, and nothing else.
        world.kubectl(&["exec", "p1", "--", "httpd", "-p", "127.0.0.1:81", "-h", "/www"]);
        let proxied = |port: u16| {
            let path = format!("/api/v1/namespaces/default/pods/p1:{port}/proxy/");
            world.try_kubectl(&["get", "--raw", &path])
        };
        let page = proxied(80);
        assert_eq!(page.stdout, b"the page\n", "{}", text(&page));
        let refused = proxied(81);
        assert!(!refused.status.success(), "{}", text(&refused));
        assert!(text(&refused).contains("failed to connect to"), "{}", text(&refused));
    });
}

#[test]
fn exit_codes_and_terminals_pass_through() {
    with_world(1, |world| {
        world.apply(&web("one"));
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
            // No exit code of the command's own, and the words that scripts look for.
            for (program, words) in [
                ("/no/such/program", "stat /no/such/program: no such file or directory"),
                ("nosuch", "executable file not found in $PATH"),
                ("/etc", "permission denied"),
            ] {
                let missing = run(&["--", program]);
                let said = String::from_utf8_lossy(&missing.stderr).into_owned();
                assert_eq!(missing.status.code(), Some(1), "{said}");
                let begin = "error: Internal error occurred: error executing command in container: failed to exec in container: ";
                let end = format!(
                    "unable to start container process: exec: {program:?}: {words}: unknown\n"
                );
                assert!(said.contains(begin) && said.ends_with(&end), "{said}");
            }
        }
    });
}
