use contract::time::{format_ms, from_unix_ms, is_rfc3339, parse_http_date, parse_rfc3339, unix_ms};
use jiff::Timestamp;
use proptest::prelude::*;

use crate::cases;

#[test]
fn what_the_grammar_allows_is_a_time() {
    for (text, expected) in [
        ("2026-11-24T10:15:30Z", "2026-11-24T10:15:30.000Z"),
        ("2026-11-24t10:15:30z", "2026-11-24T10:15:30.000Z"),
        ("2026-11-24T10:15:30.1+05:30", "2026-11-24T04:45:30.100Z"),
        ("2026-11-24T00:15:30.999999999999999-00:00", "2026-11-24T00:15:30.999Z"),
        ("2026-11-24T10:15:30-23:59", "2026-11-25T10:14:30.000Z"),
        ("2024-02-29T23:59:59+23:59", "2024-02-29T00:00:59.000Z"),
        ("2000-02-29T00:00:00Z", "2000-02-29T00:00:00.000Z"),
        ("1969-12-31T23:59:59.9996Z", "1969-12-31T23:59:59.999Z"),
        ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"),
        ("0000-02-29T00:00:00Z", "0000-02-29T00:00:00.000Z"),
        ("0000-01-01T00:00:00+00:01", "0000-01-01T00:00:00.000Z"),
        ("9999-12-29T23:59:59Z", "9999-12-29T23:59:59.000Z"),
    ] {
        assert!(is_rfc3339(text), "{text}");
        assert_eq!(format_ms(parse_rfc3339(text).unwrap()), expected, "{text}");
    }
}

#[test]
fn what_it_does_not_allow_is_not() {
    for text in [
        "",
        "now",
        "2026-11-24",
        "10:15:30Z",
        "2026-11-24T10:15:30",
        "2026-11-24 10:15:30Z",
        "2026-11-24T10:15Z",
        "2026-11-24T10:15:30.Z",
        "2026-11-24T10:15:30,5Z",
        "2026-11-24T10:15:30+0530",
        "2026-11-24T10:15:30+05",
        "2026-11-24T10:15:30+24:00",
        "2026-11-24T10:15:30+05:60",
        "2026-11-24T24:00:00Z",
        "2026-11-24T10:60:00Z",
        "2026-11-24T10:15:61Z",
        "2026-11-31T10:15:30Z",
        "2026-13-01T10:15:30Z",
        "2026-00-01T10:15:30Z",
        "2026-01-00T10:15:30Z",
        "2026-01-32T10:15:30Z",
        "2026-02-29T10:15:30Z",
        "1900-02-29T10:15:30Z",
        "26-11-24T10:15:30Z",
        "+2026-11-24T10:15:30Z",
        "-2026-11-24T10:15:30Z",
        "12026-11-24T10:15:30Z",
        "20261124T101530Z",
        "2026-11-24T10:15:30Z ",
        " 2026-11-24T10:15:30Z",
        "2026-11-24T10:15:30Z[UTC]",
        "2026-11-24T10:15:30ZZ",
        "2026-11-24T10:15:30 Z",
        "2026-W48-2T10:15:30Z",
        "2026-328T10:15:30Z",
        "２０２６-11-24T10:15:30Z",
        "2026-11-24T10:15:30\u{2212}05:00",
        "2026-1-24T10:15:30Z",
        "2026-11-24T+1:15:30Z",
        "1700000000",
    ] {
        assert!(!is_rfc3339(text) && parse_rfc3339(text).is_none(), "{text}");
    }
}

#[test]
fn a_leap_second_stands_at_the_end_of_a_month_in_utc_only() {
    for (text, expected) in [
        ("1990-12-31T23:59:60Z", "1991-01-01T00:00:00.000Z"),
        ("1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00.000Z"),
        ("2017-01-01T08:59:60.5+09:00", "2017-01-01T00:00:00.500Z"),
        ("2015-06-30T23:59:60Z", "2015-07-01T00:00:00.000Z"),
        ("2024-02-29T23:59:60Z", "2024-03-01T00:00:00.000Z"),
        ("2024-03-01T00:29:60+00:30", "2024-03-01T00:00:00.000Z"),
    ] {
        assert_eq!(parse_rfc3339(text).map(format_ms).as_deref(), Some(expected), "{text}");
    }
    for text in [
        "1990-12-31T23:59:60+01:00",
        "1990-12-30T23:59:60Z",
        "1990-12-31T22:59:60Z",
        "1990-12-31T23:58:60Z",
        "2024-02-28T23:59:60Z",
        "1991-01-01T23:59:60Z",
        "1991-01-01T00:59:60Z",
        "2017-01-01T23:59:60+00:00",
    ] {
        assert!(!is_rfc3339(text), "{text}");
    }
}

#[test]
fn what_cannot_be_counted_becomes_the_nearest_that_can() {
    assert_eq!(parse_rfc3339("9999-12-31T23:59:59.999-23:59"), Some(Timestamp::MAX));
    assert_eq!(from_unix_ms(i64::MAX), Timestamp::MAX);
    assert_eq!(from_unix_ms(i64::MIN), Timestamp::MIN);
    assert_eq!(format_ms(Timestamp::MAX), "9999-12-30T22:00:00.999Z");
    assert_eq!(format_ms(Timestamp::MIN), "0000-01-01T00:00:00.000Z");
    assert_eq!(unix_ms(from_unix_ms(-1)), -1);
    assert_eq!(unix_ms(Timestamp::new(0, -1).unwrap()), -1);
    assert_eq!(unix_ms(Timestamp::new(1, 999_999_999).unwrap()), 1_999);
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn what_we_write_we_read(ms in -62_167_219_200_000_i64..=253_402_207_200_000) {
        let text = format_ms(from_unix_ms(ms));
        prop_assert_eq!(text.len(), 24);
        prop_assert_eq!(parse_rfc3339(&text).map(unix_ms), Some(ms));
        prop_assert_eq!(text.parse::<Timestamp>().ok().map(unix_ms), Some(ms));
    }

    #[test]
    fn we_count_as_jiff_does(
        date in (0_i64..=9998, 0..=13, 0..=32), clock in (0..=24, 0..=60, 0..=59), fraction in "(\\.[0-9]{1,9})?",
        offset in prop_oneof![Just("Z".to_owned()), "[+-](0[0-9]|1[0-9]|2[0-3]):[0-5][0-9]"],
    ) {
        let (year, month, day) = date;
        let (hour, minute, second) = clock;
        let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{offset}");
        prop_assert_eq!(parse_rfc3339(&text), text.parse::<Timestamp>().ok(), "{}", text);
    }

    #[test]
    fn no_text_or_number_makes_it_panic(
        text in prop_oneof![any::<String>(), "[0-9TZtz:.+-]{0,40}", "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-9]{2}:[0-9]{2}:60[Z+-].{0,8}"],
        ms in any::<i64>(),
    ) {
        prop_assert_eq!(is_rfc3339(&text), parse_rfc3339(&text).is_some());
        prop_assert!(format_ms(from_unix_ms(ms)).ends_with('Z'));
    }
}

#[test]
fn a_date_of_http_is_read_in_all_its_forms() {
    let now: Timestamp = "2026-11-26T08:00:00Z".parse().unwrap();
    let read = |text: &str| parse_http_date(text, now).map(|time| time.to_string());
    for form in [
        "Sat, 27 Nov 2027 08:49:37 GMT",
        "Saturday, 27-Nov-27 08:49:37 GMT",
        "Sat Nov 27 08:49:37 2027",
        "Fri, 27 Nov 2027 08:49:37 GMT",
        "Friday, 27-Nov-27 08:49:37 GMT",
        "Mon Nov 27 08:49:37 2027",
        "27 Nov 2027 08:49:37 GMT",
        "Sam, 27 Nov 2027 08:49:37 GMT",
        "sat, 27 nov 2027 08:49:37 gmt",
        "Sat, 27-Nov-2027 08:49:37 GMT",
        "Sat,27 Nov 2027  08:49:37 GMT",
        "Sat Nov 27 08:49:37 GMT 2027",
        " Sat, 27 Nov 2027 09:49:37 +0100 ",
        "Sat, 27 Nov 27 08:49:37 GMT",
    ] {
        assert_eq!(read(form).as_deref(), Some("2027-11-27T08:49:37Z"), "{form}");
    }
    assert_eq!(read("Sun Nov  6 08:49:60 1994").as_deref(), Some("1994-11-06T08:49:59Z"));
    for wrong in [
        "",
        "soon",
        "2027-11-27T08:49:37Z",
        "Sat, 27 Nov 2027",
        "Sat, 27 Nov 2027 08:49 PM",
        "Sat, 31 Nov 2027 08:49:37 GMT",
        "Sat, 27 Nov 2027 25:49:37 GMT",
        "Sat, 27 Nov 2027 08:49:37 GMT GMT x",
        "Sat, 27 Nov -1 08:49:37 GMT",
        "Sat, 27 Foo 2027 08:49:37 GMT",
        "32768 Nov 27 08:49:37",
        "- - - -",
    ] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}

#[test]
fn a_year_of_two_digits_is_the_last_that_is_no_more_than_50_years_ahead() {
    let read = |text: &str, now: &str| parse_http_date(text, now.parse().unwrap()).unwrap().to_string();
    let now = "2026-11-26T08:00:00Z";
    assert_eq!(read("Thursday, 26-Nov-76 08:00:00 GMT", now), "2076-11-26T08:00:00Z");
    assert_eq!(read("Thursday, 26-Nov-76 08:00:01 GMT", now), "1976-11-26T08:00:01Z");
    assert_eq!(read("Sunday, 06-Nov-94 08:49:37 GMT", now), "1994-11-06T08:49:37Z");
    assert_eq!(read("Friday, 01-Jan-01 00:00:00 GMT", "2099-12-31T23:59:59Z"), "2101-01-01T00:00:00Z");
    assert_eq!(read("Tuesday, 29-Feb-00 00:00:00 GMT", "2099-12-31T23:59:59Z"), "2000-02-29T00:00:00Z");
}
