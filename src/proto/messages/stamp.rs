//! Timestamps and message ids.

use std::cell::{Cell, RefCell};

use crate::base::{WallTime, civil};

/// `2026-01-15T14:30:25.123Z`: RFC 3339, UTC, three digits of fraction.
#[must_use]
pub fn timestamp(at: WallTime) -> String {
    let (year, month, day) = civil(at.0 / 86_400_000);
    let second = at.0 / 1000;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600 % 24,
        second / 60 % 60,
        second % 60,
        at.0 % 1000
    )
}

/// `Thu, 15 Jan 2026 14:30:25 GMT`, as HTTP has it (RFC 9110, 5.6.7).
#[must_use]
pub fn http_date(at: WallTime) -> String {
    const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let name = |names: &'static [u8], at: u64| {
        let at = usize::try_from(at).unwrap_or(0) * 3;
        names.get(at..at + 3).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    };
    let day = at.0 / 86_400_000;
    let (year, month, of_month) = civil(day);
    let second = at.0 / 1000;
    format!(
        "{}, {of_month:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        name(DAYS, day % 7),
        name(MONTHS, month - 1),
        second / 3600 % 24,
        second / 60 % 60,
        second % 60
    )
}

/// Reads what [`timestamp`] writes, and any RFC 3339 time in UTC or with an offset; `None` for
/// anything else and for times before 1970.
#[must_use]
pub fn parse_timestamp(text: &str) -> Option<WallTime> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = text.get(range)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let separators = [(4, b"-"), (7, b"-"), (10, b"T"), (13, b":"), (16, b":")];
    if separators.iter().any(|&(at, byte)| text.as_bytes().get(at..=at) != Some(byte)) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut millis = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let (value, after) = fraction.split_at_checked(digits).filter(|_| digits > 0)?;
        millis = format!("{value:0<3}").get(..3)?.parse().ok()?;
        rest = after;
    }
    let offset = match rest {
        "Z" | "z" => 0,
        _ => {
            let sign = match rest.as_bytes().first()? {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let (hours, minutes) = rest.get(1..)?.split_once(':')?;
            sign * (hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?)
        }
    };
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - offset;
    let total = (minutes * 60 + second) * 1000 + millis;
    u64::try_from(total).ok().map(WallTime)
}

/// The inverse of [`civil`], for years from 1 on.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Makes the ids of server messages: `<boot>-<n>`, unique over all clients and restarts.
#[derive(Debug)]
pub struct MessageIds {
    boot: String,
    next: Cell<u64>,
    /// What was sent with them, and what was not.
    pub tally: Tally,
}

/// Messages over the network.
#[derive(Debug, Default)]
pub struct Tally {
    pub sent: Counts,
    pub dropped: Counts,
}

/// Messages by type.
#[derive(Debug, Default)]
pub struct Counts(RefCell<Vec<(&'static str, u64)>>);

impl Counts {
    /// One more.
    pub fn add(&self, kind: &'static str) {
        let mut all = self.0.borrow_mut();
        match all.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => all.push((kind, 1)),
        }
    }

    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        self.0.borrow().clone()
    }
}

impl MessageIds {
    /// `boot`: eight random hexadecimal digits per start of the daemon.
    #[must_use]
    pub fn new(boot: String) -> Self {
        Self { boot, next: Cell::new(1), tally: Tally::default() }
    }

    #[must_use]
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// The number of the next message.
    pub fn take(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_utc_with_milliseconds() {
        assert_eq!(timestamp(WallTime(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(WallTime(1_768_487_425_123)), "2026-01-15T14:30:25.123Z");
        assert_eq!(timestamp(WallTime(951_782_400_000)), "2000-02-29T00:00:00.000Z");
    }

    #[test]
    fn a_date_of_http_names_day_and_month() {
        assert_eq!(http_date(WallTime(0)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(WallTime(1_768_487_425_123)), "Thu, 15 Jan 2026 14:30:25 GMT");
        assert_eq!(http_date(WallTime(951_782_399_000)), "Mon, 28 Feb 2000 23:59:59 GMT");
    }

    #[test]
    fn a_timestamp_reads_back() {
        for millis in (0..4_000_000_000_000).step_by(86_399_999_777 / 7) {
            assert_eq!(parse_timestamp(&timestamp(WallTime(millis))), Some(WallTime(millis)));
        }
        assert_eq!(
            parse_timestamp("2026-01-15T15:30:25.123+01:00"),
            Some(WallTime(1_768_487_425_123))
        );
        for text in
            ["", "2026", "2026-13-01T00:00:00Z", "2026-01-15T14:30:25", "x026-01-15T14:30:25Z"]
        {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }
}
