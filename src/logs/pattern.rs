//! Dates as day.js patterns write them, compiled once.
//!
//! `YYYY YY MM M DD D HH H hh h mm m ss s SSS A a Z ZZ X x` and `[literal]`; everything else stands
//! for itself.
//!
//! Source: day.js 1.11, `format`: the longest run of one letter is one token.

use std::fmt;
use std::io::Write;
use std::rc::Rc;

use crate::base::WallTime;
use crate::sys::clock::{LocalTime, local};

/// A compiled pattern; clones share it.
#[derive(Clone, Eq, PartialEq)]
pub struct DatePattern(Rc<[Token]>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Literal(Box<str>),
    Year4,
    Year2,
    Month(Width),
    Day(Width),
    Hour24(Width),
    Hour12(Width),
    Minute(Width),
    Second(Width),
    Millis,
    HalfUpper,
    HalfLower,
    Offset { colon: bool },
    UnixSeconds,
    UnixMillis,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Width {
    Bare,
    Padded,
}

impl DatePattern {
    /// Reads a pattern. Never fails: what is no token stands for itself. The second part names
    /// the first run of letters that day.js or its plugins would have replaced and pmd does not.
    #[must_use]
    pub fn compile(pattern: &str) -> (Self, Option<String>) {
        let mut tokens = Vec::new();
        let mut literal = String::new();
        let mut unsupported = None;
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            if let Some((quoted, after)) = bracketed(rest) {
                literal.push_str(quoted);
                rest = after;
                continue;
            }
            let run = run_of(rest, first);
            rest = &rest[run.len()..];
            if let Some(token) = token(run) {
                if !literal.is_empty() {
                    tokens.push(Token::Literal(std::mem::take(&mut literal).into()));
                }
                tokens.push(token);
                continue;
            }
            // The `T` between date and time is everybody's habit and stands for itself in day.js.
            if first.is_ascii_alphabetic() && run != "T" {
                unsupported.get_or_insert_with(|| run.to_owned());
            }
            literal.push_str(run);
        }
        if !literal.is_empty() {
            tokens.push(Token::Literal(literal.into()));
        }
        (Self(tokens.into()), unsupported)
    }

    /// Appends the date of `at` in the local time zone.
    pub fn write(&self, at: WallTime, out: &mut Vec<u8>) {
        self.write_local(at, &local(at), out);
    }

    fn write_local(&self, at: WallTime, moment: &LocalTime, out: &mut Vec<u8>) {
        for token in self.0.iter() {
            // Writing to a vector cannot fail.
            drop(token.write(at, moment, out));
        }
    }
}

impl fmt::Debug for DatePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatePattern").field(&self.0.len()).finish()
    }
}

/// Appends `at` as RFC 3339 with milliseconds and the local offset.
pub fn write_rfc3339(at: WallTime, out: &mut Vec<u8>) {
    write_rfc3339_local(at, &local(at), out);
}

fn write_rfc3339_local(at: WallTime, m: &LocalTime, out: &mut Vec<u8>) {
    drop(write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}",
        m.year,
        m.month,
        m.day,
        m.hour,
        m.minute,
        m.second,
        at.0 % 1000
    ));
    drop(write_offset(m.offset_minutes, true, out));
}

/// `[text]` at the start of `rest`: the text and what follows.
fn bracketed(rest: &str) -> Option<(&str, &str)> {
    let (quoted, after) = rest.strip_prefix('[')?.split_once(']')?;
    (!quoted.is_empty()).then_some((quoted, after))
}

/// The longest run of `first` that day.js would take as one token.
fn run_of(rest: &str, first: char) -> &str {
    let longest = match first {
        'Y' | 'M' | 'd' => 4,
        'D' | 'H' | 'h' | 'm' | 's' | 'Z' => 2,
        'S' => 3,
        _ => 1,
    };
    let count = rest.chars().take(longest).take_while(|&c| c == first).count();
    &rest[..count * first.len_utf8()]
}

fn token(run: &str) -> Option<Token> {
    use Width::{Bare, Padded};
    Some(match run {
        "YYYY" => Token::Year4,
        "YY" => Token::Year2,
        "MM" => Token::Month(Padded),
        "M" => Token::Month(Bare),
        "DD" => Token::Day(Padded),
        "D" => Token::Day(Bare),
        "HH" => Token::Hour24(Padded),
        "H" => Token::Hour24(Bare),
        "hh" => Token::Hour12(Padded),
        "h" => Token::Hour12(Bare),
        "mm" => Token::Minute(Padded),
        "m" => Token::Minute(Bare),
        "ss" => Token::Second(Padded),
        "s" => Token::Second(Bare),
        "SSS" => Token::Millis,
        "A" => Token::HalfUpper,
        "a" => Token::HalfLower,
        "Z" => Token::Offset { colon: true },
        "ZZ" => Token::Offset { colon: false },
        "X" => Token::UnixSeconds,
        "x" => Token::UnixMillis,
        _ => return None,
    })
}

impl Token {
    fn write(&self, at: WallTime, m: &LocalTime, out: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Self::Literal(text) => out.write_all(text.as_bytes()),
            Self::Year4 => write!(out, "{:04}", m.year),
            Self::Year2 => write!(out, "{:02}", m.year.rem_euclid(100)),
            Self::Month(width) => width.write(m.month, out),
            Self::Day(width) => width.write(m.day, out),
            Self::Hour24(width) => width.write(m.hour, out),
            Self::Hour12(width) => width.write((m.hour + 11) % 12 + 1, out),
            Self::Minute(width) => width.write(m.minute, out),
            Self::Second(width) => width.write(m.second, out),
            Self::Millis => write!(out, "{:03}", at.0 % 1000),
            Self::HalfUpper => out.write_all(if m.hour < 12 { b"AM" } else { b"PM" }),
            Self::HalfLower => out.write_all(if m.hour < 12 { b"am" } else { b"pm" }),
            Self::Offset { colon } => write_offset(m.offset_minutes, *colon, out),
            Self::UnixSeconds => write!(out, "{}", at.0 / 1000),
            Self::UnixMillis => write!(out, "{}", at.0),
        }
    }
}

impl Width {
    fn write(self, number: u8, out: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Self::Bare => write!(out, "{number}"),
            Self::Padded => write!(out, "{number:02}"),
        }
    }
}

/// `+05:30` or `+0530` from minutes east of Greenwich.
fn write_offset(east: i32, colon: bool, out: &mut Vec<u8>) -> std::io::Result<()> {
    let sign = if east < 0 { '-' } else { '+' };
    let minutes = east.unsigned_abs();
    let between = if colon { ":" } else { "" };
    write!(out, "{sign}{:02}{between}{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-03-09 15:04:05.678 in India.
    const AT: WallTime = WallTime(1_709_976_845_678);
    const MOMENT: LocalTime = LocalTime {
        year: 2024,
        month: 3,
        day: 9,
        hour: 15,
        minute: 4,
        second: 5,
        millisecond: 678,
        weekday: 6,
        day_of_year: 68,
        offset_minutes: 330,
    };

    fn written(pattern: &str, moment: &LocalTime) -> String {
        let mut out = Vec::new();
        DatePattern::compile(pattern).0.write_local(AT, moment, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_token_is_written_as_day_js_does() {
        let cases = [
            ("YYYY YY MM M DD D", "2024 24 03 3 09 9"),
            ("HH H hh h mm m ss s SSS", "15 15 03 3 04 4 05 5 678"),
            ("A a Z ZZ", "PM pm +05:30 +0530"),
            ("X x", "1709976845 1709976845678"),
            ("YYYY-MM-DDTHH:mm:ss", "2024-03-09T15:04:05"),
            ("[YYYY at] HH", "YYYY at 15"),
            ("YYYYMMDDHHmmss", "20240309150405"),
            ("[] [x", "[] [1709976845678"),
            ("", ""),
        ];
        for (pattern, expected) in cases {
            assert_eq!(written(pattern, &MOMENT), expected, "{pattern}");
        }
    }

    #[test]
    fn midnight_and_noon_are_twelve() {
        let at = |hour| written("h A", &LocalTime { hour, ..MOMENT });
        assert_eq!([at(0), at(12), at(1), at(23)], ["12 AM", "12 PM", "1 AM", "11 PM"]);
    }

    #[test]
    fn an_hour_that_comes_twice_differs_in_its_offset() {
        let summer = LocalTime { hour: 2, minute: 30, offset_minutes: 120, ..MOMENT };
        let winter = LocalTime { hour: 2, minute: 30, offset_minutes: 60, ..MOMENT };
        assert_eq!(written("HH:mm Z", &summer), "02:30 +02:00");
        assert_eq!(written("HH:mm Z", &winter), "02:30 +01:00");
        assert_eq!(written("ZZ", &LocalTime { offset_minutes: -210, ..MOMENT }), "-0330");
    }

    #[test]
    fn what_is_not_supported_is_named_and_stands_for_itself() {
        let unsupported = |pattern| DatePattern::compile(pattern).1;
        assert_eq!(unsupported("YYYY-MM-DDTHH:mm:ss.SSSZ"), None);
        assert_eq!(unsupported("MMM D").as_deref(), Some("MMM"));
        assert_eq!(unsupported("dddd").as_deref(), Some("dddd"));
        assert_eq!(unsupported("Do").as_deref(), Some("o"));
        assert_eq!(unsupported("[Week] w").as_deref(), Some("w"));
        assert_eq!(written("MMM D", &MOMENT), "MMM 9");
    }

    #[test]
    fn a_time_stamp_is_rfc_3339() {
        let mut out = Vec::new();
        write_rfc3339_local(AT, &MOMENT, &mut out);
        assert_eq!(out, b"2024-03-09T15:04:05.678+05:30");
    }
}
