//! Strategies of `networking.k8s.io`.

use serde_json::json;

use super::Rules;
use crate::defaults::networking;
use crate::validation::{addresses, ingress, network_policy};

/// Ingresses.
pub static INGRESS: Rules = Rules {
    prepare_create: |object, _| object["status"] = json!({"loadBalancer": {}}),
    validate: ingress::ingress,
    validate_create: ingress::ingress_create,
    validate_status: |new, _| ingress::load_balancer_status(new),
    generation_fields: &["spec"],
    ..Rules::PLAIN
};

/// IngressClasses.
pub static INGRESS_CLASS: Rules = Rules {
    default: networking::ingress_class,
    validate: ingress::ingress_class,
    validate_update: ingress::ingress_class_update,
    generation_fields: &["spec"],
    ..Rules::PLAIN
};

/// IPAddresses.
pub static IP_ADDRESS: Rules = Rules {
    check_name: addresses::address_name,
    validate: addresses::ip_address,
    validate_update: addresses::ip_address_update,
    ..Rules::PLAIN
};

/// NetworkPolicies.
pub static NETWORK_POLICY: Rules = Rules {
    default: networking::network_policy,
    validate: network_policy::network_policy,
    generation_fields: &["spec"],
    ..Rules::PLAIN
};

/// ServiceCIDRs.
pub static SERVICE_CIDR: Rules = Rules {
    prepare_create: |object, _| object["status"] = json!({}),
    validate: addresses::service_cidr,
    validate_update: addresses::service_cidr_update,
    ..Rules::PLAIN
};
