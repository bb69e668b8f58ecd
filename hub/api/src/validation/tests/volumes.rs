//! Volumes, claims, limits and quotas.

use serde_json::json;

use super::{causes, check, context, put};
use crate::write::{create, update};

fn volume() -> serde_json::Value {
    json!({
        "metadata": {"name": "v"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "nfs": {"server": "s", "path": "/x"},
        },
    })
}

fn claim() -> serde_json::Value {
    json!({
        "metadata": {"name": "c"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        },
    })
}

#[test]
fn persistent_volumes() {
    check(
        "persistentvolumes",
        &volume(),
        &[
            ("/spec/accessModes", json!([]), &["spec.accessModes: Required value"]),
            (
                "/spec/accessModes",
                json!(["ReadWriteOncePod", "Any"]),
                &[
                    "spec.accessModes: Unsupported value: \"Any\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                    "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
                ],
            ),
            (
                "/spec/capacity",
                json!({"storage": "0"}),
                &["spec.capacity[storage]: Invalid value: \"0\": must be greater than zero"],
            ),
            (
                "/spec/nfs/path",
                json!("x"),
                &["spec.nfs.path: Invalid value: \"x\": must be an absolute path"],
            ),
            (
                "/spec/csi",
                json!({"driver": "d"}),
                &[
                    "spec.csi.volumeHandle: Required value",
                    "spec.nfs: Forbidden: may not specify more than 1 volume type",
                ],
            ),
            ("/spec/nfs", json!(null), &["spec: Required value: must specify a volume type"]),
            (
                "/spec/persistentVolumeReclaimPolicy",
                json!("Keep"),
                &[
                    "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Keep\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
                ],
            ),
        ],
    );
    let context = context("persistentvolumes");
    let old = create(volume(), &context).unwrap();
    let mut new = old.clone();
    put(&mut new, "/spec/nfs/path", json!("/y"));
    assert_eq!(
        causes(update(new, &old, &context)),
        [
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n  spec.nfs.path: \"/x\" -> \"/y\""
        ]
    );
}

#[test]
fn claims() {
    check(
        "persistentvolumeclaims",
        &claim(),
        &[
            (
                "/spec/accessModes",
                json!([]),
                &["spec.accessModes: Required value: at least 1 access mode is required"],
            ),
            ("/spec/resources", json!({}), &["spec.resources[storage]: Required value"]),
            (
                "/spec/dataSource",
                json!({"kind": "Pod", "name": "p"}),
                &[
                    "spec.dataSource: Invalid value: \"Pod\"",
                    "spec.dataSourceRef: Invalid value: \"Pod\"",
                ],
            ),
        ],
    );
    let context = context("persistentvolumeclaims");
    let mut old = create(claim(), &context).unwrap();
    let grown = |old: &serde_json::Value| {
        let mut new = old.clone();
        put(&mut new, "/spec/resources/requests/storage", json!("2Gi"));
        causes(update(new, old, &context))
    };
    assert_eq!(
        grown(&old),
        [
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n  spec.resources.requests.storage: \"1Gi\" -> \"2Gi\""
        ]
    );
    old["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
    assert_eq!(grown(&old), Vec::<String>::new());
    let mut new = old.clone();
    put(&mut new, "/spec/resources/requests/storage", json!("500Mi"));
    assert_eq!(
        causes(update(new, &old, &context)),
        ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
    );
}

#[test]
fn limits_and_quotas() {
    check(
        "limitranges",
        &json!({
            "metadata": {"name": "l"},
            "spec": {"limits": [{"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"}}]},
        }),
        &[
            (
                "/spec/limits/0/min/cpu",
                json!("3"),
                &[
                    "spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2",
                    "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": min value 3 is greater than default request value 2",
                    "spec.limits[0].default[cpu]: Invalid value: \"2\": min value 3 is greater than default value 2",
                ],
            ),
            (
                "/spec/limits/0/maxLimitRequestRatio",
                json!({"cpu": "3"}),
                &[
                    "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
                ],
            ),
        ],
    );
    check(
        "resourcequotas",
        &json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "5", "cpu": "1"}}}),
        &[
            (
                "/spec/hard/pods",
                json!("1500m"),
                &["spec.hard[pods]: Invalid value: \"1500m\": must be an integer"],
            ),
            (
                "/spec/hard/cats",
                json!("1"),
                &[
                    "spec.hard[cats]: Invalid value: \"cats\": must be a standard resource for quotas",
                ],
            ),
            (
                "/spec/scopes",
                json!(["BestEffort"]),
                &[
                    "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
                ],
            ),
            (
                "/spec/scopeSelector",
                json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}),
                &[
                    "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                ],
            ),
        ],
    );
}

#[test]
fn volumes_of_pods() {
    check(
        "pods",
        &json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "i:1"}], "volumes": [{"name": "v"}]},
        }),
        &[
            (
                "/spec/volumes/0/iscsi",
                json!({"targetPortal": "p", "iqn": "x", "lun": 256}),
                &[
                    "spec.volumes[0].iscsi.iqn: Invalid value: \"x\": must be valid format starting with iqn, eui, or naa",
                    "spec.volumes[0].iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
                ],
            ),
            (
                "/spec/volumes/0/fc",
                json!({}),
                &[
                    "spec.volumes[0].fc.targetWWNs: Required value: must specify either targetWWNs or wwids, but not both",
                ],
            ),
            (
                "/spec/volumes/0/csi",
                json!({"driver": "D_"}),
                &[
                    "spec.volumes[0].csi.driver: Invalid value: \"D_\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                ],
            ),
            (
                "/spec/volumes/0/ephemeral",
                json!({"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}),
                &[
                    "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value",
                ],
            ),
            (
                "/spec/volumes/0/projected",
                json!({"sources": [
                    {"serviceAccountToken": {"path": "t", "expirationSeconds": 10}},
                    {"clusterTrustBundle": {"path": "t"}},
                ]}),
                &[
                    "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes",
                    "spec.volumes[0].projected.sources[1].clusterTrustBundle: Required value: either name or signerName must be specified",
                    "spec.volumes[0].projected: Invalid value: \"t\": conflicting duplicate paths",
                ],
            ),
        ],
    );
}
