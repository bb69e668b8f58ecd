//! Bodies as Go's own serializer writes them, and the JSON that Go writes of the same objects (less
//! the empty structs that Go cannot leave out).

use proptest::prelude::*;
use serde_json::Value;

use super::*;

#[test]
fn bodies_of_go_clients() {
    for (body, expected) in BODIES {
        let decoded = decode(&BASE64.decode(body).unwrap(), None).unwrap();
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(decoded, expected);
    }
}

#[test]
fn a_body_without_type_is_read_as_the_expected_kind() {
    // Unknown{raw: ConfigMap{metadata: {name: "a"}}}
    let body = b"k8s\0\x12\x05\x0a\x03\x0a\x01a";
    let decoded = decode(body, Some("io.k8s.api.core.v1.ConfigMap")).unwrap();
    assert_eq!(decoded, serde_json::json!({ "metadata": { "name": "a" } }));
    let refused = decode(body, None).unwrap_err();
    assert_eq!(refused.code, 400);
}

#[test]
fn broken_bodies_are_refused() {
    for (body, reason) in [
        (&b"{}"[..], "the body does not start with the k8s protobuf prefix"),
        (b"k8s\0\x12\x05\x0a", "unexpected end of message"),
        (b"k8s\0\x12\x02\x0a\x7f", "unexpected end of message"),
        (b"k8s\0\x12\x02\x08\x01", "field 1 has another wire type"),
        (b"k8s\0\x13", "illegal wire type 3"),
        (b"k8s\0\x1a\x04gzip", "content encoding \"gzip\" is not supported"),
        (b"k8s\0\x12\x07\x0a\x05\x0a\x03a\xff\xff", "text is not UTF-8"),
        (b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "number too long"),
    ] {
        let refused = decode(body, Some("io.k8s.api.core.v1.ConfigMap")).unwrap_err();
        assert_eq!(refused.message, format!("unable to decode the protobuf body: {reason}"));
    }
}

proptest! {
    #[test]
    fn no_body_breaks_the_decoder(index in 0..BODIES.len(), cut in 0..600_usize, at in 4..600_usize, byte: u8) {
        let mut body = BASE64.decode(BODIES[index].0).unwrap();
        body.truncate(cut.max(5));
        let at = at % body.len();
        body[at] = byte;
        if let Ok(object) = decode(&body, Some("io.k8s.api.core.v1.Pod")) {
            prop_assert!(object.is_object());
        }
    }
}

pub(crate) const BODIES: [(&str, &str); 16] = [
    (
        "azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50EtkBCh8KA3dlYhIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2Vi\
         EqcBCAASGQoKCgNhcHASA3dlYhILCgF4EgZFeGlzdHMaXgocCgASABoAIgAqADIAOABCAFoKCgNhcHASA3dl\
         YhI+EiAKA3dlYhIFd2ViOjEqAEIAagByAIABAIgBAJABAKIBABoAMgBCAEoAUgBYAGAAaACCAQCKAQCaAQDC\
         AQAiJAoNUm9sbGluZ1VwZGF0ZRITCgkIARAAGgMyNSUSBggAEAAaACgAOAAaDAgAEAAYACAAKAA4ABoAIgA=",
        r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"labels":{"app":"web"},"name":"web"},"spec":{"replicas":0,"selector":{"matchExpressions":[{"key":"x","operator":"Exists"}],"matchLabels":{"app":"web"}},"strategy":{"rollingUpdate":{"maxSurge":0,"maxUnavailable":"25%"},"type":"RollingUpdate"},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"image":"web:1","name":"web"}]}}}}"#,
    ),
    (
        "azhzAAoJCgJ2MRIDUG9kEpAEClsKA3dlYhIAGgdkZWZhdWx0IgAqADIAOABCCAiA/P/XBhAAigE2CgFtEgZV\
         cGRhdGUaAnYxIggIgPz/1wYQADIIRmllbGRzVjE6DwoNeyJmOnNwZWMiOnt9fUIAEuICCgwKBGRhdGESBBIC\
         CgAKEQoCY20SC5oBCAoDCgFjGKQDEo0CCgN3ZWISBXdlYjoxGgQvd2ViIgAiAi12KgAyEgoEaHR0cBAAGJA/\
         IgNUQ1AqADoJCgVFTVBUWRIAOh0KBE5PREUSABoTChEKABINc3BlYy5ub2RlTmFtZToVCgNLRVkSABoMIgoK\
         AwoBcxIBaxgAQi0KCgoDY3B1EgMKATASDQoDY3B1EgYKBDI1MG0SEAoGbWVtb3J5EgYKBDY0TWlKEwoEZGF0\
         YRABGgUvZGF0YSIAMgBSGQoNGgsKBwgAEJA/GgASABAAGAAgACgAMABaIQoVEhMKAS8SCggBEAAaBGh0dHAa\
         ACIAEAAYACAFKAAwAGoAcgCAAQCIAQCQAQCaAQkKABIFCgMKAWOiAQAaACAAMgBCAEoAUgBYAGAAaAByAIIB\
         AIoBAJoBALIBDgoAEgZFeGlzdHMaACIAwgEAGkwKB1J1bm5pbmcaACIAKgAyADoICID8/9cGEABCJgoDd2Vi\
         EgwSCgoICID8/9cGEAAaACAAKAAyBXdlYjoxOgBCAEgASgBaAHIAiAEAGgAiAA==",
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"2026-11-20T08:00:00Z","managedFields":[{"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{}},"manager":"m","operation":"Update","time":"2026-11-20T08:00:00Z"}],"name":"web","namespace":"default"},"spec":{"containers":[{"args":["","-v"],"command":["/web"],"env":[{"name":"EMPTY"},{"name":"NODE","valueFrom":{"fieldRef":{"fieldPath":"spec.nodeName"}}},{"name":"KEY","valueFrom":{"secretKeyRef":{"key":"k","name":"s","optional":false}}}],"envFrom":[{"configMapRef":{"name":"c"}}],"image":"web:1","livenessProbe":{"tcpSocket":{"port":8080}},"name":"web","ports":[{"containerPort":8080,"name":"http","protocol":"TCP"}],"readinessProbe":{"httpGet":{"path":"/","port":"http"},"periodSeconds":5},"resources":{"limits":{"cpu":"0"},"requests":{"cpu":"250m","memory":"64Mi"}},"volumeMounts":[{"mountPath":"/data","name":"data","readOnly":true}]}],"securityContext":{},"terminationGracePeriodSeconds":0,"tolerations":[{"operator":"Exists"}],"volumes":[{"emptyDir":{},"name":"data"},{"configMap":{"defaultMode":420,"name":"c"},"name":"cm"}]},"status":{"containerStatuses":[{"image":"web:1","imageID":"","name":"web","ready":false,"restartCount":0,"started":false,"state":{"running":{"startedAt":"2026-11-20T08:00:00Z"}}}],"phase":"Running","startTime":"2026-11-20T08:00:00Z"}}"#,
    ),
    (
        "azhzAAoMCgJ2MRIGU2VjcmV0EjkKEQoBcxIAGgAiACoAMgA4AEIAEgkKBWVtcHR5EgASCAoBaxIDAP8QGgZP\
         cGFxdWUiBwoBYRICw7waACIA",
        r#"{"apiVersion":"v1","data":{"empty":"","k":"AP8Q"},"kind":"Secret","metadata":{"name":"s"},"stringData":{"a":"ü"},"type":"Opaque"}"#,
    ),
    (
        "azhzAAoPCgJ2MRIJQ29uZmlnTWFwEigKEQoBYxIAGgAiACoAMgA4AEIAEgkKBWVtcHR5EgASBgoBaxIBdiAA\
         GgAiAA==",
        r#"{"apiVersion":"v1","data":{"empty":"","k":"v"},"immutable":false,"kind":"ConfigMap","metadata":{"name":"c"}}"#,
    ),
    (
        "azhzAAofChZjb29yZGluYXRpb24uazhzLmlvL3YxEgVMZWFzZRIqChEKAWwSABoAIgAqADIAOABCABIVCgJu\
         MRAoIgsIgPz/1wYQgJycOSgAGgAiAA==",
        r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l"},"spec":{"holderIdentity":"n1","leaseDurationSeconds":40,"leaseTransitions":0,"renewTime":"2026-11-20T08:00:00.120000Z"}}"#,
    ),
    (
        "azhzAAoLCgJ2MRIFRXZlbnQSaAoRCgFlEgAaACIAKgAyADgAQgASFAoDUG9kEgAaA3dlYiIAKgAyADoAGgdT\
         dGFydGVkIgFtKgsKB2t1YmVsZXQSADIICID8/9cGEAA6CAiA/P/XBhAAQAJKBk5vcm1hbFIAYgByAHoAGgAi\
         AA==",
        r#"{"apiVersion":"v1","count":2,"firstTimestamp":"2026-11-20T08:00:00Z","involvedObject":{"kind":"Pod","name":"web"},"kind":"Event","lastTimestamp":"2026-11-20T08:00:00Z","message":"m","metadata":{"name":"e"},"reason":"Started","reportingComponent":"","reportingInstance":"","source":{"component":"kubelet"},"type":"Normal"}"#,
    ),
    (
        "azhzAAoNCgJ2MRIHU2VydmljZRJmChMKA3dlYhIAGgAiACoAMgA4AEIAEksKGwoEaHR0cBIDVENQGFAiCggB\
         EAAaBGh0dHAoAAoQCgASABhRIgYIABAAGgAoABIKCgNhcHASA3dlYhoAIgA6AEIAUgBaAGAAaAAaAgoAGgAi\
         AA==",
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"ports":[{"name":"http","port":80,"protocol":"TCP","targetPort":"http"},{"port":81}],"selector":{"app":"web"}}}"#,
    ),
    (
        "azhzAAoTCgJ2MRINRGVsZXRlT3B0aW9ucxIYCAASAwoBdSIKQmFja2dyb3VuZCoDQWxsGgAiAA==",
        r#"{"apiVersion":"v1","dryRun":["All"],"gracePeriodSeconds":0,"kind":"DeleteOptions","preconditions":{"uid":"u"},"propagationPolicy":"Background"}"#,
    ),
    (
        "azhzAAoVCglwb2xpY3kvdjESCEV2aWN0aW9uEhwKGgoDd2ViEgAaB2RlZmF1bHQiACoAMgA4AEIAGgAiAA==",
        r#"{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"web","namespace":"default"}}"#,
    ),
    (
        "azhzAAoXCg5hdXRvc2NhbGluZy92MRIFU2NhbGUSHwoTCgN3ZWISABoAIgAqADIAOABCABICCAMaBAgAEgAa\
         ACIA",
        r#"{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"web"},"spec":{"replicas":3},"status":{"replicas":0}}"#,
    ),
    (
        "azhzAAonChhhdXRoZW50aWNhdGlvbi5rOHMuaW8vdjESC1Rva2VuUmV2aWV3EjEKEAoAEgAaACIAKgAyADgA\
         QgASAwoBdBoYCAASEgoBdRIAIgsKAWsSBgoBYQoBYhoAGgAiAA==",
        r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"t"},"status":{"user":{"extra":{"k":["a","b"]},"username":"u"}}}"#,
    ),
    (
        "azhzAAodCgdhcHBzL3YxEhJDb250cm9sbGVyUmV2aXNpb24SKQoRCgFyEgAaACIAKgAyADgAQgASEgoQeyJz\
         cGVjIjp7ImEiOjF9fRgHGgAiAA==",
        r#"{"apiVersion":"apps/v1","data":{"spec":{"a":1}},"kind":"ControllerRevision","metadata":{"name":"r"},"revision":7}"#,
    ),
    (
        "azhzAAolChRuZXR3b3JraW5nLms4cy5pby92MRINTmV0d29ya1BvbGljeRIfChEKAW4SABoAIgAqADIAOABC\
         ABIKCgASABoEEgIKABoAIgA=",
        r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"n"},"spec":{"egress":[{"to":[{"podSelector":{}}]}],"ingress":[{}],"podSelector":{}}}"#,
    ),
    (
        "azhzAAozChdhcGlleHRlbnNpb25zLms4cy5pby92MRIYQ3VzdG9tUmVzb3VyY2VEZWZpbml0aW9uEo4CChEK\
         AXgSABoAIgAqADIAOABCABLqAQoBZxoICgASACIAKgAiADrWAQoCdjEQARgAIskBCsYBCgASABoBciIAKgZv\
         YmplY3QyADoAUABgAHoAkAEA6gFaCgFhElUKABIAIgAqBWFycmF5MgA6AEIHCgVbIngiXVAAYAB6AJABAMIB\
         JgokCgASACIAKgZzdHJpbmcyADoAUABgAHoAkAEAqAIAuAIAwAIAqAIAuAIAwAIA6gE/CgFiEjoKABIAIgAq\
         ADIAOgBQAFkAAAAAAAD4v2AAaP3//////////wF6AJABAPIBAggBqAIAsAIBuAIAwAIAqAIAuAIAwAIAOABQ\
         ABoMEggKABIAIgAqACAAGgAiAA==",
        r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"x"},"spec":{"group":"g","names":{"kind":"","plural":""},"scope":"","versions":[{"name":"v1","schema":{"openAPIV3Schema":{"$ref":"r","properties":{"a":{"default":["x"],"items":{"type":"string"},"type":"array"},"b":{"additionalProperties":true,"maxLength":-3,"minimum":-1.5,"x-kubernetes-preserve-unknown-fields":true}},"type":"object"}},"served":true,"storage":false}]},"status":{"acceptedNames":{"kind":"","plural":""}}}"#,
    ),
    (
        "azhzAAoZChBldmVudHMuazhzLmlvL3YxEgVFdmVudBJdChEKAWUSABoAIgAqADIAOABCABILCID8/9cGEICc\
         nDkaDwgDEgsIgPz/1wYQgJycOSIAKgAyADoAQhEKA1BvZBIAGgAiACoAMgA6AFIBbloAYgQKABIAagByAHgA\
         GgAiAA==",
        r#"{"apiVersion":"events.k8s.io/v1","eventTime":"2026-11-20T08:00:00.120000Z","kind":"Event","metadata":{"name":"e"},"note":"n","regarding":{"kind":"Pod"},"series":{"count":3,"lastObservedTime":"2026-11-20T08:00:00.120000Z"}}"#,
    ),
    (
        "azhzAAokChNkaXNjb3ZlcnkuazhzLmlvL3YxEg1FbmRwb2ludFNsaWNlEjMKFQoFd2ViLTESABoAIgAqADIA\
         OABCABIOCggxMC4wLjAuMRICCAAaBAoAGFAiBElQdjQaACIA",
        r#"{"addressType":"IPv4","apiVersion":"discovery.k8s.io/v1","endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":false}}],"kind":"EndpointSlice","metadata":{"name":"web-1"},"ports":[{"name":"","port":80}]}"#,
    ),
];
