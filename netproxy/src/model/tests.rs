//! Objects in, table out.

use serde_json::{Value, json};

use super::*;

fn service(spec: Value) -> Value {
    json!({"kind": "Service", "metadata": {"namespace": "d", "name": "web"}, "spec": spec})
}

fn slice(endpoints: Value) -> Value {
    json!({
        "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "d", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 5353, "protocol": "UDP"}],
        "endpoints": endpoints,
    })
}

fn check(service: &Value, slices: &[Value], expect: &[&str]) -> ServiceTable {
    let table = from_objects(std::slice::from_ref(service), slices);
    let shown: Vec<_> = table
        .frontends
        .iter()
        .map(|(frontend, endpoints)| {
            let endpoints: Vec<_> =
                endpoints.iter().map(|it| format!("{}:{}", it.address, it.port)).collect();
            let address = frontend.address.map_or_else(|| "node".into(), |it| it.to_string());
            let (protocol, port) = (frontend.protocol, frontend.port);
            format!("{protocol:?} {address}:{port} -> {}", endpoints.join(" "))
        })
        .collect();
    assert_eq!(shown, expect);
    table
}

fn http(extra: Value) -> Value {
    let mut spec = json!({"clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80, "targetPort": "x"}]});
    let extra = extra.as_object().unwrap().clone();
    spec.as_object_mut().unwrap().extend(extra);
    service(spec)
}

#[test]
fn ports_match_by_name_and_only_ready_endpoints_count() {
    let endpoints = json!([
        {"addresses": ["10.0.0.2"], "conditions": {"ready": true}},
        {"addresses": ["10.0.0.3"], "conditions": {"ready": false}},
        {"addresses": ["10.0.0.4"], "conditions": {}},
        {"addresses": ["10.0.0.5"]},
        {"addresses": ["10.0.0.6"], "conditions": {"ready": false, "serving": true, "terminating": true}},
        {"addresses": ["nonsense"]},
    ]);
    let two = service(json!({"clusterIP": "10.96.0.9", "ports": [
        {"name": "http", "port": 80, "protocol": "TCP"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "other", "port": 81, "protocol": "TCP"},
    ]}));
    let table = check(
        &two,
        &[slice(endpoints.clone()), slice(endpoints)],
        &[
            "Tcp 10.96.0.9:80 -> 10.0.0.2:8080 10.0.0.4:8080 10.0.0.5:8080",
            "Tcp 10.96.0.9:81 -> ",
            "Udp 10.96.0.9:53 -> 10.0.0.2:5353 10.0.0.4:5353 10.0.0.5:5353",
        ],
    );
    assert_eq!(table.cluster_ips.len(), 1);
    assert_eq!(table.warnings, []);
}

#[test]
fn without_a_ready_endpoint_those_that_end_still_serve() {
    let endpoints = json!([
        {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}},
        {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": false, "terminating": true}},
        {"addresses": ["10.0.0.4"], "conditions": {"ready": false}},
    ]);
    check(&http(json!({})), &[slice(endpoints)], &["Tcp 10.96.0.9:80 -> 10.0.0.2:8080"]);
}

#[test]
fn unready_addresses_are_published_on_request() {
    let endpoints = json!([{"addresses": ["10.0.0.4"], "conditions": {"ready": false}}]);
    let service = http(json!({"publishNotReadyAddresses": true}));
    check(&service, &[slice(endpoints)], &["Tcp 10.96.0.9:80 -> 10.0.0.4:8080"]);
}

#[test]
fn headless_and_external_name_have_no_frontend() {
    let slices = [slice(json!([{"addresses": ["10.0.0.2"]}]))];
    check(&http(json!({"clusterIP": "None"})), &slices, &[]);
    check(&http(json!({"clusterIP": ""})), &slices, &[]);
    check(&http(json!({"type": "ExternalName"})), &slices, &[]);
}

#[test]
fn slices_of_other_services_and_families_do_not_count() {
    let mut other = slice(json!([{"addresses": ["10.0.0.2"]}]));
    other["metadata"]["namespace"] = json!("e");
    let mut six = slice(json!([{"addresses": ["fd00::1"]}]));
    six["addressType"] = json!("IPv6");
    check(&http(json!({})), &[other, six], &["Tcp 10.96.0.9:80 -> "]);
}

#[test]
fn every_kind_of_frontend_leads_to_the_same_endpoints() {
    let slices = [slice(json!([{"addresses": ["10.0.0.2"]}]))];
    let mut service = http(json!({
        "type": "LoadBalancer", "externalIPs": ["192.0.2.1", "fd00::1"],
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
    }));
    service["status"] =
        json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}, {"hostname": "x"}]}});
    let table = check(
        &service,
        &slices,
        &[
            "Tcp node:30080 -> 10.0.0.2:8080",
            "Tcp 10.96.0.9:80 -> 10.0.0.2:8080",
            "Tcp 192.0.2.1:80 -> 10.0.0.2:8080",
            "Tcp 192.0.2.7:80 -> 10.0.0.2:8080",
        ],
    );
    assert_eq!(table.cluster_ips.len(), 1);
}

#[test]
fn what_is_not_supported_is_said() {
    let service = http(json!({
        "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Local",
        "externalTrafficPolicy": "Cluster", "ports": [{"port": 80, "protocol": "DCCP"}],
    }));
    let table = check(&service, &[], &[]);
    let what: Vec<_> = table.warnings.iter().map(|it| it.what).collect();
    assert_eq!(
        what,
        [Unsupported::SessionAffinity, Unsupported::InternalTrafficPolicy, Unsupported::Address]
    );
    let text = table.warnings[0].to_string();
    assert_eq!(text, "service d/web: session affinity is not supported");
}

#[test]
fn the_first_of_two_keeps_an_address() {
    let mut second = http(json!({}));
    second["metadata"]["name"] = json!("xyz");
    let slices = [slice(json!([{"addresses": ["10.0.0.2"]}]))];
    for services in [[http(json!({})), second.clone()], [second.clone(), http(json!({}))]] {
        let table = from_objects(&services, &slices);
        assert_eq!(table.frontends.values().map(BTreeSet::len).collect::<Vec<_>>(), [1]);
        assert_eq!(table.warnings.len(), 1);
        assert_eq!(table.warnings[0].service, "d/xyz");
    }
}
