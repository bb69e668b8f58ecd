//! Kinds of storage, scheduling, flow control, devices and aggregation: a good object, one change at a time.

use serde_json::json;

use super::check;
use super::groups::check_change;

#[test]
fn storage() {
    let class = json!({"metadata": {"name": "a"}, "provisioner": "a.io/b", "parameters": {}});
    check(
        "storageclasses",
        &class,
        &[
            ("/provisioner", json!(""), &["provisioner: Required value"]),
            (
                "/reclaimPolicy",
                json!("Keep"),
                &[
                    "reclaimPolicy: Unsupported value: \"Keep\": supported values: \"Delete\", \"Retain\"",
                ],
            ),
            (
                "/volumeBindingMode",
                json!("Later"),
                &[
                    "volumeBindingMode: Unsupported value: \"Later\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
                ],
            ),
            (
                "/allowedTopologies",
                json!([{"matchLabelExpressions": [{"key": "zone", "values": []}]}]),
                &["allowedTopologies.matchLabelExpressions[0].values: Required value"],
            ),
        ],
    );
    check_change(
        "storageclasses",
        &class,
        &[
            (
                "/parameters",
                json!({"a": "b"}),
                &["parameters: Forbidden: updates to parameters are forbidden."],
            ),
            (
                "/provisioner",
                json!("a.io/c"),
                &["provisioner: Forbidden: updates to provisioner are forbidden."],
            ),
            (
                "/reclaimPolicy",
                json!("Retain"),
                &["reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden."],
            ),
            (
                "/volumeBindingMode",
                json!("WaitForFirstConsumer"),
                &["volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable"],
            ),
            ("/allowVolumeExpansion", json!(true), &[]),
        ],
    );
    let driver =
        json!({"metadata": {"name": "a.io"}, "spec": {"tokenRequests": [{"audience": "x"}]}});
    check(
        "csidrivers",
        &driver,
        &[
            (
                "/spec/fsGroupPolicy",
                json!("Any"),
                &[
                    "spec.fsGroupPolicy: Unsupported value: \"Any\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
                ],
            ),
            (
                "/spec/tokenRequests/0/expirationSeconds",
                json!(1),
                &[
                    "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
                ],
            ),
            (
                "/spec/volumeLifecycleModes",
                json!(["Now"]),
                &[
                    "spec.volumeLifecycleModes: Unsupported value: \"Now\": supported values: \"Ephemeral\", \"Persistent\"",
                ],
            ),
        ],
    );
    let node = json!({"metadata": {"name": "a"}, "spec": {"drivers": [{"name": "a.io", "nodeID": "1", "topologyKeys": []}]}});
    check(
        "csinodes",
        &node,
        &[
            ("/spec/drivers/0/nodeID", json!(""), &["spec.drivers[0].nodeID: Required value"]),
            (
                "/spec/drivers/0/topologyKeys",
                json!(["a", "a"]),
                &["spec.drivers[0].topologyKeys: Duplicate value: \"a\""],
            ),
        ],
    );
    let attachment = json!({"metadata": {"name": "a"}, "spec": {"attacher": "a.io", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
    check(
        "volumeattachments",
        &attachment,
        &[
            (
                "/spec/source",
                json!({}),
                &[
                    "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
                ],
            ),
            ("/spec/attacher", json!(""), &["spec.attacher: Required value"]),
        ],
    );
    check_change(
        "volumeattachments",
        &attachment,
        &[
            (
                "/spec/nodeName",
                json!("m"),
                &[
                    "spec: Invalid value: {\"attacher\":\"a.io\",\"nodeName\":\"m\",\"source\":{\"persistentVolumeName\":\"v\"}}: field is immutable",
                ],
            ),
            ("/status/attached", json!(true), &[]),
        ],
    );
    let attributes =
        json!({"metadata": {"name": "a"}, "driverName": "a.io", "parameters": {"a": "b"}});
    check(
        "volumeattributesclasses",
        &attributes,
        &[(
            "/parameters",
            json!({}),
            &["parameters: Required value: must contain at least one key/value pair"],
        )],
    );
    check_change(
        "volumeattributesclasses",
        &attributes,
        &[(
            "/driverName",
            json!("b.io"),
            &["driverName: Forbidden: updates to driverName are forbidden."],
        )],
    );
    let capacity = json!({"metadata": {"name": "a"}, "storageClassName": "fast"});
    check(
        "csistoragecapacities",
        &capacity,
        &[(
            "/capacity",
            json!("-1"),
            &["capacity: Invalid value: \"-1\": must be greater than or equal to 0"],
        )],
    );
}

#[test]
fn classes_of_pods() {
    let priority = json!({"metadata": {"name": "a"}, "value": 5});
    check(
        "priorityclasses",
        &priority,
        &[
            (
                "/value",
                json!(1_000_000_001),
                &[
                    "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
                ],
            ),
            (
                "/metadata/name",
                json!("system-a"),
                &[
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-a is not a known system priority class",
                ],
            ),
            (
                "/metadata/name",
                json!("system-node-critical"),
                &[
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-node-critical PriorityClass must be 2000001000",
                ],
            ),
            (
                "/preemptionPolicy",
                json!("Always"),
                &[
                    "preemptionPolicy: Unsupported value: \"Always\": supported values: \"Never\", \"PreemptLowerPriority\"",
                ],
            ),
        ],
    );
    check_change(
        "priorityclasses",
        &priority,
        &[
            ("/value", json!(6), &["value: Forbidden: may not be changed in an update."]),
            (
                "/preemptionPolicy",
                json!("Never"),
                &["preemptionPolicy: Invalid value: \"Never\": field is immutable"],
            ),
        ],
    );
    let runtime =
        json!({"metadata": {"name": "a"}, "handler": "kata", "scheduling": {"tolerations": []}});
    check_change(
        "runtimeclasses",
        &runtime,
        &[("/handler", json!("runc"), &["handler: Invalid value: \"runc\": field is immutable"])],
    );
    check(
        "runtimeclasses",
        &runtime,
        &[(
            "/scheduling/tolerations",
            json!([{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Exists"}]),
            &[
                "scheduling.tolerations[1]: Duplicate value: {\"key\":\"a\",\"operator\":\"Exists\"}",
            ],
        )],
    );
}

#[test]
fn flow_control() {
    let schema = json!({"metadata": {"name": "a"}, "spec": {
        "priorityLevelConfiguration": {"name": "b"},
        "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "x"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz/*"]}],
        }],
    }});
    let rule = "/spec/rules/0/resourceRules/0";
    check(
        "flowschemas",
        &schema,
        &[
            (
                "/spec/matchingPrecedence",
                json!(1),
                &[
                    "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                ],
            ),
            (
                "/spec/matchingPrecedence",
                json!(10_001),
                &["spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000"],
            ),
            (
                "/spec/priorityLevelConfiguration/name",
                json!(""),
                &[
                    "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
                ],
            ),
            (
                "/spec/rules/0/subjects",
                json!([]),
                &[
                    "spec.rules[0].subjects: Required value: subjects must contain at least one value",
                ],
            ),
            (
                "/spec/rules/0/subjects/0",
                json!({"kind": "Group", "user": {"name": "x"}}),
                &[
                    "spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User'",
                    "spec.rules[0].subjects[0].group: Required value: group is required when subject kind is 'Group'",
                ],
            ),
            (
                rule,
                json!({"verbs": ["*", "get"], "apiGroups": [""], "resources": ["pods"]}),
                &[
                    "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify other verbs",
                    "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
                ],
            ),
            (
                "/spec/rules/0/nonResourceRules/0/nonResourceURLs",
                json!(["/a*"]),
                &[
                    "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"/a*\": wildcard can only do suffix matching",
                ],
            ),
        ],
    );
    let level = json!({"metadata": {"name": "a"}, "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}});
    let queuing = "/spec/limited/limitResponse/queuing";
    check(
        "prioritylevelconfigurations",
        &level,
        &[
            (
                "/spec/type",
                json!("Exempt"),
                &[
                    "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'",
                    "spec.limited: Forbidden: must be nil if the type is not Limited",
                ],
            ),
            (
                queuing,
                json!({"queues": 5, "handSize": 6}),
                &[
                    "spec.limited.limitResponse.queuing.handSize: Invalid value: 6: should not be greater than queues (5)",
                ],
            ),
            (
                queuing,
                json!({"queues": 1_000_000, "handSize": 4}),
                &[
                    "spec.limited.limitResponse.queuing.handSize: Invalid value: 4: required entropy bits of deckSize 1000000 and handSize 4 should not be greater than 60",
                ],
            ),
            (
                "/spec/limited/lendablePercent",
                json!(101),
                &[
                    "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
                ],
            ),
        ],
    );
}

#[test]
fn devices() {
    let claim = json!({"metadata": {"name": "a"}, "spec": {"devices": {
        "requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}],
        "constraints": [],
    }}});
    let request = "/spec/devices/requests/0";
    check(
        "resourceclaims",
        &claim,
        &[
            (
                request,
                json!({"name": "gpu"}),
                &[
                    "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
                ],
            ),
            (
                request,
                json!({"name": "", "exactly": {"deviceClassName": "c"}}),
                &["spec.devices.requests[0].name: Required value"],
            ),
            (
                request,
                json!({"name": "gpu", "exactly": {"deviceClassName": "c", "allocationMode": "All", "count": 2}}),
                &[
                    "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
                ],
            ),
            (
                request,
                json!({"name": "gpu", "exactly": {"deviceClassName": ""}}),
                &["spec.devices.requests[0].exactly.deviceClassName: Required value"],
            ),
            (
                "/spec/devices/constraints",
                json!([{"requests": ["cpu"], "matchAttribute": "a"}]),
                &[
                    "spec.devices.constraints[0].requests[0]: Invalid value: \"cpu\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
                    "spec.devices.constraints[0].matchAttribute: Invalid value: \"a\": a fully qualified name must be a domain and a name separated by a slash",
                ],
            ),
        ],
    );
    check_change(
        "resourceclaims",
        &claim,
        &[
            (
                "/status/reservedFor",
                json!([{"resource": "pods", "name": "p", "uid": "1"}]),
                &[
                    "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
                ],
            ),
            (
                "/status/allocation",
                json!({"devices": {"results": [{"request": "gpu", "driver": "a.io", "pool": "n", "device": "d"}]}}),
                &[],
            ),
        ],
    );
    let slice = json!({"metadata": {"name": "a"}, "spec": {
        "driver": "a.io", "nodeName": "n", "pool": {"name": "n", "resourceSliceCount": 1},
        "devices": [{"name": "gpu-0", "attributes": {"model": {"string": "x"}}}],
    }});
    check(
        "resourceslices",
        &slice,
        &[
            (
                "/spec/allNodes",
                json!(true),
                &[
                    "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
                ],
            ),
            (
                "/spec/pool/resourceSliceCount",
                json!(0),
                &["spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero"],
            ),
            (
                "/spec/devices/0/attributes",
                json!({"v": {"version": "1.0"}}),
                &[
                    "spec.devices[0].attributes[v].version: Invalid value: \"1.0\": must be a string compatible with semver.org spec 2.0.0",
                ],
            ),
            ("/spec/devices/0/attributes", json!({"v": {"version": "1.0.0-rc.1+b"}}), &[]),
            (
                "/spec/devices/0/attributes",
                json!({"v": {}}),
                &[
                    "spec.devices[0].attributes[v]: Invalid value: \"\": exactly one value must be specified",
                ],
            ),
            (
                "/spec/devices/0/nodeName",
                json!("m"),
                &[
                    "spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
                ],
            ),
            (
                "/spec/devices/0/name",
                json!("A"),
                &[
                    "spec.devices[0].name: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                ],
            ),
        ],
    );
    check_change(
        "resourceslices",
        &slice,
        &[(
            "/spec/pool/name",
            json!("m"),
            &["spec.pool.name: Invalid value: \"m\": field is immutable"],
        )],
    );
}

#[test]
fn api_services() {
    let api = json!({"metadata": {"name": "v1.a.io"}, "spec": {
        "group": "a.io", "version": "v1", "groupPriorityMinimum": 10, "versionPriority": 10,
    }});
    check(
        "apiservices",
        &api,
        &[
            (
                "/metadata/name",
                json!("v2.a.io"),
                &[
                    "metadata.name: Invalid value: \"v2.a.io\": must be `spec.version+\".\"+spec.group`: \"v1.a.io\"",
                ],
            ),
            (
                "/spec/versionPriority",
                json!(1001),
                &["spec.versionPriority: Invalid value: 1001: must be positive and less than 1000"],
            ),
            (
                "/spec/insecureSkipTLSVerify",
                json!(true),
                &[
                    "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
                ],
            ),
            ("/spec/service", json!({"name": "a"}), &["spec.service.namespace: Required value"]),
        ],
    );
}
