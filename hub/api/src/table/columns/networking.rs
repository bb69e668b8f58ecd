//! Columns of `networking.k8s.io`.

use super::{AGE, Column, NAME, computed, text};
use crate::table::network;

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "ingressclasses" => Some(INGRESS_CLASSES),
        "ingresses" => Some(INGRESSES),
        "ipaddresses" => Some(IP_ADDRESSES),
        "networkpolicies" => Some(NETWORK_POLICIES),
        "servicecidrs" => Some(SERVICE_CIDRS),
        _ => None,
    }
}

const INGRESS_CLASSES: &[Column] = &[
    NAME,
    text("Controller", "/spec/controller", "Which controller serves the class."),
    computed("Parameters", network::ingress_class_parameters, "Where its parameters are."),
    AGE,
];

const INGRESSES: &[Column] = &[
    NAME,
    text("Class", "/spec/ingressClassName", "Which controller serves it.").or("<none>"),
    computed("Hosts", network::ingress_hosts, "Hosts that requests are matched against."),
    computed("Address", network::ingress_address, "Where requests come in."),
    computed("Ports", network::ingress_ports, "Ports that are open."),
    AGE,
];

const NETWORK_POLICIES: &[Column] =
    &[NAME, computed("Pod-Selector", network::pod_selector, "Which pods it applies to."), AGE];

const IP_ADDRESSES: &[Column] =
    &[NAME, computed("ParentRef", network::address_parent, "What the address belongs to."), AGE];

const SERVICE_CIDRS: &[Column] = &[
    NAME,
    computed("CIDRs", network::service_cidrs, "Where addresses of Services come from."),
    AGE,
];
