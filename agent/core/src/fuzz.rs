//! Fuzz targets: logs, Pods and what they refer to, and what the node wrote down about them.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::{Pod, Secret},
};
use tests_fuzz::Target;

use crate::{
    admission::Claims,
    backoff,
    desired::{DesiredPod, References, Verdict, referred_names},
    env,
    field::NodeFacts,
    files,
    ids::{Attempt, ContainerId, SandboxId},
    image, log,
    pod::{ObservedPod, plan},
    probe,
    record::{self, ContainerRecord, Lifecycle, PodRecord},
    resources,
    spec::{self, ImageFacts},
    status, token,
};

const NOW: &str = "2026-11-20T08:00:00Z";

#[test]
fn log_lines() {
    let seeds: &[&[u8]] =
        &[b"2026-11-20T08:00:00.123456789Z stderr P some  text", b"2026-11-20T08:00:00Z stdout F "];
    Target::new("log-lines", seeds).words(&[" stdout ", " stderr ", "P ", "F "]).check(|input| {
        let Some(line) = log::parse(input) else { return false };
        assert!(input.ends_with(line.text));
        line.timestamp().is_some()
    });
}

#[test]
fn expansions() {
    let seeds: &[&[u8]] = &[b"$(A) $$(B) $(C", b"$(A)$(A)$$$(A)", b"r.io:5000/a/b:c@sha256:0"];
    let words = &["$(", ")", "$$", "$", "A", "$(A)"];
    Target::new("expansions", seeds).words(words).runs(5000).check(|input| {
        let text = String::from_utf8_lossy(input);
        let _ = (image::registry(&text), image::image_id(&text, "sha256:0"));
        let expanded = env::expand(&text, |name| (name == "A").then(|| "a".to_owned()));
        // Nothing that is put in is expanded again.
        expanded.len() <= text.len()
    });
}

const POD: &[u8] = br#"{"metadata":{"name":"p","namespace":"n","uid":"5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e","labels":{"a":"b"},"deletionGracePeriodSeconds":30},"spec":{"restartPolicy":"OnFailure","terminationGracePeriodSeconds":30,"activeDeadlineSeconds":600,"overhead":{"cpu":"10m"},"hostAliases":[{"ip":"10.0.0.1","hostnames":["x"]}],"dnsPolicy":"Default","dnsConfig":{"nameservers":["1.1.1.1"],"options":[{"name":"ndots","value":"5"}]},"securityContext":{"runAsUser":1000,"supplementalGroups":[5],"sysctls":[{"name":"net.ipv4.tcp_syncookies","value":"1"}],"seccompProfile":{"type":"RuntimeDefault"}},"initContainers":[{"name":"i","image":"r.io/a:1","restartPolicy":"Always","resources":{"requests":{"cpu":"100m","memory":"64Mi"},"limits":{"memory":"1Gi"}}}],"containers":[{"name":"c","image":"b@sha256:0","command":["$(A)"],"args":["x"],"env":[{"name":"A","value":"$(B)"},{"name":"L","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu","divisor":"1m"}}},{"name":"N","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['a']"}}}],"ports":[{"containerPort":80,"hostPort":8080,"name":"web"}],"resources":{"limits":{"cpu":"1.5","memory":"1e9"}},"volumeMounts":[{"name":"v","mountPath":"/v","subPathExpr":"$(A)/x"}],"livenessProbe":{"httpGet":{"path":"/","port":"web"},"periodSeconds":5,"terminationGracePeriodSeconds":7},"readinessProbe":{"exec":{"command":["true"]}},"lifecycle":{"preStop":{"sleep":{"seconds":3}}}}],"ephemeralContainers":[{"name":"e","targetContainerName":"c"}],"volumes":[{"name":"v","emptyDir":{"medium":"Memory","sizeLimit":"1Mi"}},{"name":"d","downwardAPI":{"items":[{"path":"x","fieldRef":{"fieldPath":"metadata.name"}}]}},{"name":"t","projected":{"sources":[{"serviceAccountToken":{"path":"t","expirationSeconds":3600}}]}}]}}"#;

/// From the object to what the runtime is told, what is done next and what the status says: for whatever a hub, of
/// this version or another, lets pass.
#[test]
fn pods() {
    let words = &[
        "9223372036854775807",
        "-1",
        "1E",
        "100n",
        "1e-3",
        "Ki",
        "$(",
        "Always",
        "Memory",
        "securityContext",
        "resources",
        "limits",
        "ephemeral-storage",
        "hostNetwork",
        "status.podIPs",
    ];
    Target::new("pods", &[POD]).words(words).runs(1500).check(|input| {
        let Ok(pod) = serde_json::from_slice::<Pod>(input) else { return false };
        let Ok(pod) = DesiredPod::new(Arc::new(pod), Arc::new(References::default())) else {
            return false;
        };
        let facts = NodeFacts::default();
        let entrypoint = vec!["/entry".to_owned()];
        let image = ImageFacts { user: "a:b".to_owned(), entrypoint, ..ImageFacts::default() };
        let mut good = true;
        for desired in &pod.containers {
            let (pod_uid, attempt) = (pod.uid, Attempt(0));
            let id = ContainerId { pod: pod_uid, name: desired.name.clone(), attempt };
            let sandbox = SandboxId { pod: pod_uid, attempt };
            good &=
                spec::container_spec(&pod, desired, (id, sandbox), &image, &facts, None).is_ok();
            probe::probes(&desired.container);
        }
        let spec = pod.spec();
        let _ = (referred_names(spec), Claims::of(spec), token::wanted(spec));
        let _ = (resources::pod_limits(spec), files::resolv_conf(spec, "nameserver 1.1.1.1\n"));
        files::hosts(&pod, &facts, None, "");
        let now: Timestamp = NOW.parse().unwrap();
        let mut observed = ObservedPod::new(pod.uid, now);
        status::pod_status(&pod, &observed, None, None, now);
        let wanted = Verdict::Wanted(Arc::new(pod));
        plan(&wanted, &observed, now);
        let grace_seconds = observed.grace_seconds;
        let reason = record::TeardownReason::Deleted;
        observed.lifecycle = Lifecycle::Terminating { since: now, grace_seconds, reason };
        plan(&wanted, &observed, now);
        good
    });
}

#[test]
fn pull_secrets() {
    let seeds: &[&[u8]] = &[
        br#"{"auths":{"https://reg.io/v1/":{"auth":"bWU6c2VjOnJldA=="},"other.io":{"username":"x","password":"y"}}}"#,
        br#"{"reg.io":{"auth":"YTpi"}}"#,
    ];
    Target::new("pull-secrets", seeds).words(&["auths", "reg.io", "https://", "auth", "/"]).check(
        |input| {
            [".dockerconfigjson", ".dockercfg"].iter().any(|key| {
                let data = [((*key).to_owned(), ByteString(input.to_vec()))].into();
                let secret = Secret { data: Some(data), ..Secret::default() };
                image::credential([&secret].into_iter(), "reg.io/app:1").is_some()
            })
        },
    );
}

/// The ledger's own: what does not come back as it was written is not read at all.
#[test]
fn pod_records() {
    let seeds: &[&[u8]] = &[
        br#"{"v":1,"r":{"uid":"5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e","pod":{"namespace":"n","name":"p"},"grace_seconds":30,"started_at":"2026-11-20T08:00:00Z","lifecycle":{"Terminating":{"since":"2026-11-20T08:00:00Z","grace_seconds":30,"reason":"Deleted"}},"sandbox":{"attempt":1,"made_at":"2026-11-20T08:00:00Z","address":"10.42.0.7"},"rejection":null}}"#,
        br#"{"v":1,"r":{"name":"c","attempt":3,"sandbox":1,"image":"i","image_id":"i@sha256:0","backoff_seconds":20,"created_at":"2026-11-20T08:00:00Z","stop_signal":15,"stop":{"since":"2026-11-20T08:00:00Z","grace_seconds":5},"exit":{"attempt":3,"code":1,"signal":null,"reason":"Error","message":"","started_at":null,"finished_at":"2026-11-20T08:00:00Z","image_id":"","lost":false},"last":null,"ready":true,"ready_changed_at":null}}"#,
    ];
    let words = &["Syncing", "Terminated", "Completed", "9999-12-30T22:00:00.999999999Z", "-9999"];
    Target::new("pod-records", seeds).words(words).check(|input| {
        let now: Timestamp = NOW.parse().unwrap();
        if let Some(record) = record::decode::<PodRecord>(input) {
            assert_eq!(record::decode(&record::encode(&record)), Some(record.clone()));
            let mut observed = ObservedPod::new(record.uid, record.started_at);
            observed.grace_seconds = record.grace_seconds;
            observed.lifecycle = record.lifecycle;
            observed.sandbox = record.sandbox;
            plan(&Verdict::Unwanted { last: None }, &observed, now);
            return true;
        }
        let Some(record) = record::decode::<ContainerRecord>(input) else { return false };
        assert_eq!(record::decode(&record::encode(&record)), Some(record.clone()));
        backoff::next(record.backoff());
        true
    });
}
