//! Times: RFC 3339 read strictly, and ours written with milliseconds and `Z` (contract, sections 1 and 6).
//!
//! Nothing here panics or overflows, whatever the text or the number is.

use std::time::Duration;

use jiff::tz::Offset;
use jiff::{SignedDuration, Span, Timestamp, civil};

const NANOSECONDS_PER_MS: i128 = 1_000_000;
const MINUTES_PER_DAY: i64 = 24 * 60;

/// Whether a text is a `date-time` of RFC 3339, strictly by its grammar.
///
/// `T` or `t` between date and time, any number of fraction digits, then `Z`, `z` or `±hh:mm`. Days are those of the
/// month and year. Second 60 stands only where a leap second can: at the end of a month in UTC.
pub fn is_rfc3339(text: &str) -> bool {
    parts(text).is_some()
}

/// The instant that an RFC 3339 text names, by the rules of [`is_rfc3339`].
///
/// Digits after the nanoseconds are dropped. A leap second is the second after it. What lies outside the years that
/// `jiff` counts becomes their first or last instant.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (unix_seconds, nanoseconds) = parts(text)?;
    let outside = if unix_seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Some(Timestamp::new(unix_seconds, nanoseconds).unwrap_or(outside))
}

/// The instant that a date in a header of HTTP names (RFC 9110 §5.6.7), in any of its three forms. Of two digits the year is
/// the last that ends before 50 years from `now`. The weekday does not count, nor does it matter if it is wrong or missing;
/// neither does what stands between the parts. Other zones than GMT are read where they are numbers or RFC 2822's.
pub fn parse_http_date(text: &str, now: Timestamp) -> Option<Timestamp> {
    let with_zone = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text.trim());
    if let Ok(time) = with_zone {
        return Some(time);
    }
    let words = text.split([' ', '\t', ',', '-']).filter(|word| !matches!(*word, "" | "GMT" | "UTC"));
    let mut words: Vec<&str> = words.collect();
    if words.first().is_some_and(|word| !word.starts_with(|c: char| c.is_ascii_digit()) && month(word).is_none()) {
        words.remove(0);
    }
    let [day, name, year, clock] = match words[..] {
        [month, day, clock, year] if clock.contains(':') => [day, month, year, clock],
        [day, month, year, clock] => [day, month, year, clock],
        _ => return None,
    };
    let clock = clock.split(':').map(|part| digits(part, 2)).collect::<Option<Vec<i16>>>()?;
    let [hour, minute, second] = clock[..] else { return None };
    // A leap second has no number of its own.
    let time = civil::Time::new(i8(hour)?, i8(minute)?, i8(second)?.min(59), 0).ok()?;
    let day = digits(day, 2).or_else(|| digits(day, 1)).and_then(i8)?;
    let month = month(name)?;
    let at = |year| Offset::UTC.to_timestamp(civil::Date::new(year, month, day).ok()?.to_datetime(time)).ok();
    match digits(year, 4) {
        Some(year) => at(year),
        None => {
            let this_year = Offset::UTC.to_datetime(now).year();
            let within_century = digits(year, 2)?;
            let years = [1, 0, -1].map(|centuries| (this_year / 100 + centuries) * 100 + within_century);
            let horizon = Offset::UTC.to_datetime(now).checked_add(Span::new().years(50)).ok()?;
            let horizon = Offset::UTC.to_timestamp(horizon).ok()?;
            years.into_iter().filter_map(at).find(|time| *time <= horizon)
        }
    }
}

/// A month by its name's first three letters: 1 to 12.
fn month(name: &str) -> Option<i8> {
    let months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let place = months.iter().position(|month| month.eq_ignore_ascii_case(name))?;
    i8::try_from(place + 1).ok()
}

/// A number of exactly so many digits.
fn digits(text: &str, count: usize) -> Option<i16> {
    let fits = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

fn i8(number: i16) -> Option<i8> {
    i8::try_from(number).ok()
}

/// A time as we answer it, such as `2026-11-24T10:15:30.123Z`. What is finer than milliseconds is dropped. Years
/// before 0, which RFC 3339 can't write, become the start of year 0.
pub fn format_ms(time: Timestamp) -> String {
    let time = from_unix_ms(unix_ms(time));
    let civil = Offset::UTC.to_datetime(time);
    if civil.year() < 0 {
        return "0000-01-01T00:00:00.000Z".to_owned();
    }
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        civil.year(),
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second(),
        civil.millisecond(),
    )
}

/// The instant so many milliseconds after 1970; outside the years that `jiff` counts, their first or last instant.
pub fn from_unix_ms(ms: i64) -> Timestamp {
    let outside = if ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(ms).unwrap_or(outside)
}

/// The instant so long after `time`, or the last that `jiff` counts.
pub fn after(time: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait).ok().and_then(|wait| time.checked_add(wait).ok()).unwrap_or(Timestamp::MAX)
}

/// How long it is from `now` until `time`; nothing where that is past.
pub fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default()
}

/// Whole milliseconds since 1970, rounded down; negative before.
pub fn unix_ms(time: Timestamp) -> i64 {
    let ms = time.as_nanosecond().div_euclid(NANOSECONDS_PER_MS);
    // Never clamped: the years of `jiff` are fewer than an i64's.
    i64::try_from(ms).unwrap_or(if ms < 0 { i64::MIN } else { i64::MAX })
}

/// Unix seconds and nanoseconds of an RFC 3339 text.
fn parts(text: &str) -> Option<(i64, i32)> {
    let mut rest = Rest(text.as_bytes());
    let year = rest.number(4, 0..=9999)?;
    rest.one_of(b"-")?;
    let month = rest.number(2, 1..=12)?;
    rest.one_of(b"-")?;
    let day = rest.number(2, 1..=days_in_month(year, month))?;
    rest.one_of(b"Tt")?;
    let hour = rest.number(2, 0..=23)?;
    rest.one_of(b":")?;
    let minute = rest.number(2, 0..=59)?;
    rest.one_of(b":")?;
    let second = rest.number(2, 0..=60)?;
    let nanoseconds = rest.fraction()?;
    let offset_minutes = rest.offset_minutes()?;
    if !rest.0.is_empty() {
        return None;
    }
    let first_of_month = days_since_1970(year, month);
    let utc_minutes = (first_of_month + day - 1) * MINUTES_PER_DAY + hour * 60 + minute - offset_minutes;
    if second == 60 && !ends_a_month(utc_minutes, first_of_month, days_in_month(year, month)) {
        return None;
    }
    Some((utc_minutes * 60 + second, nanoseconds))
}

/// Whether this is the last minute of a month in UTC: of the month that the text names, or, where its clock is ahead
/// of UTC, of the month before.
fn ends_a_month(utc_minutes: i64, first_of_month: i64, days_in_month: i64) -> bool {
    let after = utc_minutes + 1;
    after == first_of_month * MINUTES_PER_DAY || after == (first_of_month + days_in_month) * MINUTES_PER_DAY
}

/// What is still to be read of a text.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn one_of(&mut self, accepted: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        accepted.contains(first).then_some(*first)
    }

    /// A number of exactly so many digits, four at most.
    fn number(&mut self, digits: usize, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        if !number.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.0 = rest;
        let number = number.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        range.contains(&number).then_some(number)
    }

    /// Nanoseconds of an optional fraction, of which a dot needs at least one digit.
    fn fraction(&mut self) -> Option<i32> {
        let Some(digits) = self.0.strip_prefix(b".") else { return Some(0) };
        let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = digits.split_at_checked(length)?;
        self.0 = rest;
        let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(9);
        (length > 0).then(|| padded.fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0')))
    }

    /// Minutes that the text's clock is ahead of UTC.
    fn offset_minutes(&mut self) -> Option<i64> {
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        let hours = self.number(2, 0..=23)?;
        self.one_of(b":")?;
        Some(sign * (hours * 60 + self.number(2, 0..=59)?))
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the first of a month, in the Gregorian calendar carried back to year 0.
fn days_since_1970(year: i64, month: i64) -> i64 {
    // Years are counted from March, so that a leap day is a year's last.
    let (march_year, march_month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = march_year.div_euclid(4) - march_year.div_euclid(100) + march_year.div_euclid(400);
    let days_before_month = (153 * march_month + 2) / 5;
    march_year * 365 + leap_days + days_before_month - 719_468
}
