//! A moment as a clock on the wall shows it: what `hub.time()` returns. The [`World`](super::world::World) says
//! which clock, so that a simulated hub has one of its own.

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

/// A moment in local time; the fields are those of Lua's `os.date("*t")`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// The year, as 2026.
    pub year: i16,
    /// 1 to 12.
    pub month: i8,
    /// Day of the month, 1 to 31.
    pub day: i8,
    /// 0 to 23.
    pub hour: i8,
    /// 0 to 59.
    pub min: i8,
    /// 0 to 59.
    pub sec: i8,
    /// 1 for Sunday to 7 for Saturday.
    pub wday: i8,
    /// 1 to 366.
    pub yday: i16,
}

impl LocalTime {
    /// Local time in `zone` at so many Unix seconds. A moment out of range becomes the nearest one.
    pub fn at(unix: f64, zone: TimeZone) -> Self {
        let nearest = if unix < 0.0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        };
        let moment = Timestamp::from_second(unix.floor() as i64).unwrap_or(nearest);
        let time = moment.to_zoned(zone);
        Self {
            year: time.year(),
            month: time.month(),
            day: time.day(),
            hour: time.hour(),
            min: time.minute(),
            sec: time.second(),
            wday: match time.weekday() {
                Weekday::Sunday => 1,
                day => day.to_monday_one_offset() + 1,
            },
            yday: time.day_of_year(),
        }
    }

    /// Their names in Lua.
    pub(crate) const NAMES: [&str; 8] =
        ["year", "month", "day", "hour", "min", "sec", "wday", "yday"];

    /// The fields by name.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, i16)> + use<> {
        Self::NAMES.into_iter().zip(self.values())
    }

    /// Their values, in the same order.
    fn values(&self) -> [i16; 8] {
        let small = [
            self.month, self.day, self.hour, self.min, self.sec, self.wday,
        ];
        let [month, day, hour, min, sec, wday] = small.map(i16::from);
        [self.year, month, day, hour, min, sec, wday, self.yday]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_zone() {
        // 2026-01-31 23:30:15 UTC, a Saturday.
        let unix = 1_769_902_215.7;
        let utc = LocalTime::at(unix, TimeZone::UTC);
        let expected = [2026, 1, 31, 23, 30, 15, 7, 31];
        assert_eq!(utc.values(), expected);
        let east = TimeZone::fixed(jiff::tz::offset(1));
        let later = LocalTime::at(unix, east);
        let expected = [2026, 2, 1, 0, 30, 15, 1, 32];
        assert_eq!(later.values(), expected);
    }

    #[test]
    fn no_moment_is_out_of_range() {
        for unix in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            LocalTime::at(unix, TimeZone::UTC);
        }
    }
}
