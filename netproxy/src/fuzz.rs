//! Fuzz targets: Services and EndpointSlices of any shape, as far as to the messages for the kernel.

use serde_json::Value;
use tests_fuzz::Target;

use crate::{elements::Elements, model, netlink::Batch, nft};

/// Services, then as many EndpointSlices.
const OBJECTS: &[u8] = br#"[{"metadata":{"namespace":"n","name":"s"},"spec":{"type":"NodePort","clusterIP":"10.96.0.7","externalIPs":["192.0.2.7"],"sessionAffinity":"ClientIP","ports":[{"name":"web","port":80,"nodePort":30080},{"name":"dns","port":53,"protocol":"UDP"}]},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.8"}]}}},{"metadata":{"namespace":"n","name":"s","labels":{"kubernetes.io/service-name":"s"}},"addressType":"IPv4","ports":[{"name":"web","port":8080},{"name":"dns","port":5353,"protocol":"UDP"}],"endpoints":[{"addresses":["10.42.0.2"],"conditions":{"ready":true}},{"addresses":["10.42.0.3"],"conditions":{"ready":false,"serving":true,"terminating":true}}]}]"#;

#[test]
fn services() {
    let words = &["None", "ExternalName", "UDP", "SCTP", "0.0.0.0", "::1", "nodePort", "endpoints"];
    Target::new("services", &[OBJECTS]).words(words).check(|input| {
        let Ok(Value::Array(objects)) = serde_json::from_slice(input) else { return false };
        let (services, slices) = objects.split_at(objects.len() / 2);
        let table = model::from_objects(services, slices);
        let elements = Elements::of(&table, "10.42.0.0/24".parse().unwrap());
        let difference = elements.difference(&Elements::default());
        assert_eq!(difference.delete, [], "there was nothing");
        nft::update("t", &difference, &mut Batch::ipv4());
        table.frontends.values().any(|it| !it.is_empty())
    });
}
