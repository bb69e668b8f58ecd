//! What the plugins say, case by case.

use serde_json::{Value, json};

use super::pod_security::{Level, Policies, Policy, evaluate};
use super::{limit_ranger, quota, scheduling, service_account};
use crate::quantity::Quantity;
use crate::resources;

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": spec})
}

#[test]
fn pods_break_standards_in_kubernetes_words() {
    let one = |more: Value| {
        let mut container = json!({"name": "a", "image": "i"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"containers": [container]})
    };
    let hard = json!({"allowPrivilegeEscalation": false, "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}});
    let cases = [
        (Level::Baseline, one(json!({})), ""),
        (Level::Restricted, one(json!({"securityContext": hard})), ""),
        (
            Level::Restricted,
            one(json!({})),
            "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        ),
        (
            Level::Baseline,
            one(json!({"securityContext": {"privileged": true}})),
            "privileged (container \"a\" must not set securityContext.privileged=true)",
        ),
        (
            Level::Baseline,
            one(
                json!({"securityContext": {"capabilities": {"add": ["NET_ADMIN", "CHOWN", "BPF"]}}}),
            ),
            "non-default capabilities (container \"a\" must not include \"BPF\", \"NET_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            Level::Baseline,
            one(json!({"ports": [{"hostPort": 80}]})),
            "hostPort (container \"a\" uses hostPort 80)",
        ),
        (
            Level::Baseline,
            one(json!({"livenessProbe": {"httpGet": {"host": "x"}}})),
            "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"x\")",
        ),
        (
            Level::Baseline,
            json!({"hostPID": true, "hostNetwork": true}),
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (
            Level::Baseline,
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            "hostPath volumes (volume \"v\")",
        ),
        (
            Level::Restricted,
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")",
        ),
        (
            Level::Baseline,
            json!({"securityContext": {"sysctls": [{"name": "kernel.x"}, {"name": "net.ipv4.tcp_syncookies"}]}}),
            "forbidden sysctls (kernel.x)",
        ),
        (
            Level::Baseline,
            json!({"securityContext": {"seLinuxOptions": {"type": "spc_t", "user": "u"}}}),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
        (
            Level::Baseline,
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            Level::Baseline,
            one(json!({"securityContext": {"procMount": "Unmasked"}})),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
    ];
    for (level, spec, want) in cases {
        let got = evaluate(Policy { level, minor: None }, &json!({}), &spec).unwrap_or_default();
        assert_eq!(got, want, "{spec}");
    }
    // What a later version forbids, an earlier one allows.
    let spec = one(json!({"livenessProbe": {"httpGet": {"host": "x"}}}));
    assert_eq!(
        evaluate(Policy { level: Level::Baseline, minor: Some(33) }, &json!({}), &spec),
        None
    );
}

#[test]
fn labels_of_namespaces_ask_for_policies() {
    let label = |key: &str, value: &str| json!({"metadata": {"labels": {key: value}}});
    let (policies, errors) = Policies::of(&label("pod-security.kubernetes.io/enforce", "baseline"));
    assert_eq!(
        (policies.enforce.to_string(), policies.warn.to_string(), errors.len()),
        ("baseline:latest".to_owned(), "baseline:latest".to_owned(), 0)
    );
    for (key, value, want) in [
        (
            "pod-security.kubernetes.io/enforce",
            "strict",
            "must be one of privileged, baseline, restricted",
        ),
        ("pod-security.kubernetes.io/warn-version", "1.3", "must be \"latest\" or \"v1.x\""),
    ] {
        let (_, errors) = Policies::of(&label(key, value));
        assert!(errors[0].to_string().ends_with(want), "{}", errors[0]);
    }
}

#[test]
fn limit_ranges_fill_and_bound() {
    let range = json!({"spec": {"limits": [
        {"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "500m"},
            "max": {"cpu": "2"}, "min": {"cpu": "100m"}, "maxLimitRequestRatio": {"cpu": "2"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
    ]}});
    let mut made = pod(json!({"containers": [{"name": "a"}]}));
    assert!(limit_ranger::set_defaults(&mut made, std::slice::from_ref(&range)));
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container a; cpu limit for container a"
    );
    assert_eq!(limit_ranger::check_pod(&made, &range), Vec::<String>::new());
    let asks = |request: &str, limit: &str| {
        pod(json!({"containers": [{"name": "a",
        "resources": {"requests": {"cpu": request}, "limits": {"cpu": limit}}}]}))
    };
    for (made, want) in [
        (asks("3", "3"), "maximum cpu usage per Container is 2, but limit is 3"),
        (asks("50m", "100m"), "minimum cpu usage per Container is 100m, but request is 50m"),
        (
            asks("500m", "2"),
            "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000",
        ),
        (
            pod(json!({"containers": [{"name": "a"}]})),
            "[minimum cpu usage per Container is 100m.  No request is specified, maximum cpu usage per Container is 2.  No limit is specified, cpu max limit to request ratio per Container is 2, but no request is specified or request is 0]",
        ),
    ] {
        assert_eq!(limit_ranger::joined(&limit_ranger::check_pod(&made, &range)), want);
    }
    let claim = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    assert_eq!(
        limit_ranger::check_claim(&claim, &range),
        ["maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"]
    );
}

#[test]
fn quotas_count_what_is_used() {
    let find = |plural: &str| resources::find("", "v1", plural).unwrap();
    let made = pod(json!({
        "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "3"}}}],
        "containers": [
            {"name": "a", "resources": {"requests": {"cpu": "1", "example.com/gpu": "2"}}},
            {"name": "b", "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}}},
        ],
    }));
    let used = quota::usage(find("pods"), &made);
    let shown: Vec<String> = used.iter().map(|(name, it)| format!("{name}={it}")).collect();
    assert_eq!(
        shown,
        [
            "count/pods=1",
            "cpu=3",
            "limits.memory=1Gi",
            "pods=1",
            "requests.cpu=3",
            "requests.example.com/gpu=2"
        ]
    );
    let quota = |spec: Value| json!({"metadata": {"name": "q"}, "spec": spec});
    let limits = quota(json!({"hard": {"pods": "1", "cpu": "4", "limits.memory": "2Gi"}}));
    let mut held = quota::Amounts::new();
    assert_eq!(quota::check_room(&limits, &held, &used), Ok(()));
    quota::add(&mut held, &used);
    assert_eq!(
        quota::check_room(&limits, &held, &used).unwrap_err(),
        "exceeded quota: q, requested: cpu=3,pods=1, used: cpu=3,pods=1, limited: cpu=4,pods=1"
    );
    assert_eq!(
        quota::check_specified(&limits, &made).unwrap_err(),
        "must specify limits.memory for: a,i"
    );
    let scoped = |scope: &str| quota(json!({"hard": {}, "scopes": [scope]}));
    for (scope, counted) in [
        ("BestEffort", false),
        ("NotBestEffort", true),
        ("Terminating", false),
        ("NotTerminating", true),
        ("PriorityClass", false),
    ] {
        assert_eq!(quota::counts(&scoped(scope), find("pods"), &made), counted, "{scope}");
    }
    let ended = json!({"spec": {"containers": []}, "status": {"phase": "Failed"}});
    assert_eq!(quota::usage(find("pods"), &ended).keys().collect::<Vec<_>>(), ["count/pods"]);
    let gone = quota::difference(&quota::usage(find("pods"), &ended), &used);
    assert_eq!(gone["cpu"], Quantity::parse("-3").unwrap());
}

#[test]
fn pods_get_the_priority_of_their_class() {
    let class = json!({"metadata": {"name": "high"}, "value": 7, "preemptionPolicy": "Never"});
    let mut made = pod(json!({}));
    scheduling::set_priority(&mut made, Some(&class)).unwrap();
    assert_eq!(
        made["spec"],
        json!({"priority": 7, "preemptionPolicy": "Never", "priorityClassName": "high"})
    );
    let mut wrong = pod(json!({"priority": 3}));
    assert_eq!(
        scheduling::set_priority(&mut wrong, Some(&class)).unwrap_err(),
        "the integer value of priority (3) must not be provided in pod spec; priority admission controller computed 7 from the given PriorityClass name"
    );
}

#[test]
fn tokens_are_mounted_once() {
    let mut made = pod(json!({"containers": [{"name": "a"},
        {"name": "b", "volumeMounts": [{"name": "own", "mountPath": service_account::TOKEN_PATH}]}]}));
    service_account::mount_token(&mut made, "abcde");
    assert_eq!(made["spec"]["volumes"][0]["name"], "kube-api-access-abcde");
    assert_eq!(made["spec"]["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
    let before = made.clone();
    service_account::mount_token(&mut made, "other");
    assert_eq!(made, before);
}
