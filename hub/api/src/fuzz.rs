//! Fuzz targets: everything that reads what clients send.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use tests_fuzz::Target as Fuzz;

use crate::cel::{self, Program, Session};
use crate::decode::{self, FieldValidation, Media, Target};
use crate::managed::{self, OneVersion, Scope, Writer};
use crate::quantity::Quantity;
use crate::resource::Resource;
use crate::selector::{FieldSelector, LabelSelector};
use crate::table::{IncludeObject, TableMeta, table};
use crate::write::{self, WriteContext};
use crate::{custom, names, object, patch, protobuf, resources, schema};

fn now() -> jiff::Timestamp {
    "2026-11-20T08:00:00Z".parse().unwrap()
}

fn context(resource: &Resource) -> WriteContext<'_> {
    let namespace = resource.namespaced.then_some("default");
    WriteContext { resource, namespace, name: None, now: now(), uid: "u", suffix: "abcde" }
}

const POD: &[u8] = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"app":"a"},"annotations":{"a.b/c":"d"},"finalizers":["a.b/c"],"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"n","uid":"u"}]},"spec":{"containers":[{"name":"c","image":"i:1","command":["a"],"args":["$(B)"],"env":[{"name":"B","value":"b"},{"name":"D","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}],"ports":[{"name":"web","containerPort":80,"protocol":"TCP"}],"resources":{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"100m"}},"readinessProbe":{"httpGet":{"path":"/","port":"web"},"periodSeconds":5},"lifecycle":{"preStop":{"exec":{"command":["x"]}}},"securityContext":{"runAsUser":1,"capabilities":{"drop":["ALL"]}},"volumeMounts":[{"name":"v","mountPath":"/v"}]}],"initContainers":[{"name":"i","image":"i","restartPolicy":"Always"}],"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Mi"}},{"name":"p","projected":{"sources":[{"configMap":{"name":"m","items":[{"key":"k","path":"p"}]}},{"downwardAPI":{"items":[{"path":"l","fieldRef":{"fieldPath":"metadata.labels"}}]}}]}}],"tolerations":[{"key":"k","operator":"Exists","effect":"NoExecute","tolerationSeconds":3}],"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]}]}}},"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"a":"b"}}}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"hostAliases":[{"ip":"1.2.3.4","hostnames":["h"]}]},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True","lastTransitionTime":"2026-11-20T08:00:00Z"}],"containerStatuses":[{"name":"c","ready":true,"restartCount":1,"image":"i","imageID":"","state":{"running":{"startedAt":"2026-11-20T08:00:00Z"}},"lastState":{"terminated":{"exitCode":1,"reason":"Error","finishedAt":"2026-11-20T07:00:00Z"}}}]}}"#;
const DEPLOYMENT: &[u8] = br#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"replicas":3,"selector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"c","operator":"Exists"}]},"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":"25%","maxUnavailable":1}},"template":{"metadata":{"labels":{"a":"b","c":""}},"spec":{"containers":[{"name":"c","image":"i"}]}}},"status":{"replicas":1,"conditions":[{"type":"Available","status":"True"}]}}"#;
const SERVICE: &[u8] = br#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"type":"NodePort","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ipFamilies":["IPv4"],"ports":[{"name":"x","port":80,"targetPort":"web","nodePort":30000,"protocol":"TCP"},{"name":"y","port":81}],"selector":{"a":"b"},"externalIPs":["1.2.3.4"],"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":10}}}}"#;
const CRON_JOB: &[u8] = br#"{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"a"},"spec":{"schedule":"*/5 1-3 * JAN,MAR MON","timeZone":"Europe/Berlin","jobTemplate":{"spec":{"completions":3,"parallelism":2,"completionMode":"Indexed","backoffLimitPerIndex":1,"maxFailedIndexes":2,"podFailurePolicy":{"rules":[{"action":"Ignore","onExitCodes":{"operator":"In","values":[1,2]}}]},"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}}}"#;
const INGRESS: &[u8] = br#"{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"name":"a"},"spec":{"defaultBackend":{"service":{"name":"s","port":{"number":80}}},"tls":[{"hosts":["a.b"],"secretName":"s"}],"rules":[{"host":"*.a.b","http":{"paths":[{"path":"/x","pathType":"Prefix","backend":{"service":{"name":"s","port":{"name":"p"}}}}]}}]}}"#;
const POLICY: &[u8] = br#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"a"},"spec":{"podSelector":{},"policyTypes":["Ingress"],"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}},{"namespaceSelector":{}}],"ports":[{"port":80,"endPort":90,"protocol":"TCP"}]}]}}"#;
const NODE: &[u8] = br#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"},"spec":{"podCIDR":"10.42.0.0/24","podCIDRs":["10.42.0.0/24"],"taints":[{"key":"a","value":"b","effect":"NoSchedule"}]},"status":{"capacity":{"cpu":"2","memory":"1Gi"},"conditions":[{"type":"Ready","status":"True"}],"addresses":[{"type":"InternalIP","address":"1.2.3.4"}],"nodeInfo":{"kubeletVersion":"v1"}}}"#;
const SCALER: &[u8] = br#"{"apiVersion":"autoscaling/v2","kind":"HorizontalPodAutoscaler","metadata":{"name":"a"},"spec":{"maxReplicas":3,"minReplicas":1,"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"a"},"metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":50}}},{"type":"Pods","pods":{"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"1"}}}],"behavior":{"scaleDown":{"policies":[{"type":"Pods","value":1,"periodSeconds":60}]}}},"status":{"currentMetrics":[{"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":3,"averageValue":"1m"}}}]}}"#;
const DEFINITION: &[u8] = br#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"crontabs.stable.example.com"},"spec":{"group":"stable.example.com","scope":"Namespaced","names":{"plural":"crontabs","singular":"crontab","kind":"CronTab","shortNames":["ct"]},"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","required":["n"],"properties":{"n":{"type":"integer","minimum":1,"maximum":10,"default":3,"format":"int32"},"s":{"type":"string","pattern":"^a+$","maxLength":5,"enum":["a","aa"]},"l":{"type":"array","maxItems":3,"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object","required":["k"],"properties":{"k":{"type":"string","maxLength":9}}}},"m":{"type":"object","additionalProperties":{"type":"string"}},"p":{"x-kubernetes-int-or-string":true},"any":{"type":"object","x-kubernetes-preserve-unknown-fields":true},"one":{"type":"object","properties":{"x":{"type":"string"}},"oneOf":[{"required":["x"]}]}},"x-kubernetes-validations":[{"rule":"self.n > 0 && (!has(oldSelf.n) || self.n >= oldSelf.n)","message":"no","messageExpression":"'n is ' + string(self.n)"}]},"status":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}},"subresources":{"status":{},"scale":{"specReplicasPath":".spec.n","statusReplicasPath":".status.n","labelSelectorPath":".status.s"}},"selectableFields":[{"jsonPath":".spec.s"}],"additionalPrinterColumns":[{"name":"N","type":"integer","jsonPath":".spec.n"},{"name":"R","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}]}],"conversion":{"strategy":"None"}}}"#;
const QUOTA: &[u8] = br#"{"apiVersion":"v1","kind":"ResourceQuota","metadata":{"name":"a"},"spec":{"hard":{"pods":"3","requests.cpu":"1","count/deployments.apps":"2"},"scopeSelector":{"matchExpressions":[{"scopeName":"PriorityClass","operator":"In","values":["high"]}]}}}"#;
const ROLE: &[u8] = br#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"a"},"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]},{"nonResourceURLs":["/x/*"],"verbs":["get"]}]}"#;
const VALIDATING: &[u8] = br#"{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{"name":"a"},"spec":{"failurePolicy":"Fail","matchConstraints":{"resourceRules":[{"apiGroups":["apps"],"apiVersions":["v1"],"operations":["CREATE"],"resources":["deployments"]}]},"variables":[{"name":"v","expression":"object.spec.replicas"}],"validations":[{"expression":"variables.v <= 5","messageExpression":"'x'"}]}}"#;
const CLAIM: &[u8] = br#"{"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaim","metadata":{"name":"a"},"spec":{"devices":{"requests":[{"name":"r","exactly":{"deviceClassName":"c","selectors":[{"cel":{"expression":"device.driver == 'x'"}}],"allocationMode":"ExactCount","count":1}}],"constraints":[{"requests":["r"],"matchAttribute":"a/b"}]}}}"#;
const BODIES: &[&[u8]] = &[
    POD, DEPLOYMENT, SERVICE, CRON_JOB, INGRESS, POLICY, NODE, SCALER, DEFINITION, QUOTA, ROLE,
    VALIDATING, CLAIM,
];
const WORDS: &[&str] = &[
    "name",
    "metadata",
    "spec",
    "status",
    "a",
    "b",
    "labels",
    "generateName",
    "1Gi",
    "100m",
    "1e3",
    "-1",
    "25%",
    "2026-11-20T08:00:00Z",
    "0001-01-01T00:00:00Z",
    "99999-01-01T00:00:00Z",
    "kubernetes.io/hostname",
    "::1",
    "10.0.0.0/8",
    "0.0.0.0/33",
    "$patch",
    "$retainKeys",
    "$setElementOrder/ports",
    "$deleteFromPrimitiveList/finalizers",
    "replace",
    "delete",
    "merge",
    "op",
    "path",
    "value",
    "/spec/containers/0",
    "/spec/containers/-",
    "f:spec",
    "k:{\"name\":\"c\"}",
    "In",
    "Exists",
    "ClusterIP",
    "ExternalName",
    "None",
    "\u{1F600}",
    "default",
    "x-kubernetes-validations",
    "$ref",
    "allOf",
    "not",
    "properties",
    "items",
    "self",
    "RollingUpdate",
    "Never",
    "true",
];

fn found(body: &[u8]) -> Option<&'static Resource> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let (group, version) = object::text(&value, "apiVersion")
        .rsplit_once('/')
        .unwrap_or_else(|| ("", object::text(&value, "apiVersion")));
    resources::find_kind(group, version, object::text(&value, "kind"))
}

/// All that happens to a body of a creation, then to the same object as an update, a status and a row of a table.
#[test]
fn bodies() {
    Fuzz::new("bodies", BODIES).words(WORDS).runs(1500).check(|body| {
        let default = resources::find("", "v1", "pods").unwrap();
        let resource = found(body).unwrap_or(default);
        let read = decode::decode(resource, body, Media::Json, FieldValidation::Warn);
        if let Ok(value) = serde_json::from_slice::<Value>(body)
            && value.is_object()
        {
            // Rows are made of what is stored, which is checked; they must not rely on it.
            table(resource, [&value], TableMeta::default(), IncludeObject::Object, now());
        }
        let Ok(decoded) = read else { return false };
        let context = context(resource);
        let again = decode::conform(resource, &decoded.object, FieldValidation::Strict).unwrap();
        assert_eq!(again.object, decoded.object, "decoding twice is decoding once");
        let Ok(made) = write::create(resource.store(decoded.object.clone()), &context) else {
            return true;
        };
        let mut twice = made.clone();
        resource.strategy.default(&mut twice);
        assert_eq!(twice, made, "defaults are idempotent");
        let name = object::name(&made).to_owned();
        let context = WriteContext { name: Some(&name), ..context };
        let unchanged = write::update(made.clone(), &made, &context);
        assert!(unchanged.is_ok(), "an object can be written back: {:?}", unchanged.err());
        let _ = write::update_status(resource.store(decoded.object), &made, &context);
        table(resource, [&made], TableMeta::default(), IncludeObject::Metadata, now());
        true
    });
}

/// YAML, and bodies that are no JSON.
#[test]
fn yaml() {
    let seeds: &[&[u8]] = &[
        b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  labels: {a: b}\ndata:\n  x: |\n    text\n  y: >-\n    more\n",
        b"kind: ConfigMap\napiVersion: v1\nmetadata: &m {name: a}\ndata: {a: 'b', c: \"d\\u00e4\", <<: *m}\n",
        b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
        POD,
    ];
    let words = &[
        "&a ",
        "*a",
        "- ",
        ": ",
        "\n  ",
        "|",
        ">",
        "!!str ",
        "---\n",
        "...\n",
        "{",
        "}",
        "[",
        "]",
        "? ",
        "'",
        "\"",
        "#",
        "<<: *a",
        "\t",
        "~",
        "%YAML 1.1\n",
    ];
    Fuzz::new("yaml", seeds).words(words).runs(1500).check(|body| {
        let maps = resources::find("", "v1", "configmaps").unwrap();
        let applied = decode::applied(body, FieldValidation::Warn);
        let read = decode::decode(maps, body, Media::Yaml, FieldValidation::Strict);
        applied.is_ok() || read.is_ok()
    });
}

#[test]
fn protobuf_bodies() {
    let seeds: Vec<Vec<u8>> =
        protobuf::tests::BODIES.iter().map(|(body, _)| BASE64.decode(body).unwrap()).collect();
    let mut seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    seeds.push(b"k8s\0\x12\x05\x0a\x03\x0a\x01a");
    // DeleteOptions{gracePeriodSeconds: 0, preconditions: {uid: "u"}, propagationPolicy: "Orphan"}
    seeds.push(b"k8s\0\x0a\x13\x0a\x02v1\x12\x0dDeleteOptions\x12\x0f\x08\x00\x12\x03\x0a\x01u\x22\x06Orphan");
    Fuzz::new("protobuf-bodies", &seeds).words(&["k8s\0", "v1", "Pod"]).runs(2000).check(|body| {
        let options = Target {
            group: "meta.k8s.io",
            version: "v1",
            kind: "DeleteOptions",
            schema: "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
        };
        let _ = decode::decode_kind(options, body, Media::Protobuf, FieldValidation::Strict);
        let pods = resources::find("", "v1", "pods").unwrap();
        let _ = decode::decode(pods, body, Media::Protobuf, FieldValidation::Warn);
        protobuf::decode(body, Some("io.k8s.api.core.v1.Pod")).is_ok_and(|it| it.is_object())
    });
}

/// The input is a list of an object and patches of it.
#[test]
fn patches() {
    let seeds: &[&[u8]] = &[
        br#"[{"metadata":{"finalizers":["a","b"]},"spec":{"ports":[{"port":1,"name":"x"},{"port":2,"name":"y"}],"externalIPs":["1"],"selector":{"a":"b"}}},{"spec":{"ports":[{"port":1,"name":"z"},{"$patch":"delete","port":2}],"$setElementOrder/ports":[{"port":2},{"port":1}]},"metadata":{"$deleteFromPrimitiveList/finalizers":["a"],"$setElementOrder/finalizers":["b"]}}]"#,
        br#"[{"spec":{"selector":{"a":"b"},"x":[[1]]}},{"spec":{"$patch":"replace","selector":null}},{"spec":{"$retainKeys":["selector"],"selector":{"c":"d"}}}]"#,
        br#"[{"a":{"b":[1,2,3]}},[{"op":"test","path":"/a/b/0","value":1},{"op":"move","from":"/a/b","path":"/c"},{"op":"copy","from":"/c","path":"/c/-"},{"op":"replace","path":"","value":{}},{"op":"add","path":"/x~1y","value":null},{"op":"remove","path":"/x~1y"}]]"#,
        br#"[{"spec":{"containers":[{"name":"a","env":[{"name":"x"}]}],"volumes":[{"name":"v","emptyDir":{}}]}},{"spec":{"containers":[{"name":"a","env":[{"$patch":"replace"},{"name":"y"}]}],"volumes":[{"name":"v","$retainKeys":["name","hostPath"],"hostPath":{"path":"/"}}]}}]"#,
    ];
    Fuzz::new("patches", seeds).words(WORDS).runs(3000).check(|input| {
        let Ok(Value::Array(all)) = serde_json::from_slice(input) else { return false };
        let [document, patches @ ..] = all.as_slice() else { return false };
        let mut good = false;
        for patch in patches {
            good |= patch::json(document, patch).is_ok();
            if patch::check_object(patch).is_err() || !document.is_object() {
                continue;
            }
            let merged = patch::merge(document, patch);
            assert_eq!(patch::merge(&merged, patch), merged, "a merge patch is idempotent");
            for definition in ["io.k8s.api.core.v1.Service", "io.k8s.api.core.v1.Pod"] {
                good |= patch::strategic(document, patch, definition).is_ok();
            }
        }
        good
    });
}

/// The input is a list of objects that are applied to the first, by managers in turns.
#[test]
fn applies() {
    let seeds: &[&[u8]] = &[
        br#"[{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","managedFields":[{"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","time":"2026-11-20T08:00:00Z","fieldsV1":{"f:spec":{"f:ports":{"k:{\"port\":1,\"protocol\":\"TCP\"}":{".":{},"f:name":{}}},"f:externalIPs":{}}}}]},"spec":{"ports":[{"port":1,"name":"x"}],"externalIPs":["1"]}},{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","finalizers":["f"]},"spec":{"ports":[{"port":1,"name":"y"},{"port":2,"protocol":"UDP"}],"selector":{"a":"b"}}},{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"type":"ClusterIP"}}]"#,
        br#"[{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","managedFields":[{"manager":"m","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:finalizers":{".":{},"v:\"a\"":{}}},"f:spec":{"f:selector":{}}}}],"finalizers":["a"]},"spec":{}},{"apiVersion":"v1","kind":"Service","metadata":{"finalizers":["b","c"]},"spec":{"ports":[]}}]"#,
    ];
    static WHOLE: LazyLock<Scope> = LazyLock::new(Scope::default);
    Fuzz::new("applies", seeds).words(WORDS).runs(2000).check(|input| {
        let Ok(Value::Array(all)) = serde_json::from_slice(input) else { return false };
        let [live, applied @ ..] = all.as_slice() else { return false };
        let model = schema::lookup("io.k8s.api.core.v1.Service").unwrap();
        let versions = OneVersion { api_version: "v1", model };
        let mut live = live.clone();
        let mut good = false;
        for (applied, manager) in applied.iter().zip(["x", "y", "x", "y", "x"]) {
            let writer = Writer {
                manager,
                api_version: "v1",
                kind: "Service",
                subresource: "",
                scope: &WHOLE,
                time: "2026-11-20T08:00:00Z",
            };
            let apply =
                |live: &Value, force| managed::apply(live, applied, force, &writer, &versions);
            let _ = apply(&live, false);
            let Ok(mut new) = apply(&live, true) else { continue };
            object::prune_nulls(&mut new);
            let again = apply(&new, false);
            assert!(again.is_ok(), "whoever applied can apply the same again: {again:?}");
            let mut tracked = new.clone();
            managed::track(&live, &mut tracked, &writer, &versions);
            live = new;
            good = true;
        }
        good
    });
}

#[test]
fn selectors() {
    let seeds: &[&[u8]] = &[
        b"a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2,n==o",
        b"example.com/a in (,b)",
        b"metadata.name=a,spec.nodeName!=b,status.phase=Running",
        b"metadata.name=a\\,b\\=c\\\\",
        br#"{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"c","operator":"NotIn","values":["d"]}]}"#,
    ];
    let words = &[
        "=",
        "==",
        "!=",
        "!",
        " in ",
        " notin ",
        "(",
        ")",
        ",",
        ">",
        "<",
        "\\",
        "a",
        "metadata.name",
        "operator",
        "Exists",
    ];
    Fuzz::new("selectors", seeds).words(words).runs(5000).check(|input| {
        let text = String::from_utf8_lossy(input);
        let object: Value = serde_json::from_slice(POD).unwrap();
        let mut good = false;
        if let Ok(selector) = LabelSelector::parse(&text) {
            selector.matches_object(&object);
            let shown = selector.to_string();
            let again = LabelSelector::parse(&shown).unwrap();
            assert_eq!(again.to_string(), shown, "what is printed is read again");
            good = true;
        }
        if let Ok(value) = serde_json::from_slice::<Value>(input)
            && let Ok(selector) = LabelSelector::from_value(&value)
        {
            selector.matches_object(&object);
            good = true;
        }
        let pods = resources::find("", "v1", "pods").unwrap();
        if let Ok(selector) = FieldSelector::parse(&text, pods) {
            selector.matches(&object);
            good = true;
        }
        good
    });
}

#[test]
fn quantities_times_and_names() {
    let seeds: &[&[u8]] = &[
        b"1",
        b"-1.5Gi",
        b"100m",
        b"1e3",
        b"12E",
        b"1E-3",
        b"0.000000001",
        b"9223372036854775807",
        b".5",
        b"+1Ki",
        b"1n",
        b"2026-11-20T08:00:00.123456Z",
        b"2026-11-20T08:00:00+01:00",
        b"*/5 1-3 * JAN,MAR MON",
        b"@every 1h30m",
        b"CRON_TZ=UTC 0 0 * * *",
        b"25%",
        b"a.b/c",
        b"*.a.b",
    ];
    let words = &[
        "Ki",
        "Mi",
        "Gi",
        "Ti",
        "Pi",
        "Ei",
        "n",
        "u",
        "m",
        "k",
        "M",
        "E",
        "e",
        ".",
        "-",
        "+",
        "@",
        "*",
        "/",
        "%",
        "9999999999999999999",
    ];
    Fuzz::new("quantities", seeds).words(words).runs(8000).longest(400).check(|input| {
        let text = String::from_utf8_lossy(input);
        let _ = (
            crate::cron::parse(&text),
            crate::time::parse(&text),
            crate::cron::is_time_zone(&text),
        );
        let _ = (
            names::qualified_name(&text),
            names::wildcard_subdomain(&text),
            names::env_name(&text),
        );
        let _ = (names::label_value(&text), names::path_segment(&text), names::config_key(&text));
        let Ok(quantity) = Quantity::parse(&text) else { return crate::cron::parse(&text).is_ok() };
        let shown = quantity.to_string();
        let again = Quantity::parse(&shown).unwrap();
        assert_eq!(again.to_string(), shown, "the text of a quantity is its own");
        // What is smaller than one is rounded up where the unit is a power of two, as Go does it.
        assert_eq!(again.value(), quantity.value(), "printing loses nothing");
        let _ = (quantity.value(), quantity.milli_value(), quantity.round_up_milli());
        true
    });
}

#[test]
fn expressions() {
    let seeds: &[&[u8]] = &[
        b"self.n + 1 > 2 && self.f < 2.0 || !has(self.x)",
        b"self.list.exists(x, x == 2) && self.list.all(x, x > 0)",
        b"self.items.filter(i, i.v > 1).map(i, i.k).size() == 1 ? 'yes' : \"no\"",
        b"quantity(self.q).isLessThan(quantity('1Gi')) && ip('10.0.0.1').family() == 4",
        b"'%d-%s'.format([self.n, self.q]).matches('^h.*e$')",
        b"duration('1h') > duration('1m') && timestamp('2026-11-20T08:00:00Z') < timestamp('2027-01-01T00:00:00Z')",
        b"type(self.n) == int && self.?absent.orValue(7) == 7 && {'a': 1}['a'] == 1 && [1,2][0] == 1",
        b"url('https://a.b/c').getHost().replace('a', 'b').split('.').join('-').substring(1)",
        b"cidr('10.0.0.0/8').containsIP('10.1.1.1') && semver('1.2.3').major() == 1 && b'\\x00' == bytes('a') && 0x1fu == 31u && 1e3 > 1.0",
    ];
    let words = &[
        "self",
        "self.n",
        "self.list",
        "self.items",
        "&&",
        "||",
        "!",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "?",
        ":",
        ".",
        ",",
        "+",
        "-",
        "*",
        "/",
        "%",
        "==",
        "<",
        " in ",
        "'a'",
        "1",
        "9223372036854775807",
        "-9223372036854775808",
        "1.0",
        "1u",
        "null",
        ".all(x, ",
        ".map(x, ",
        ".exists(x, ",
        ".matches('",
        "(a+)+$",
        ".format([",
        "%s",
        "%.999f",
        "size(",
        "string(",
        "int(",
        "double(",
        "duration('",
        "timestamp('",
        "0s",
        ".lastIndexOf('",
        ".substring(",
        "math.greatest(",
        "sets.contains(",
        "lists.range(",
        ".reverse()",
        ".flatten()",
        ".find('",
        "quantity('1')",
        ".add(",
        "optional.of(",
    ];
    let object = json!({
        "n": 3, "f": 1.5, "name": "h\u{e4}usle", "list": [3, 1, 2], "q": "500Mi", "null": null,
        "map": {"a": 1}, "items": [{"k": "x", "v": 1}, {"k": "y", "v": 2}],
    });
    Fuzz::new("expressions", seeds).words(words).runs(600).longest(2000).check(|input| {
        let source = String::from_utf8_lossy(input);
        let Ok(program) = Program::compile(&source, &["self"]) else { return false };
        let session = Session::new(&[&object]);
        let result = session.evaluate(&program, &[("self", cel::value(&object))]);
        result.is_ok_and(|it| !cel::json(&it).is_null())
    });
}

/// The input is a definition; what it makes is tried with an object of its kind.
#[test]
fn definitions() {
    let small: &[u8] = br#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"bs.a.b"},"spec":{"group":"a.b","scope":"Cluster","names":{"plural":"bs","kind":"B"},"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}},{"name":"v2beta1","served":true,"storage":false,"schema":{"openAPIV3Schema":{"type":"object","properties":{"a":{"type":"array","items":{"type":"array","items":{"type":"string"}}}}}}}]}}"#;
    Fuzz::new("definitions", &[DEFINITION, small]).words(WORDS).runs(500).check(|body| {
        let row = resources::find("apiextensions.k8s.io", "v1", "customresourcedefinitions").unwrap();
        let Ok(decoded) = decode::decode(row, body, Media::Json, FieldValidation::Ignore) else { return false };
        // What is stored was checked; what makes rows of it must not rely on that.
        let mut forced = decoded.object.clone();
        forced["status"] = json!({"conditions": [{"type": "Established", "status": "True"}]});
        let Ok(mut made) = write::create(decoded.object, &context(row)) else {
            custom::rows(&forced, 1);
            return false;
        };
        custom::names::settle(&mut made, &[], resources::builtin(), now());
        for resource in custom::rows(&made, 1) {
            for spec in [json!({}), json!({"n": 5, "s": "aa", "l": [{"k": "a"}, {"k": "a"}], "m": {"a": 1}, "one": {"x": "y"}})] {
                let object = json!({
                    "apiVersion": resource.api_version(), "kind": resource.kind, "metadata": {"name": "a"}, "spec": spec, "a": [["b"]],
                });
                let text = object.to_string();
                let read = decode::decode(&resource, text.as_bytes(), Media::Json, FieldValidation::Warn);
                let Ok(decoded) = read else { continue };
                let context = context(&resource);
                let Ok(made) = write::create(decoded.object, &context) else { continue };
                table(&resource, [&made], TableMeta::default(), IncludeObject::None, now());
                let name = object::name(&made).to_owned();
                let _ = write::update(made.clone(), &made, &WriteContext { name: Some(&name), ..context });
            }
        }
        true
    });
}
