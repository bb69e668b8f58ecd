//! `discovery.k8s.io/v1beta1`, which kubectl up to 1.20 reads: the zone of an endpoint was an
//! entry of its topology.

use serde_json::{Map, Value, json};

use crate::object;
use crate::resource::Conversion;

/// `v1beta1` over `v1`.
pub const V1BETA1: Conversion = Conversion { show, store };

const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";

fn show(slice: &mut Value) {
    for endpoint in object::items_mut(slice, "endpoints") {
        let endpoint = object::as_map(endpoint);
        let deprecated = endpoint.remove("deprecatedTopology");
        let mut topology = match deprecated {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        if let Some(zone) = endpoint.remove("zone").filter(|it| !it.is_null()) {
            topology.insert(ZONE.to_owned(), zone);
        }
        if !topology.is_empty() {
            endpoint.insert("topology".to_owned(), topology.into());
        }
    }
}

fn store(slice: &mut Value) {
    for endpoint in object::items_mut(slice, "endpoints") {
        let endpoint = object::as_map(endpoint);
        let Some(Value::Object(mut topology)) = endpoint.remove("topology") else { continue };
        if let Some(zone) = topology.remove(ZONE) {
            endpoint.insert("zone".to_owned(), zone);
        }
        if let Some(node) = topology.remove(HOSTNAME) {
            object::default(endpoint, "nodeName", node);
        }
        if !topology.is_empty() {
            endpoint.insert("deprecatedTopology".to_owned(), json!(topology));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_an_entry_of_the_topology() {
        let stored = json!({"endpoints": [
            {"addresses": ["10.0.0.1"], "nodeName": "n", "zone": "z", "deprecatedTopology": {"a": "b"}},
            {"addresses": ["10.0.0.2"]},
        ]});
        let mut object = stored.clone();
        show(&mut object);
        assert_eq!(
            object["endpoints"][0],
            json!({"addresses": ["10.0.0.1"], "nodeName": "n", "topology": {"a": "b", ZONE: "z"}})
        );
        store(&mut object);
        assert_eq!(object, stored);
    }
}
