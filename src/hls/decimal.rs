//! Numbers and dates of RFC 8216 §4.2, by integer arithmetic only.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::time::offset;

/// Seconds beyond this are no duration of a segment: three years.
const MAX_SECONDS: u64 = 99_999_999;

/// A decimal-integer: digits only, so that a sign is not taken for one.
pub(super) fn integer(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// A decimal-floating-point number in units of 10^-9; digits after the ninth are cut off.
pub(super) fn billionths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { integer(whole)? };
    let digits = fraction.bytes().map(|byte| u64::from(byte.wrapping_sub(b'0'))).chain(std::iter::repeat(0));
    let fraction = digits.take(9).fold(0, |sum, digit| sum * 10 + digit);
    whole.checked_mul(1_000_000_000)?.checked_add(fraction)
}

/// A duration in seconds, whole or decimal.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    billionths(text).map(Duration::from_nanos).filter(|duration| duration.as_secs() <= MAX_SECONDS)
}

/// A date with time (ISO 8601), and whether it names its zone. Without one it is taken as UTC, as players do.
pub(super) fn date_time(text: &str) -> Option<(SystemTime, bool)> {
    let (timestamp, has_zone) = match text.parse::<Timestamp>() {
        Ok(timestamp) => (timestamp, true),
        Err(_) => (Offset::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()?, false),
    };
    Some((offset(SystemTime::UNIX_EPOCH, timestamp.as_nanosecond())?, has_zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        let ms = Duration::from_millis;
        let long = format!("0.5{}", "0".repeat(2_000_000));
        for (text, expected) in [
            ("4", Some(ms(4000))),
            ("4.0", Some(ms(4000))),
            ("2.663", Some(ms(2663))),
            ("0.000000001", Some(Duration::from_nanos(1))),
            ("0.0000000019", Some(Duration::from_nanos(1))),
            (".5", Some(ms(500))),
            ("4.", Some(ms(4000))),
            ("0", Some(Duration::ZERO)),
            (&long, Some(ms(500))),
            ("99999999", Some(ms(99_999_999_000))),
            ("100000000", None),
            ("99999999999999999999999999", None),
            ("", None),
            (".", None),
            ("-1", None),
            ("+1", None),
            ("1e3", None),
            ("inf", None),
            ("NaN", None),
            ("4,", None),
            ("1.-5", None),
            ("٤", None),
        ] {
            assert_eq!(seconds(text), expected, "{:.20}", text);
        }
        assert_eq!(seconds(&"9".repeat(2_000_000)), None);
    }

    #[test]
    fn integers_are_digits() {
        assert_eq!(integer("18446744073709551615"), Some(u64::MAX));
        for text in ["18446744073709551616", "", "+1", "-1", "1.0", " 1"] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    #[test]
    fn dates_come_in_many_spellings() {
        // date -u -d 2023-05-17T13:48:35Z +%s
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        for (text, expected) in [
            ("2023-05-17T13:48:35.994Z", Some((at(1_684_331_315_994), true))),
            ("2023-05-17T13:48:35Z", Some((at(1_684_331_315_000), true))),
            ("2023-05-17t13:48:35.994z", Some((at(1_684_331_315_994), true))),
            ("2023-05-17T13:48:35.994+00:00", Some((at(1_684_331_315_994), true))),
            ("2023-05-17T13:48:35.994+0000", Some((at(1_684_331_315_994), true))),
            ("2023-05-17T15:48:35.994+02:00", Some((at(1_684_331_315_994), true))),
            ("2023-05-17T09:18:35.994-0430", Some((at(1_684_331_315_994), true))),
            ("2023-05-17T13:48:35.994", Some((at(1_684_331_315_994), false))),
            ("1970-01-01T00:00:00Z", Some((at(0), true))),
            ("2023-02-30T00:00:00Z", None),
            ("9999-12-31T23:59:59Z", None), // beyond what fits nanoseconds of 64 bits
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(date_time(text), expected, "{text}");
        }
        assert_eq!(date_time("1969-12-31T23:59:59Z").unwrap().0, SystemTime::UNIX_EPOCH - Duration::from_secs(1));
    }
}
