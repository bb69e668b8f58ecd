//! When a schedule comes around, in a time zone.
//!
//! A wall-clock time that a zone skips does not come around that day; one that it has twice comes around both times, as
//! in Kubernetes.

use hub_api::cron::{Fields, Schedule};
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// Days that are looked through: the 29th of February is never farther than eight years away.
const HORIZON: u32 = 366 * 8 + 2;
/// Longer are days on which a part comes twice.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The first time after `after`.
pub(super) fn next(schedule: &Schedule, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    match schedule {
        Schedule::Every(every) => after.checked_add(*every).ok().map(whole_second),
        Schedule::Fields(fields) => {
            let mut date = after.to_zoned(zone.clone()).date();
            for _ in 0..HORIZON {
                if is_day(fields, date)
                    && let Some(found) = times(fields, zone, date).find(|at| *at > after)
                {
                    return Some(found);
                }
                date = date.tomorrow().ok()?;
            }
            None
        }
    }
}

/// The last time that is after `after` and not after `until`.
pub(super) fn last(
    schedule: &Schedule,
    zone: &TimeZone,
    after: Timestamp,
    until: Timestamp,
) -> Option<Timestamp> {
    match schedule {
        Schedule::Every(every) => {
            let every = every.as_secs().max(1);
            let turns = until.duration_since(after).as_secs() / every;
            let passed = SignedDuration::from_secs(turns.checked_mul(every)?);
            (turns > 0).then(|| after.checked_add(passed).ok().map(whole_second))?
        }
        Schedule::Fields(fields) => {
            let first = after.to_zoned(zone.clone()).date();
            let mut date = until.to_zoned(zone.clone()).date();
            for _ in 0..HORIZON {
                if is_day(fields, date)
                    && let Some(found) = times(fields, zone, date).filter(|at| *at <= until).max()
                {
                    return (found > after).then_some(found);
                }
                if date <= first {
                    return None;
                }
                date = date.yesterday().ok()?;
            }
            None
        }
    }
}

fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn has(set: u64, number: i8) -> bool {
    u32::try_from(number).is_ok_and(|it| it < 64 && set & (1 << it) != 0)
}

fn is_day(fields: &Fields, date: Date) -> bool {
    let day = has(fields.days, date.day());
    let weekday = has(fields.weekdays, date.weekday().to_sunday_zero_offset());
    let fits = if fields.any_day || fields.any_weekday { day && weekday } else { day || weekday };
    has(fields.months, date.month()) && fits
}

/// The times of a day, in their order.
fn times<'a>(
    fields: &'a Fields,
    zone: &'a TimeZone,
    date: Date,
) -> Box<dyn Iterator<Item = Timestamp> + 'a> {
    let hours = (0..24).filter(|hour| has(fields.hours, *hour));
    let minutes = |hour| {
        (0..60).filter(|minute| has(fields.minutes, *minute)).map(move |minute| (hour, minute))
    };
    let all =
        hours.flat_map(minutes).map(move |(hour, minute)| both(zone, date.at(hour, minute, 0, 0)));
    if !is_long(zone, date) {
        return Box::new(all.filter_map(|[first, _]| first));
    }
    let mut all: Vec<Timestamp> = all.flatten().flatten().collect();
    all.sort_unstable();
    Box::new(all.into_iter())
}

/// When a zone's clocks show a time: never, once, or a second time.
fn both(zone: &TimeZone, time: DateTime) -> [Option<Timestamp>; 2] {
    let found = zone.to_ambiguous_timestamp(time);
    match found.offset() {
        AmbiguousOffset::Unambiguous { .. } => [found.earlier().ok(), None],
        AmbiguousOffset::Gap { .. } => [None, None],
        AmbiguousOffset::Fold { .. } => [found.earlier().ok(), found.later().ok()],
    }
}

fn is_long(zone: &TimeZone, date: Date) -> bool {
    let start = |date: Date| date.to_zoned(zone.clone()).ok();
    let next = date.tomorrow().ok().and_then(start);
    let (Some(start), Some(next)) = (start(date), next) else { return false };
    next.timestamp().duration_since(start.timestamp()) > DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn schedules_come_around() {
        let check = |schedule: &str, zone: &str, after: &str, expect: &str| {
            let parsed = hub_api::cron::parse(schedule).unwrap();
            let zone = hub_api::cron::time_zone(zone).unwrap();
            assert_eq!(
                next(&parsed, &zone, at(after)),
                Some(at(expect)),
                "{schedule} after {after}"
            );
            let back = last(&parsed, &zone, at(after), at(expect));
            assert_eq!(back, Some(at(expect)), "{schedule} back from {expect}");
        };
        check("* * * * *", "", "2026-11-20T08:00:30Z", "2026-11-20T08:01:00Z");
        check("*/15 * * * *", "", "2026-11-20T08:45:00Z", "2026-11-20T09:00:00Z");
        check("0 3 * * 1", "", "2026-11-20T08:00:00Z", "2026-11-23T03:00:00Z");
        check("0 0 29 2 *", "", "2026-11-20T08:00:00Z", "2028-02-29T00:00:00Z");
        check("0 0 13 * 5", "", "2026-11-20T08:00:00Z", "2026-11-27T00:00:00Z");
        check("30 9 * * *", "Europe/Berlin", "2026-11-20T08:00:00Z", "2026-11-20T08:30:00Z");
        // Half past two does not come on the day on which summer begins.
        check("30 2 * * *", "Europe/Berlin", "2026-03-28T02:00:00Z", "2026-03-30T00:30:00Z");
        // Half past two comes twice on the day on which it ends.
        check("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z");
        check("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
        check("30 2 * * *", "Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z");
        check("0 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z");
        check("0 * * * *", "Europe/Berlin", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z");
        check("*/20 * * * *", "Europe/Berlin", "2026-10-25T00:40:00Z", "2026-10-25T01:00:00Z");
        check("*/20 * * * *", "Europe/Berlin", "2026-10-25T01:00:00Z", "2026-10-25T01:20:00Z");
        // Only half an hour does there.
        let island = "Australia/Lord_Howe";
        check("*/15 * * * *", island, "2026-04-04T14:45:00Z", "2026-04-04T15:00:00Z");
        check("*/15 * * * *", island, "2026-04-04T15:15:00Z", "2026-04-04T15:30:00Z");
        check("@every 1h30m", "", "2026-11-20T08:00:00Z", "2026-11-20T09:30:00Z");
    }

    #[test]
    fn the_last_time_is_the_newest_that_has_come() {
        let hourly = hub_api::cron::parse("0 * * * *").unwrap();
        let utc = TimeZone::UTC;
        let (from, to) = (at("2026-11-01T00:00:00Z"), at("2026-11-20T08:59:00Z"));
        assert_eq!(last(&hourly, &utc, from, to), Some(at("2026-11-20T08:00:00Z")));
        assert_eq!(last(&hourly, &utc, at("2026-11-20T08:00:00Z"), to), None);
    }
}
