//! Event expiry: events are news, and are thrown away an hour after they were last seen.

use jiff::{SignedDuration, Timestamp};

use crate::object::{Kind, Object, ObjectRef};
use crate::value::time_at;
use crate::world::{Change, World};
use crate::write::Write;
use crate::{Controller, Plan};

/// How long an event is kept.
pub const TIME_TO_LIVE: SignedDuration = SignedDuration::from_secs(3600);
/// Looking less often makes batches, and keeps an idle disk asleep.
const INTERVAL: SignedDuration = SignedDuration::from_secs(300);
const BATCH: usize = 500;

#[derive(Debug)]
pub struct EventExpiryController;

impl Controller for EventExpiryController {
    fn name(&self) -> &'static str {
        "event-expiry-controller"
    }

    fn affected(&self, _change: &Change<'_>, _world: &World) -> Vec<ObjectRef> {
        Vec::new()
    }

    fn initial(&self) -> Vec<ObjectRef> {
        vec![Kind::EVENT.all()]
    }

    fn reconcile(&self, _key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
        let is_old = |event: &Object| {
            let age = last_seen(event).map(|seen| now.duration_since(seen));
            age.is_some_and(|age| age > TIME_TO_LIVE) && !event.is_deleting()
        };
        let old = world.list(Kind::EVENT).filter(|event| is_old(event)).take(BATCH);
        let writes: Vec<Write> = old.map(|event| Write::delete(event)).collect();
        let pause = if writes.len() == BATCH { SignedDuration::ZERO } else { INTERVAL };
        Plan { writes, recheck_at: now.checked_add(pause).ok() }
    }
}

fn last_seen(event: &Object) -> Option<Timestamp> {
    let value = event.value();
    let fields = [
        &["series", "lastObservedTime"][..],
        &["lastTimestamp"],
        &["eventTime"],
        &["metadata", "creationTimestamp"],
    ];
    fields.into_iter().filter_map(|path| time_at(value, path)).max()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn events_go_an_hour_after_they_were_last_seen() {
        let event = |name: &str, created: &str, last: &str| {
            let metadata = json!({"name": name, "creationTimestamp": created});
            (Kind::EVENT, json!({"metadata": metadata, "lastTimestamp": last}))
        };
        let world = testing::world([
            event("old", "2026-11-20T06:00:00Z", "2026-11-20T06:59:59Z"),
            event("repeated", "2026-11-20T06:00:00Z", "2026-11-20T07:30:00Z"),
            event("new", "2026-11-20T07:59:00Z", "2026-11-20T07:59:00Z"),
        ]);
        let plan = testing::plan(&EventExpiryController, &Kind::EVENT.all(), &world);
        expect![[r#"
            delete events default/old Background
            recheck at 2026-11-20T08:05:00Z
        "#]]
        .assert_eq(&plan);
    }
}
