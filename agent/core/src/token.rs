//! Tokens of service accounts: which ones a pod's volumes name, and when one is renewed.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PodSpec, ServiceAccountTokenProjection};
use serde::{Deserialize, Serialize};

/// Life that a projection asks for when it says nothing: an hour.
const DEFAULT_SECONDS: i64 = 3600;
/// A token is renewed after this long at the latest, as the kubelet does.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);
/// A token is renewed when this share of its life is over.
const LIFE_PERCENT: i64 = 80;

/// What makes two projections of one pod share a token.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct TokenName {
    /// For whom it is good; empty for the API itself.
    pub audience: String,
    /// Life that the pod asks for.
    pub seconds: i64,
}

impl TokenName {
    /// The token of a projection.
    pub fn of(projection: &ServiceAccountTokenProjection) -> Self {
        Self {
            audience: projection.audience.clone().unwrap_or_default(),
            seconds: projection.expiration_seconds.unwrap_or(DEFAULT_SECONDS),
        }
    }
}

/// All tokens that the volumes of a pod name.
pub fn wanted(spec: &PodSpec) -> BTreeSet<TokenName> {
    let projected = spec.volumes.iter().flatten().filter_map(|it| it.projected.as_ref());
    let sources = projected.flat_map(|it| it.sources.iter().flatten());
    sources.filter_map(|it| it.service_account_token.as_ref()).map(TokenName::of).collect()
}

/// When a token that was got at `since` and lives so long is to be renewed.
pub fn renewal(since: Timestamp, life: SignedDuration) -> Timestamp {
    let share = SignedDuration::from_secs(life.as_secs().max(0) / 100 * LIFE_PERCENT);
    since.saturating_add(share.min(MAX_AGE)).unwrap_or(Timestamp::MAX)
}

/// Whether it is renewed in the same go with others. A request and a write for every token at a
/// time of its own would keep a sleeping node busy.
pub fn is_due(since: Timestamp, life: SignedDuration, now: Timestamp) -> bool {
    let due = renewal(since, life);
    let early = due.duration_since(since) / 8;
    // A token from the future was got while the clock was wrong: nothing is known of its age.
    since > now || due.saturating_sub(early).unwrap_or(Timestamp::MIN) <= now
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_pod_names_its_tokens() {
        let spec: PodSpec = from_value(json!({"containers": [], "volumes": [
            {"name": "a", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"serviceAccountToken": {"path": "vault", "audience": "vault"}},
                {"configMap": {"name": "c"}}]}},
            {"name": "b", "projected": {"sources": [
                {"serviceAccountToken": {"path": "again", "expirationSeconds": 3607}}]}},
            {"name": "c", "emptyDir": {}}]}))
        .unwrap();
        let names: Vec<String> =
            wanted(&spec).iter().map(|it| format!("{}:{}", it.audience, it.seconds)).collect();
        assert_eq!(names, [":3607", "vault:3600"]);
    }

    #[test]
    fn a_token_is_renewed_at_four_fifths_of_its_life_or_after_a_day() {
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
        let hour = SignedDuration::from_hours(1);
        let year = SignedDuration::from_hours(365 * 24);
        for (life, seconds, due) in [
            (hour, 0, false),
            (hour, 2519, false),
            (hour, 2520, true),
            (hour, 10_000, true),
            (year, 75_599, false),
            (year, 75_600, true),
            (hour, -1, true),
        ] {
            assert_eq!(is_due(at(0), life, at(seconds)), due, "{life} after {seconds} s");
        }
        assert_eq!(renewal(at(0), hour), at(2880));
        assert_eq!(renewal(at(0), year), at(86_400));
    }
}
