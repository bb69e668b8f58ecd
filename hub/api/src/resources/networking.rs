//! Resources of `networking.k8s.io`.

use super::{CORE, Row, status};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[
    Row {
        plural: "ingressclasses",
        singular: "ingressclass",
        kind: "IngressClass",
        namespaced: false,
        schema: "io.k8s.api.networking.v1.IngressClass",
        strategy: &strategy::networking::INGRESS_CLASS,
        ..GROUP
    },
    Row {
        plural: "ingresses",
        singular: "ingress",
        kind: "Ingress",
        short_names: &["ing"],
        subresources: &[status("networking.k8s.io", "v1", "Ingress")],
        schema: "io.k8s.api.networking.v1.Ingress",
        strategy: &strategy::networking::INGRESS,
        ..GROUP
    },
    Row {
        plural: "ipaddresses",
        singular: "ipaddress",
        kind: "IPAddress",
        short_names: &["ip"],
        namespaced: false,
        schema: "io.k8s.api.networking.v1.IPAddress",
        strategy: &strategy::networking::IP_ADDRESS,
        ..GROUP
    },
    Row {
        plural: "networkpolicies",
        singular: "networkpolicy",
        kind: "NetworkPolicy",
        short_names: &["netpol"],
        schema: "io.k8s.api.networking.v1.NetworkPolicy",
        strategy: &strategy::networking::NETWORK_POLICY,
        ..GROUP
    },
    Row {
        plural: "servicecidrs",
        singular: "servicecidr",
        kind: "ServiceCIDR",
        namespaced: false,
        subresources: &[status("networking.k8s.io", "v1", "ServiceCIDR")],
        schema: "io.k8s.api.networking.v1.ServiceCIDR",
        strategy: &strategy::networking::SERVICE_CIDR,
        ..GROUP
    },
];

/// What the rows of the group share.
const GROUP: Row = Row { group: "networking.k8s.io", ..CORE };
