//! Durations, sizes and moments as tests write them: `"1h30m"`, `"20GB"`, `"2026-03-02 08:00"`, `"Mon 22:30"`.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use mlua::Value;

use crate::policy::Fields;

pub(super) const DURATION: &str = "a number of seconds or a text like \"1h30m\"";
pub(super) const BYTES: &str = "a number of bytes or a text like \"20GB\"";
pub(super) const DAY: &str = "a day and a time like \"2026-03-02 08:00\"";
pub(super) const MOMENT: &str =
    "a time like \"22:30\", with a day before it if need be: \"Mon 22:30\", \"2026-03-02 22:30\"";

/// A number of seconds, or numbers with `d`, `h`, `m`, `s` after them.
pub(super) fn duration(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::String(text) => {
            let units = [('d', 86400.0), ('h', 3600.0), ('m', 60.0), ('s', 1.0)];
            in_units(&text.to_string_lossy(), &units)?
        }
        other => number(other)?,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

/// The sum of a text like `1h30m`.
fn in_units(text: &str, units: &[(char, f64)]) -> Option<f64> {
    let mut sum = None;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit = rest[end..].chars().next()?;
        let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
        sum = Some(sum.unwrap_or(0.0) + number * factor);
        rest = rest[end + unit.len_utf8()..].trim_start();
    }
    sum
}

/// A number of bytes, or a number with `MB`, `GB`, `MiB`, `GiB` after it.
pub(super) fn bytes(value: &Value) -> Option<u64> {
    let Value::String(text) = value else {
        return number(value).filter(|b| *b >= 0.0).map(|b| b as u64);
    };
    let text = text.to_string_lossy();
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..end].parse().ok()?;
    let factor = match text[end..].trim() {
        "B" => 1.0,
        "MB" => 1e6,
        "GB" => 1e9,
        "MiB" => f64::from(1 << 20),
        "GiB" => f64::from(1 << 30),
        _ => return None,
    };
    Some((number * factor) as u64)
}

/// A day and a time, in Unix seconds.
pub(super) fn day(text: &str) -> Option<f64> {
    let time = DateTime::strptime("%Y-%m-%d %H:%M:%S", text)
        .or_else(|_| DateTime::strptime("%Y-%m-%d %H:%M", text));
    let zoned = time.ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_second() as f64)
}

/// The first moment after `now` that the text names; both in Unix seconds.
pub(super) fn moment(text: &str, now: f64) -> Option<f64> {
    if let Some(day) = day(text) {
        return (day > now).then_some(day);
    }
    let (weekday, time) = match text.trim().split_once(' ') {
        Some((day, time)) => (Some(self::weekday(day)?), time),
        None => (None, text.trim()),
    };
    let time = Time::strptime("%H:%M:%S", time).or_else(|_| Time::strptime("%H:%M", time));
    let (time, today) = (time.ok()?, date(now)?);
    // Today may be over: the same day of the next week is the last that can be meant.
    (0..=7).find_map(|days| {
        let date = today.checked_add(days.days()).ok()?;
        let at = date.to_datetime(time).to_zoned(TimeZone::UTC).ok()?;
        let at = at.timestamp().as_second() as f64;
        let fits = weekday.is_none_or(|weekday| date.weekday() == weekday);
        (fits && at > now).then_some(at)
    })
}

fn date(unix: f64) -> Option<Date> {
    let moment = Timestamp::from_second(unix as i64).ok()?;
    Some(moment.to_zoned(TimeZone::UTC).date())
}

fn weekday(text: &str) -> Option<Weekday> {
    let days = [
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
    ];
    let short = text.get(..3)?.to_ascii_lowercase();
    let found = days.into_iter().find(|(name, _)| *name == short);
    found.map(|(_, day)| day)
}

/// A field that is a value of a kind of its own.
pub(super) fn field<T>(
    fields: &Fields<'_>,
    name: &str,
    expected: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> mlua::Result<Option<T>> {
    match fields.get::<Value>(name, expected)? {
        None | Some(Value::Nil) => Ok(None),
        Some(value) => match read(&value) {
            Some(value) => Ok(Some(value)),
            None => Err(fields.error(format!("`{name}` must be {expected}"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use mlua::Lua;

    use super::*;

    #[test]
    fn durations_are_seconds_or_have_units() {
        let lua = Lua::new();
        for (text, seconds) in [
            ("90", Some(90.0)),
            ("0.5", Some(0.5)),
            ("'1h30m'", Some(5400.0)),
            ("'2d 1s'", Some(172_801.0)),
            ("'10'", None),
            ("''", None),
            ("'m'", None),
            ("'3 weeks'", None),
            ("-1", None),
            ("true", None),
        ] {
            let value: Value = lua.load(text).eval().unwrap();
            let found = duration(&value).map(|duration| duration.as_secs_f64());
            assert_eq!(found, seconds, "{text}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_units() {
        let lua = Lua::new();
        for (text, size) in [
            ("20", Some(20)),
            ("2e9", Some(2_000_000_000)),
            ("'20GB'", Some(20_000_000_000)),
            ("'1.5 GiB'", Some(1_610_612_736)),
            ("'20'", None),
            ("'20 apples'", None),
            ("-1", None),
        ] {
            let value: Value = lua.load(text).eval().unwrap();
            assert_eq!(bytes(&value), size, "{text}");
        }
    }

    #[test]
    fn a_moment_is_the_next_of_its_kind() {
        // A Monday.
        let now = day("2026-03-02 08:00").unwrap();
        for (text, expected) in [
            ("22:30", "2026-03-02 22:30"),
            ("08:00", "2026-03-03 08:00"),
            ("Mon 08:00:01", "2026-03-02 08:00:01"),
            ("monday 07:00", "2026-03-09 07:00"),
            ("Sun 12:00", "2026-03-08 12:00"),
            ("2026-04-01 00:00", "2026-04-01 00:00"),
        ] {
            assert_eq!(moment(text, now), day(expected), "{text}");
        }
        for text in ["2026-03-02 08:00", "25:00", "xyz 10:00", "", "8"] {
            assert_eq!(moment(text, now), None, "{text}");
        }
    }
}
