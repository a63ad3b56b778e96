//! Times and sizes: as people write them, and as people read them.
//!
//! Pure text. What is read here is exact (no floating point); what is written for people is
//! rounded, except by [`exact_duration`] and [`exact_bytes`], which read back as what they were.

use std::time::Duration;

/// Longer times are refused: about 2700 years, far from any overflow.
pub const MAX_DURATION: Duration = Duration::from_secs(1_000_000 * 86_400);

/// What a duration may look like, for error messages.
pub const DURATION_FORMS: &str = "500ms, 5s, 2m; a bare number is milliseconds";

/// What a size may look like, for error messages.
pub const SIZE_FORMS: &str = "100K, 100M, 1G; a bare number is bytes";

/// Largest first, as the parts of one duration must come; in nanoseconds.
const TIME_UNITS: [(&str, u128); 5] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];

/// Reads `500ms`, `10s`, `1.5s`, `5m`, `2h`, `1d`, `1m30s`, `2h 11m`; a bare number is
/// milliseconds. Rounded to whole milliseconds.
///
/// `None` for anything else: an unknown unit, a sign, units that do not descend, more than
/// [`MAX_DURATION`].
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return from_nanos(Decimal::read(&mut rest)?.times(1_000_000)?);
    }
    let mut total: u128 = 0;
    let mut allowed = &TIME_UNITS[..];
    while !rest.is_empty() {
        let number = Decimal::read(&mut rest)?;
        rest = rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (unit, after) = rest.split_at(end);
        let position = allowed.iter().position(|(name, _)| name.eq_ignore_ascii_case(unit))?;
        total = total.checked_add(number.times(allowed[position].1)?)?;
        allowed = &allowed[position + 1..];
        rest = after.trim_start();
    }
    from_nanos(total)
}

fn from_nanos(nanos: u128) -> Option<Duration> {
    let millis = nanos.checked_add(500_000)? / 1_000_000;
    let duration = Duration::from_millis(u64::try_from(millis).ok()?);
    (duration <= MAX_DURATION).then_some(duration)
}

/// Reads `4096`, `64B`, `100K`, `512MB`, `512MiB`, `1.5G`, `1T`, in any case; the factor is 1024.
///
/// `None` for anything else: an unknown unit, a sign, part of a byte, more than 2^63.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let number = Decimal::read(&mut rest)?;
    let unit = rest.trim_start().to_ascii_lowercase();
    let (prefix, suffix) = unit.split_at_checked(1).unwrap_or(("", ""));
    let factor: u128 = match (prefix, suffix) {
        ("" | "b", "") => 1,
        ("k", "" | "b" | "ib") => 1 << 10,
        ("m", "" | "b" | "ib") => 1 << 20,
        ("g", "" | "b" | "ib") => 1 << 30,
        ("t", "" | "b" | "ib") => 1 << 40,
        _ => return None,
    };
    if factor == 1 && number.fraction != 0 {
        return None;
    }
    u64::try_from(number.times(factor)?).ok().filter(|&size| size <= 1 << 63)
}

/// A number with up to nine decimals.
struct Decimal {
    whole: u128,
    /// In units of 10^-9.
    fraction: u128,
}

impl Decimal {
    const SCALE: u128 = 1_000_000_000;

    /// Takes a number from the front of `text`: digits, and perhaps a point and digits.
    fn read(text: &mut &str) -> Option<Self> {
        let whole = take_digits(text);
        if whole.is_empty() || whole.len() > 20 {
            return None;
        }
        let mut fraction = 0;
        if let Some(rest) = text.strip_prefix('.') {
            *text = rest;
            let digits = take_digits(text);
            if digits.is_empty() || digits.len() > 9 {
                return None;
            }
            fraction = format!("{digits:0<9}").parse().ok()?;
        }
        Some(Self { whole: whole.parse().ok()?, fraction })
    }

    fn times(&self, factor: u128) -> Option<u128> {
        let exact = self.whole.checked_mul(Self::SCALE)?.checked_add(self.fraction)?;
        Some(exact.checked_mul(factor)? / Self::SCALE)
    }
}

fn take_digits<'a>(text: &mut &'a str) -> &'a str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    digits
}

/// `1m30s`, `500ms`, `0ms`: reads back as the same whole milliseconds.
#[must_use]
pub fn exact_duration(duration: Duration) -> String {
    let mut nanos = duration.as_millis() * 1_000_000;
    if nanos == 0 {
        return "0ms".to_owned();
    }
    let mut text = String::new();
    for (name, unit) in TIME_UNITS {
        if nanos >= unit {
            text.push_str(&format!("{}{name}", nanos / unit));
            nanos %= unit;
        }
    }
    text
}

/// `10M`, `1G`, `1500`: the largest unit that divides it; reads back as the same number.
#[must_use]
pub fn exact_bytes(size: u64) -> String {
    for (name, factor) in [("T", 1u64 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)] {
        if size >= factor && size.is_multiple_of(factor) {
            return format!("{}{name}", size / factor);
        }
    }
    size.to_string()
}

/// With so many decimals, rounded. The formats of the library for floating point weigh 10 KB.
#[must_use]
pub fn decimal(value: f64, places: usize) -> String {
    let factor = (0..places).fold(1_u32, |factor, _| factor * 10);
    #[expect(clippy::cast_possible_truncation, reason = "the conversion saturates")]
    let parts = (value * f64::from(factor)).round() as i64;
    let sign = if parts < 0 { "-" } else { "" };
    let (parts, factor) = (parts.unsigned_abs(), u64::from(factor));
    match places {
        0 => format!("{sign}{parts}"),
        _ => format!("{sign}{}.{:0places$}", parts / factor, parts % factor),
    }
}

/// How long something has been so: `3s`, `12m`, `2h 11m`, `6d 2h`.
#[must_use]
pub fn uptime(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if minutes == 0 => format!("{seconds}s"),
        () if hours == 0 => format!("{minutes}m"),
        () if days == 0 => format!("{hours}h {}m", minutes % 60),
        () => format!("{days}d {}h", hours % 24),
    }
}

/// How long an action took: `0.4 s`, `1.0 s`, `75.2 s`.
#[must_use]
pub fn took(duration: Duration) -> String {
    let tenths = (duration.as_millis() + 50) / 100;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

/// A span of time in a sentence: `41 ms`, `1.6 s`, `3 s`, `69 s`, `12m`, `2h 11m`.
#[must_use]
pub fn span(duration: Duration) -> String {
    let millis = duration.as_millis();
    let tenths = (millis + 50) / 100;
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..9_950 if !tenths.is_multiple_of(10) => took(duration),
        1_000..120_000 => format!("{} s", (millis + 500) / 1_000),
        _ => uptime(duration),
    }
}

/// An amount of memory in a table: `48.1M`, `412M`, `1.9G`, `512B`; factor 1024, one decimal below
/// one hundred.
#[must_use]
pub fn memory(size: u64) -> String {
    if size < 1024 {
        return format!("{size}B");
    }
    let mut scaled = u128::from(size) * 10;
    for unit in ["K", "M", "G", "T"] {
        scaled = (scaled + 512) / 1024;
        if scaled < 1000 {
            return format!("{}.{}{unit}", scaled / 10, scaled % 10);
        }
        if scaled < 10_235 || unit == "T" {
            return format!("{}{unit}", (scaled + 5) / 10);
        }
    }
    format!("{size}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_rounded_as_the_library_does() {
        for value in [0.0, 0.04, 0.06, 0.1, 0.96, 0.995_1, 1.005_1, 99.96, 1234.567, -0.04, -2.26] {
            let expected = [format!("{value:.0}"), format!("{value:.1}"), format!("{value:.2}")];
            let expected = expected.map(|text| {
                if text.trim_matches(['-', '0', '.']).is_empty() {
                    text.replace('-', "")
                } else {
                    text
                }
            });
            assert_eq!([0, 1, 2].map(|places| decimal(value, places)), expected);
        }
        assert_eq!(decimal(f64::MAX, 0), i64::MAX.to_string());
    }

    #[test]
    fn durations_are_read_as_written_by_people() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1.5s", 1500),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1m30s", 90_000),
            ("2h 11m", 7_860_000),
            ("0.4 s", 400),
            ("1500", 1500),
            ("0", 0),
            (" 3S ", 3000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0.0004s", 0),
            ("0.0005s", 1),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "5x",
            "-5s",
            "5 parsecs",
            "s",
            "1s1m",
            "1s1s",
            "1m30",
            "1.",
            ".5s",
            "1..5s",
            "1e3s",
            "99999999999999999999d",
            "999999999999999999999",
            "1000001d",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_written_by_people() {
        for (text, size) in [
            ("4096", 4096),
            ("64B", 64),
            ("100K", 102_400),
            ("512M", 512 << 20),
            ("512MB", 512 << 20),
            ("512mib", 512 << 20),
            ("1.5G", 3 << 29),
            ("1T", 1 << 40),
        ] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for text in ["", "-1", "12X", "M", "1.5", "1.5B", "1KK", "1ib", "9999999T", "1 2"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn exact_forms_read_back_as_what_they_were() {
        let mut value: u64 = 1;
        for step in 0..200u64 {
            value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step | 1);
            let time = Duration::from_millis(value >> 24);
            assert_eq!(duration(&exact_duration(time)), Some(time));
            let size = value >> (step % 40 + 1);
            assert_eq!(bytes(&exact_bytes(size)), Some(size));
        }
        assert_eq!(duration(&exact_duration(Duration::ZERO)), Some(Duration::ZERO));
        assert_eq!(exact_duration(Duration::from_secs(90)), "1m30s");
        assert_eq!(exact_bytes(10 << 20), "10M");
    }

    #[test]
    fn what_people_read_is_short() {
        let seconds = Duration::from_secs;
        let millis = Duration::from_millis;
        assert_eq!(uptime(seconds(3)), "3s");
        assert_eq!(uptime(seconds(12 * 60 + 59)), "12m");
        assert_eq!(uptime(seconds(7_860)), "2h 11m");
        assert_eq!(uptime(seconds(6 * 86_400 + 7_300)), "6d 2h");
        assert_eq!(took(millis(412)), "0.4 s");
        assert_eq!(took(seconds(1)), "1.0 s");
        assert_eq!(span(millis(41)), "41 ms");
        assert_eq!(span(millis(1600)), "1.6 s");
        assert_eq!(span(seconds(3)), "3 s");
        assert_eq!(span(millis(2990)), "3 s");
        assert_eq!(span(seconds(69)), "69 s");
        assert_eq!(span(seconds(720)), "12m");
        assert_eq!(memory(512), "512B");
        assert_eq!(memory(50_436_506), "48.1M");
        assert_eq!(memory(62 << 20), "62.0M");
        assert_eq!(memory(412 << 20), "412M");
        assert_eq!(memory(2_040_109_466), "1.9G");
        assert_eq!(memory((1 << 20) - 1), "1.0M");
        assert_eq!(memory(u64::MAX), "16777216T");
    }
}
