//! Who pods are: tokens of service accounts on nodes, and what the API makes of them.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::world::{World, condition, text, wait_for, with_world, write};

const DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

const PODS: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  serviceAccountName: reader
  terminationGracePeriodSeconds: 0
  containers:
    - name: c
      image: 10.99.0.1:5000/outbye/busybox:1
      command: [sh, -c, "trap 'exit 0' TERM; while true; do sleep 0.2; done"]
---
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec:
  serviceAccountName: reader
  automountServiceAccountToken: false
  containers: [{name: c, image: "10.99.0.1:5000/outbye/busybox:1", command: [sleep, "1000"]}]
"#;

#[test]
fn a_pod_is_its_service_account_and_needs_no_hub_for_that() {
    with_world(1, |world| {
        world.apply(PODS);
        let pod = world.wait_ready("p");
        let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
        assert!(world.get(&["pod", "plain"])["spec"].get("volumes").is_none());

        let inside = |it: &World, file: &str| {
            it.kubectl(&["exec", "p", "--", "cat", &format!("{DIR}/{file}")])
        };
        let token = inside(world, "token");
        assert_eq!(inside(world, "namespace"), "default");
        let ca = inside(world, "ca.crt");
        let published = world.get(&["configmap", "kube-root-ca.crt"]);
        assert_eq!(published["data"]["ca.crt"].as_str().unwrap(), ca);

        // The API is where the environment says, and its certificate has the names for it.
        let reach =
            "nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null && echo reached";
        let reached = world.kubectl(&["exec", "p", "--", "sh", "-c", reach]);
        assert_eq!(reached.trim(), "reached");
        for name in ["", ".default", ".default.svc", ".default.svc.cluster.local"] {
            let name = format!("--tls-server-name=kubernetes{name}");
            let output = as_pod(world, &ca, &token, &[&name, "version"]);
            assert!(output.status.success(), "{name}: {}", text(&output));
        }
        let output = as_pod(world, &ca, &token, &["--tls-server-name=10.96.0.1", "version"]);
        assert!(output.status.success(), "{}", text(&output));

        assert_eq!(who(world, &ca, &token), Ok(("p".to_owned(), uid.clone())));
        let refused = text(&as_pod(world, &ca, &token, &["get", "pods"]));
        let why = "User \"system:serviceaccount:default:reader\" cannot list resource \"pods\"";
        assert!(refused.contains(why), "{refused}");
        let binding =
            ["create", "rolebinding", "r", "--clusterrole=view", "--serviceaccount=default:reader"];
        world.kubectl(&binding);
        let seen = as_pod(world, &ca, &token, &["get", "pods", "-o", "name"]);
        assert_eq!(String::from_utf8_lossy(&seen.stdout), "pod/p\npod/plain\n", "{}", text(&seen));

        // Without a hub, after a restart of the agent and of the container, all is as it was.
        world.kill_hub();
        world.nodes[0].kill_agent();
        world.nodes[0].start();
        let (pid, _) = wait_for("the container", || {
            let all = world.nodes[0].processes();
            all.clone()
                .into_iter()
                .find(|(_, it)| it.contains("trap"))
                .ok_or_else(|| format!("{all:?}"))
        });
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        let path = format!("{DIR}/token");
        let kept = wait_for("the restarted container", || {
            let ps = world.nodes[0].agent_output("ps", &["--json"]);
            let ps = String::from_utf8_lossy(&ps.stdout).into_owned();
            if !ps.contains("\"restartCount\": 1") {
                return Err(ps);
            }
            let cat = world.nodes[0].agent_output("exec", &["p", "--", "cat", &path]);
            let shown = String::from_utf8_lossy(&cat.stdout).into_owned();
            if cat.status.success() { Ok(shown) } else { Err(text(&cat)) }
        });
        assert_eq!(kept, token);

        world.start_hub();
        assert_eq!(who(world, &ca, &token), Ok(("p".to_owned(), uid)));
        world.kubectl(&["delete", "pod", "p"]);
        let gone = who(world, &ca, &token).unwrap_err();
        assert!(gone.contains("Unauthorized") || gone.contains("logged in"), "{gone}");
    });
}

const DEBUGGED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: q}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - {name: c, image: "10.99.0.1:5000/outbye/busybox:1", command: [sleep, "4321"]}
    - {name: d, image: "10.99.0.1:5000/outbye/busybox:1", command: [sleep, "8765"]}
"#;

#[test]
fn a_running_pod_can_be_looked_into() {
    with_world(1, |world| {
        world.apply(DEBUGGED);
        world.wait_ready("q");
        // Typed into a container that was not there before: attached, and told what it says.
        let mut debug = world.kubectl_command(&world.kubectl_path());
        let image = "--image=10.99.0.1:5000/outbye/busybox:1";
        debug.args(["debug", "-i", "q", image, "--target=c", "-c", "typed", "--", "sh"]);
        let typed = with_input(debug, "ps; echo sum-$((1+1)); exit 3\n");
        let said = text(&typed);
        assert!(said.contains("sum-2") && said.contains("sleep 4321"), "{said}");
        assert!(!said.contains("8765"), "it sees another container's processes: {said}");
        let ended = world.wait("the container to end", |it| {
            let pod = it.get(&["pod", "q"]);
            let status = pod["status"]["ephemeralContainerStatuses"][0].clone();
            let ended = status["state"]["terminated"]["exitCode"] == 3;
            if ended { Ok(status) } else { Err(pod["status"].to_string()) }
        });
        assert_eq!((&ended["name"], &ended["restartCount"]), (&"typed".into(), &0.into()));
        assert!(world.kubectl(&["logs", "q", "-c", "typed"]).contains("sum-2"));

        let args = ["debug", "q", image, "-c", "alone", "--attach=false", "--", "sleep", "55"];
        world.kubectl(&args);
        world.wait("the second container", |it| {
            let output = it.try_kubectl(&["exec", "q", "-c", "alone", "--", "ps"]);
            let said = text(&output);
            let alone = said.contains("sleep 55") && !said.contains("4321");
            if output.status.success() && alone { Ok(()) } else { Err(said) }
        });
        // Nothing of the pod itself was touched, and all of it goes with the pod.
        let pod = world.get(&["pod", "q"]);
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
        assert_eq!(condition(&pod, "Ready"), Some("True"));
        world.kubectl(&["delete", "pod", "q"]);
        world.wait("the processes to go", |it| {
            let left = it.nodes[0].processes();
            let sleeps = left.values().any(|it| it.starts_with("sleep"));
            if sleeps { Err(format!("{left:?}")) } else { Ok(()) }
        });
    });
}

const SECRET: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: long, annotations: {kubernetes.io/service-account.name: default}}
type: kubernetes.io/service-account-token
"#;

#[test]
fn secrets_and_certificates_make_users() {
    with_world(0, |world| {
        world.apply(SECRET);
        let data = world.wait("the token", |it| {
            let secret = it.get(&["secret", "long"]);
            let has = secret["data"]["token"].as_str().is_some_and(|it| !it.is_empty());
            if has { Ok(secret["data"].clone()) } else { Err(secret.to_string()) }
        });
        let decoded = |key: &str| {
            let bytes = STANDARD.decode(data[key].as_str().unwrap()).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let (ca, token) = (decoded("ca.crt"), decoded("token"));
        assert_eq!(decoded("namespace"), "default");
        let whoami = ["auth", "whoami", "-o", "json"];
        let user = |output: &Output| -> Value {
            let review: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            review["status"]["userInfo"].clone()
        };
        let output = as_pod(world, &ca, &token, &whoami);
        assert_eq!(user(&output)["username"], "system:serviceaccount:default:default");
        world.kubectl(&["delete", "secret", "long"]);
        let refused = as_pod(world, &ca, &token, &whoami);
        assert!(!refused.status.success(), "{}", text(&refused));

        // From a key to a certificate that the API believes.
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "jane");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "devs");
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        world.apply(&format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\n\
             metadata: {{name: jane}}\nspec:\n  request: {}\n  \
             signerName: kubernetes.io/kube-apiserver-client\n  usages: [client auth]\n",
            STANDARD.encode(request)
        ));
        let fresh = world.get(&["csr", "jane"]);
        assert!(fresh["status"].get("certificate").is_none(), "nobody approved it: {fresh}");
        world.kubectl(&["certificate", "approve", "jane"]);
        let certificate = world.wait("the certificate", |it| {
            let csr = it.get(&["csr", "jane"]);
            let made = csr["status"]["certificate"].as_str().map(str::to_owned);
            made.ok_or_else(|| csr.to_string())
        });
        let (key_path, cert_path) =
            (world.dir.path().join("jane.key"), world.dir.path().join("jane.crt"));
        write(&key_path, &key.serialize_pem());
        let pem = STANDARD.decode(certificate).unwrap();
        write(&cert_path, std::str::from_utf8(&pem).unwrap());
        let shown = [
            format!("--client-key={}", key_path.display()),
            format!("--client-certificate={}", cert_path.display()),
        ];
        let args: Vec<&str> = shown.iter().map(String::as_str).chain(whoami).collect();
        let output = as_pod(world, &ca, "", &args);
        let jane = user(&output);
        assert_eq!(jane["username"], "jane", "{}", text(&output));
        assert_eq!(jane["groups"], serde_json::json!(["devs", "system:authenticated"]));
        let args: Vec<&str> = shown.iter().map(String::as_str).chain(["get", "pods"]).collect();
        let refused = text(&as_pod(world, &ca, "", &args));
        assert!(refused.contains("User \"jane\" cannot list"), "{refused}");
    });
}

/// Runs a command that is told something and then nothing more.
fn with_input(mut command: Command, input: &str) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// `kubectl` with a token and nothing else.
fn as_pod(world: &World, ca: &str, token: &str, args: &[&str]) -> Output {
    let path = world.dir.path().join("pod-ca.crt");
    write(&path, ca);
    let mut command = world.kubectl_command(&world.kubectl_path());
    command.args(["--kubeconfig=/dev/null", "--server=https://10.99.0.1:6443"]);
    command.arg(format!("--certificate-authority={}", path.display()));
    if !token.is_empty() {
        command.arg(format!("--token={token}"));
    }
    command.args(args).output().unwrap()
}

/// Name and UID of the pod that the API takes the holder of a token for.
fn who(world: &World, ca: &str, token: &str) -> Result<(String, String), String> {
    let output = as_pod(world, ca, token, &["auth", "whoami", "-o", "json"]);
    let Ok(review) = serde_json::from_slice::<Value>(&output.stdout) else {
        return Err(text(&output));
    };
    let user = &review["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:default:reader");
    let extra = |key: &str| {
        let value = &user["extra"][format!("authentication.kubernetes.io/{key}")][0];
        value.as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(extra("node-name"), "n0");
    Ok((extra("pod-name"), extra("pod-uid")))
}
