//! Rows as kubectl shows them: one line of cells for each object.

use super::*;
use crate::{resources, time};

#[test]
fn pods() {
    for (status, expected) in [
        (r#"{"phase":"Pending"}"#, "web | 0/1 | Pending | 0 | 2m | <none> | <none>"),
        (
            r#"{"phase":"Running","podIPs":[{"ip":"10.0.0.1"}],"containerStatuses":[
                {"name":"a","ready":true,"restartCount":0,"state":{"running":{}}}]}"#,
            "web | 1/1 | Running | 0 | 2m | 10.0.0.1 | <none>",
        ),
        (
            r#"{"phase":"Pending","containerStatuses":[
                {"name":"a","ready":false,"restartCount":0,"state":{"waiting":{"reason":"ContainerCreating"}}}]}"#,
            "web | 0/1 | ContainerCreating | 0 | 2m | <none> | <none>",
        ),
        (
            r#"{"phase":"Running","containerStatuses":[
                {"name":"a","ready":false,"restartCount":3,"state":{"waiting":{"reason":"CrashLoopBackOff"}},
                 "lastState":{"terminated":{"exitCode":1,"finishedAt":"2026-11-20T07:59:30Z"}}}]}"#,
            "web | 0/1 | CrashLoopBackOff | 3 (30s ago) | 2m | <none> | <none>",
        ),
        (
            r#"{"phase":"Succeeded","containerStatuses":[
                {"name":"a","ready":false,"restartCount":0,"state":{"terminated":{"exitCode":0,"reason":"Completed"}}}]}"#,
            "web | 0/1 | Completed | 0 | 2m | <none> | <none>",
        ),
        (
            r#"{"phase":"Failed","containerStatuses":[
                {"name":"a","restartCount":0,"state":{"terminated":{"exitCode":2}}}]}"#,
            "web | 0/1 | ExitCode:2 | 0 | 2m | <none> | <none>",
        ),
        (
            r#"{"phase":"Failed","containerStatuses":[
                {"name":"a","restartCount":0,"state":{"terminated":{"exitCode":137,"signal":9}}}]}"#,
            "web | 0/1 | Signal:9 | 0 | 2m | <none> | <none>",
        ),
        (
            r#"{"phase":"Running","conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[
                {"name":"a","ready":true,"restartCount":0,"state":{"running":{}}},
                {"name":"b","ready":false,"restartCount":0,"state":{"terminated":{"exitCode":0,"reason":"Completed"}}}]}"#,
            "web | 1/1 | Running | 0 | 2m | <none> | <none>",
        ),
        (
            r#"{"phase":"Running","containerStatuses":[
                {"name":"b","ready":false,"restartCount":0,"state":{"terminated":{"exitCode":0,"reason":"Completed"}}},
                {"name":"a","ready":true,"restartCount":0,"state":{"running":{}}}]}"#,
            "web | 1/1 | NotReady | 0 | 2m | <none> | <none>",
        ),
        (
            r#"{"phase":"Failed","reason":"Evicted"}"#,
            "web | 0/1 | Evicted | 0 | 2m | <none> | <none>",
        ),
        (
            r#"{"phase":"Running","reason":"NodeLost"}"#,
            "web | 0/1 | NodeLost | 0 | 2m | <none> | <none>",
        ),
        (
            r#"{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"SchedulingGated"}]}"#,
            "web | 0/1 | SchedulingGated | 0 | 2m | <none> | <none>",
        ),
    ] {
        check("pods", POD, &format!(r#"{{"status":{status}}}"#), expected);
    }
}

#[test]
fn pods_with_init_containers() {
    let pod = r#"{"metadata":{"name":"web","creationTimestamp":"2026-11-20T07:58:00Z"},"spec":{
        "initContainers":[{"name":"i"},{"name":"s","restartPolicy":"Always"}],"containers":[{"name":"a"}]}}"#;
    for (status, expected) in [
        (
            r#"{"phase":"Pending","initContainerStatuses":[
                {"name":"i","restartCount":0,"state":{"running":{}}},
                {"name":"s","restartCount":0,"state":{"waiting":{"reason":"PodInitializing"}}}]}"#,
            "web | 0/2 | Init:0/2 | 0 | 2m | <none> | <none>",
        ),
        (
            r#"{"phase":"Pending","initContainerStatuses":[
                {"name":"i","restartCount":2,"state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}"#,
            "web | 0/2 | Init:CrashLoopBackOff | 2 | 2m | <none> | <none>",
        ),
        (
            r#"{"phase":"Pending","initContainerStatuses":[
                {"name":"i","restartCount":0,"state":{"terminated":{"exitCode":3}}}]}"#,
            "web | 0/2 | Init:ExitCode:3 | 0 | 2m | <none> | <none>",
        ),
        (
            r#"{"phase":"Pending","initContainerStatuses":[
                {"name":"i","restartCount":0,"state":{"terminated":{"exitCode":1,"reason":"OOMKilled"}}}]}"#,
            "web | 0/2 | Init:OOMKilled | 0 | 2m | <none> | <none>",
        ),
        (
            r#"{"phase":"Pending","initContainerStatuses":[
                {"name":"i","restartCount":4,"state":{"terminated":{"exitCode":0,"reason":"Completed"}}},
                {"name":"s","restartCount":1,"ready":true,"started":true,"state":{"running":{}}}],
                "containerStatuses":[{"name":"a","restartCount":0,"state":{"waiting":{"reason":"PodInitializing"}}}]}"#,
            "web | 1/2 | PodInitializing | 1 | 2m | <none> | <none>",
        ),
    ] {
        check("pods", pod, &format!(r#"{{"status":{status}}}"#), expected);
    }
}

#[test]
fn pods_that_are_deleted() {
    for (status, expected) in [
        (r#"{"phase":"Running"}"#, "Terminating"),
        (r#"{"phase":"Running","reason":"NodeLost"}"#, "Unknown"),
        (r#"{"phase":"Succeeded"}"#, "Succeeded"),
    ] {
        let deleted = format!(
            r#"{{"metadata":{{"deletionTimestamp":"2026-11-20T08:00:00Z"}},"status":{status}}}"#
        );
        let pod = merged(POD, &deleted);
        assert_eq!(pod::status(&pod), expected);
    }
}

#[test]
fn kinds() {
    for (plural, object, expected) in [
        (
            "deployments",
            r#"{"spec":{"replicas":3,"selector":{"matchLabels":{"app":"web"},"matchExpressions":[
                {"key":"tier","operator":"In","values":["b","a"]},{"key":"x","operator":"DoesNotExist"}]},
                "template":{"spec":{"containers":[{"name":"a","image":"a:1"},{"name":"b","image":"b:1"}]}}},
                "status":{"readyReplicas":2,"updatedReplicas":3}}"#,
            "x | 2/3 | 3 | 0 | 2m | a,b | a:1,b:1 | app=web,tier in (a,b),!x",
        ),
        ("deployments", r#"{"spec":{"replicas":1}}"#, "x | 0/1 | 0 | 0 | 2m |  |  | <none>"),
        (
            "replicasets",
            r#"{"spec":{"replicas":3},"status":{"replicas":2,"readyReplicas":1}}"#,
            "x | 3 | 2 | 1 | 2m |  |  | <none>",
        ),
        (
            "services",
            r#"{"spec":{"type":"ClusterIP","clusterIP":"10.96.0.7","clusterIPs":["10.96.0.7"],"ports":[
                {"port":80,"protocol":"TCP"},{"port":53,"protocol":"UDP","nodePort":30053}],"selector":{"a":"1"}}}"#,
            "x | ClusterIP | 10.96.0.7 | <none> | 80/TCP,53:30053/UDP | 2m | a=1",
        ),
        (
            "services",
            r#"{"spec":{"type":"LoadBalancer","clusterIP":"None"}}"#,
            "x | LoadBalancer | None | <pending> | <none> | 2m | <none>",
        ),
        (
            "services",
            r#"{"spec":{"type":"LoadBalancer","clusterIP":"c","externalIPs":["9.9.9.9"]},
                "status":{"loadBalancer":{"ingress":[{"ip":"1.1.1.1"},{"hostname":"lb"}]}}}"#,
            "x | LoadBalancer | c | 1.1.1.1,lb,9.9.9.9 | <none> | 2m | <none>",
        ),
        (
            "services",
            r#"{"spec":{"type":"ExternalName","externalName":"db.example"}}"#,
            "x | ExternalName | <none> | db.example | <none> | 2m | <none>",
        ),
        (
            "endpointslices",
            r#"{"addressType":"IPv4","ports":[{"name":"http","port":80},{"name":"any"}],"endpoints":[
                {"addresses":["1"]},{"addresses":["2"]},{"addresses":["3"]},{"addresses":["4"]},{"addresses":["5"]}]}"#,
            "x | IPv4 | 80,any | 1,2,3 + 2 more... | 2m",
        ),
        ("endpointslices", r#"{"addressType":"IPv4"}"#, "x | IPv4 | <unset> | <unset> | 2m"),
        (
            "endpoints",
            r#"{"subsets":[{"addresses":[{"ip":"10.0.0.1"},{"ip":"::1"}],"ports":[{"port":80}]}]}"#,
            "x | 10.0.0.1:80,[::1]:80 | 2m",
        ),
        ("endpoints", "{}", "x | <none> | 2m"),
        (
            "nodes",
            r#"{"metadata":{"labels":{"node-role.kubernetes.io/edge":"","kubernetes.io/role":"arm"}},
                "spec":{"unschedulable":true},"status":{"conditions":[{"type":"Ready","status":"True"}],
                "addresses":[{"type":"Hostname","address":"x"},{"type":"InternalIP","address":"10.0.0.9"}],
                "nodeInfo":{"kubeletVersion":"v1","osImage":"Linux","kernelVersion":"6.18"}}}"#,
            "x | Ready,SchedulingDisabled | arm,edge | 2m | v1 | 10.0.0.9 | <none> | Linux | 6.18 | <unknown>",
        ),
        (
            "nodes",
            r#"{"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}"#,
            "x | NotReady | <none> | 2m |  | <none> | <none> | <unknown> | <unknown> | <unknown>",
        ),
        (
            "nodes",
            "{}",
            "x | Unknown | <none> | 2m |  | <none> | <none> | <unknown> | <unknown> | <unknown>",
        ),
        (
            "events",
            r#"{"involvedObject":{"kind":"Pod","name":"web","fieldPath":"spec.containers{a}"},"type":"Warning",
                "reason":"BackOff","message":"waits ","source":{"component":"agent","host":"n1"},"count":4,
                "firstTimestamp":"2026-11-20T07:00:00Z","lastTimestamp":"2026-11-20T07:59:50Z"}"#,
            "10s | Warning | BackOff | pod/web | spec.containers{a} | agent, n1 | waits | 60m | 4 | x",
        ),
        (
            "events",
            r#"{"involvedObject":{"kind":"Node"},"type":"Normal","reason":"R","eventTime":"2026-11-20T07:59:00.000000Z",
                "reportingComponent":"hub","series":{"count":7,"lastObservedTime":"2026-11-20T07:59:59.000000Z"}}"#,
            "1s | Normal | R | node |  | hub |  | 60s | 7 | x",
        ),
        ("namespaces", r#"{"status":{"phase":"Active"}}"#, "x | Active | 2m"),
        ("configmaps", r#"{"data":{"a":"","b":""},"binaryData":{"c":""}}"#, "x | 3 | 2m"),
        ("secrets", r#"{"type":"Opaque","data":{"a":""}}"#, "x | Opaque | 1 | 2m"),
        ("serviceaccounts", "{}", "x | 0 | 2m"),
        ("leases", r#"{"spec":{"holderIdentity":"n1"}}"#, "x | n1 | 2m"),
    ] {
        let base = r#"{"metadata":{"name":"x","creationTimestamp":"2026-11-20T07:58:00Z"}}"#;
        check(plural, base, object, expected);
    }
}

#[test]
fn rows_carry_what_was_asked_for() {
    let pods = resources::find("", "v1", "pods").unwrap();
    let pod = merged(POD, r#"{"status":{"phase":"Succeeded"}}"#);
    let meta = TableMeta {
        resource_version: "7".to_owned(),
        continue_token: "more".to_owned(),
        remaining: Some(3),
    };
    let now = time::parse("2026-11-20T08:00:00Z").unwrap();
    let of = |include| table(pods, [&pod], meta.clone(), include, now);
    let with_metadata = of(IncludeObject::Metadata);
    assert_eq!(
        with_metadata["metadata"],
        json!({ "resourceVersion": "7", "continue": "more", "remainingItemCount": 3 })
    );
    assert_eq!(
        with_metadata["columnDefinitions"][0],
        json!({ "name": "Name", "type": "string", "format": "name", "description": "Name of the object.", "priority": 0 })
    );
    let row = &with_metadata["rows"][0];
    assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(row["object"]["metadata"], pod["metadata"]);
    assert_eq!(row["object"]["spec"], Value::Null);
    assert_eq!(row["conditions"][0]["reason"], "Succeeded");
    assert_eq!(of(IncludeObject::Object)["rows"][0]["object"]["kind"], "Pod");
    assert_eq!(of(IncludeObject::None)["rows"][0]["object"], Value::Null);
}

#[test]
fn the_columns_kubectl_knows_are_there() {
    for (plural, expected) in [
        ("pods", "Name Ready Status Restarts Age IP* Node* Nominated Node* Readiness Gates*"),
        ("deployments", "Name Ready Up-to-date Available Age Containers* Images* Selector*"),
        ("replicasets", "Name Desired Current Ready Age Containers* Images* Selector*"),
        ("services", "Name Type Cluster-IP External-IP Port(s) Age Selector*"),
        ("endpoints", "Name Endpoints Age"),
        ("endpointslices", "Name AddressType Ports Endpoints Age"),
        (
            "nodes",
            "Name Status Roles Age Version Internal-IP* External-IP* OS-Image* Kernel-Version* Container-Runtime*",
        ),
        (
            "events",
            "Last Seen Type Reason Object Subobject* Source* Message First Seen* Count* Name*",
        ),
        ("namespaces", "Name Status Age"),
        ("configmaps", "Name Data Age"),
        ("secrets", "Name Type Data Age"),
        ("serviceaccounts", "Name Secrets Age"),
        ("leases", "Name Holder Age"),
    ] {
        let row = resources::builtin().iter().find(|it| it.plural == plural).unwrap();
        let columns = columns::of(&row.group, plural).iter();
        let columns =
            columns.map(|it| format!("{}{}", it.name, if it.priority == 0 { "" } else { "*" }));
        assert_eq!(columns.collect::<Vec<_>>().join(" "), expected);
    }
}

/// Compares the cells of a merged object; those of pods without the last two.
fn check(plural: &str, base: &str, object: &str, expected: &str) {
    let row = resources::builtin().iter().find(|it| it.plural == plural).unwrap();
    let object = merged(base, object);
    let now = time::parse("2026-11-20T08:00:00Z").unwrap();
    let table = table(row, [&object], TableMeta::default(), IncludeObject::None, now);
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), table["columnDefinitions"].as_array().unwrap().len());
    let shown = if plural == "pods" { 7 } else { cells.len() };
    let cells: Vec<String> = cells[..shown].iter().map(cells::plain).collect();
    assert_eq!(cells.join(" | "), expected, "{object}");
}

fn merged(base: &str, object: &str) -> Value {
    let parsed = |text| serde_json::from_str::<Value>(text).unwrap();
    crate::patch::merge(&parsed(base), &parsed(object))
}

const POD: &str = r#"{"metadata":{"name":"web","creationTimestamp":"2026-11-20T07:58:00Z"},
    "spec":{"containers":[{"name":"a"}]}}"#;
