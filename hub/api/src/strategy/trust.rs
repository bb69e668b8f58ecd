//! Strategies of what is trusted: ClusterTrustBundles and PodCertificateRequests.

use serde_json::json;

use super::Rules;
use crate::names;
use crate::object;
use crate::validation::trust;

/// ClusterTrustBundles: named after their signer.
pub static TRUST_BUNDLE: Rules = Rules {
    check_name: names::path_segment,
    validate: trust::trust_bundle,
    validate_update: trust::trust_bundle_update,
    ..Rules::PLAIN
};

/// PodCertificateRequests.
pub static POD_REQUEST: Rules = Rules {
    default: |object| {
        object::default(object::ensure(object, "spec"), "maxExpirationSeconds", 86400);
    },
    prepare_create: |object, _| object["status"] = json!({}),
    validate: trust::pod_request,
    validate_update: trust::pod_request_update,
    ..Rules::PLAIN
};
