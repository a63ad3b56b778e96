//! When something is to happen, as `crontab(5)` writes it, and when that is next.
//!
//! Five fields (minute, hour, day of month, month, day of week) or six (seconds first), or one of
//! the words `@hourly`, `@daily` and so on. A field is a list of `*`, numbers, names, ranges and
//! steps. Where both day fields are restricted (neither begins with `*`), a day that fits one of
//! them will do.
//!
//! Times are those of the host's zone, which comes in as a function ([`Zone`]). Where its clocks go
//! forward, what falls into the hour that does not exist happens when that is over; where they go
//! back, what falls into the hour that comes twice happens the first time. Schedules of every hour
//! follow the clock instead: nothing in the one, twice in the other.

use serde_json::Value;

use crate::base::{WallTime, civil};
use crate::supervisor::spec::{Datum, Plain};

/// A longer text is refused, in bytes.
const MAX_TEXT: usize = 256;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// No day that exists is rarer than the 29th of February around the year 2100.
const FARTHEST: u64 = 9 * 366;

/// Clocks are not put back by more than this.
const LONGEST_STEP: u64 = 3 * HOUR;

/// Clocks that were changed more often than this on the way to the next time are not followed.
const MAX_CHANGES: u32 = 64;

/// How far the clocks of a place are ahead of UTC, in seconds, at so many seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Zone(pub fn(u64) -> i64);

impl Default for Zone {
    /// UTC.
    fn default() -> Self {
        Self(|_| 0)
    }
}

/// One field of a schedule.
struct Part {
    name: &'static str,
    least: u32,
    most: u32,
    /// The names of its values, from the least on; three letters each.
    words: &'static str,
}

const PARTS: [Part; 6] = [
    Part { name: "second", least: 0, most: 59, words: "" },
    Part { name: "minute", least: 0, most: 59, words: "" },
    Part { name: "hour", least: 0, most: 23, words: "" },
    Part { name: "day of month", least: 1, most: 31, words: "" },
    Part { name: "month", least: 1, most: 12, words: "janfebmaraprmayjunjulaugsepoctnovdec" },
    // Sunday is 0 and 7.
    Part { name: "day of week", least: 0, most: 7, words: "sunmontuewedthufrisat" },
];

const WORDS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// Times at which something is to happen. There always is a next one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Schedule {
    /// As it was written.
    text: Box<str>,
    /// Of each field the values that fit, as bits.
    fits: [u64; 6],
    /// A day may fit only one of the two day fields.
    either: bool,
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    ///
    /// What is wrong, to follow `is not a schedule:`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() > MAX_TEXT {
            return Err(format!("longer than {MAX_TEXT} bytes"));
        }
        let mut plain = text;
        if text.starts_with('@') {
            let known = WORDS.iter().find(|(word, _)| text.eq_ignore_ascii_case(word));
            let Some((_, meaning)) = known else {
                return Err("the words are @hourly, @daily, @weekly, @monthly, @yearly".to_owned());
            };
            plain = meaning;
        }
        let fields: Vec<&str> = plain.split_ascii_whitespace().collect();
        let missing = match fields.len() {
            5 => 1,
            6 => 0,
            1 => return Err("1 field, expected 5 or 6".to_owned()),
            count => return Err(format!("{count} fields, expected 5 or 6")),
        };
        let mut fits = [1; 6];
        for (at, field) in fields.iter().enumerate() {
            fits[at + missing] = PARTS[at + missing].read(field)?;
        }
        fits[5] |= fits[5] >> 7;
        let is_open = |at: usize| fields.get(at).is_some_and(|it| it.starts_with(['*', '?']));
        let either = !is_open(3 - missing) && !is_open(5 - missing);
        let schedule = Self { text: text.into(), fits, either };
        match schedule.first_from(0) {
            Some(_) => Ok(schedule),
            None => Err("there is no such day".to_owned()),
        }
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first time after `after`, in whole seconds. `None`: beyond what clocks can show.
    #[must_use]
    pub fn next(&self, after: WallTime, zone: Zone) -> Option<WallTime> {
        let mut from = after.0 / 1000 + 1;
        for _ in 0..MAX_CHANGES {
            let offset = (zone.0)(from);
            let local = self.first_from(from.saturating_add_signed(offset))?;
            let found = local.saturating_add_signed(-offset);
            if (zone.0)(found) != offset {
                // The clocks are changed before that.
                let change = change_after(from, found, zone);
                let is_gone = local < change.saturating_add_signed((zone.0)(change));
                if is_gone && !self.is_of_every_hour() {
                    return Some(WallTime(change * 1000));
                }
                from = change;
                continue;
            }
            match second_time_until(found, offset, zone) {
                Some(until) if !self.is_of_every_hour() => from = until,
                Some(_) | None => return Some(WallTime(found * 1000)),
            }
        }
        None
    }

    fn is_of_every_hour(&self) -> bool {
        self.fits[2] == bits(0, 23, 1)
    }

    /// The first time that fits, not before `local`; both are what clocks show, as if that were UTC.
    fn first_from(&self, local: u64) -> Option<u64> {
        let today = local / DAY;
        (today..today + FARTHEST).filter(|&day| self.fits_day(day)).find_map(|day| {
            let from = if day == today { local % DAY } else { 0 };
            self.time_from(from).map(|time| day * DAY + time)
        })
    }

    fn fits_day(&self, day: u64) -> bool {
        let (_, month, of_month) = civil(day);
        let of_month = has(self.fits[3], of_month);
        // The first of January 1970 was a Thursday.
        let of_week = has(self.fits[5], (day + 4) % 7);
        let fits = if self.either { of_month || of_week } else { of_month && of_week };
        fits && has(self.fits[4], month)
    }

    /// The first second of a day that fits, from this one on.
    fn time_from(&self, from: u64) -> Option<u64> {
        let [seconds, minutes, hours, ..] = self.fits;
        let (hour, minute, second) = (from / HOUR, from / MINUTE % 60, from % 60);
        let at = |hour, minute, second| Some(hour * HOUR + minute * MINUTE + second);
        if has(hours, hour) {
            if let Some(second) = least(seconds, second).filter(|_| has(minutes, minute)) {
                return at(hour, minute, second);
            }
            if let Some(minute) = least(minutes, minute + 1) {
                return at(hour, minute, least(seconds, 0)?);
            }
        }
        at(least(hours, hour + 1)?, least(minutes, 0)?, least(seconds, 0)?)
    }
}

impl Plain for Schedule {
    fn show(&self) -> Datum<'_> {
        Datum::Text(&self.text)
    }

    fn read(value: &Value) -> Option<Self> {
        Self::parse(value.as_str()?).ok()
    }
}

impl Part {
    /// The values that a field names, as bits.
    fn read(&self, field: &str) -> Result<u64, String> {
        let mut all = 0;
        for item in field.split(',') {
            all |= self.item(item).ok_or_else(|| {
                let Self { name, least, most, .. } = self;
                format!("'{item}' is no {name}: {least} to {most}, ranges (a-b) and steps (*/n)")
            })?;
        }
        Ok(all)
    }

    fn item(&self, item: &str) -> Option<u64> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(number(step).filter(|&step| step > 0)?)),
            None => (item, None),
        };
        let (least, most) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (self.least, self.most),
            Some((least, most)) => {
                let (least, most) = (self.value(least)?, self.value(most)?);
                // A week may end with its Sunday.
                (least, if most == 0 && least > 0 && self.most == 7 { 7 } else { most })
            }
            None => {
                let value = self.value(range)?;
                (value, if step.is_some() { self.most } else { value })
            }
        };
        (least <= most).then(|| bits(least, most, step.unwrap_or(1)))
    }

    fn value(&self, text: &str) -> Option<u32> {
        if let Some(number) = number(text) {
            return (self.least..=self.most).contains(&number).then_some(number);
        }
        let words = self.words.as_bytes().chunks(3);
        let at = words.into_iter().position(|word| text.as_bytes().eq_ignore_ascii_case(word))?;
        u32::try_from(at).ok().map(|at| at + self.least)
    }
}

/// At most three digits, and nothing else.
fn number(text: &str) -> Option<u32> {
    let is_plain = text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

fn bits(least: u32, most: u32, step: u32) -> u64 {
    let mut bits = 0;
    let mut value = least;
    while value <= most {
        bits |= 1 << value;
        value += step;
    }
    bits
}

fn has(bits: u64, value: u64) -> bool {
    bits >> value & 1 == 1
}

/// The least value in `bits` that is not below `from`, which is at most 63.
fn least(bits: u64, from: u64) -> Option<u64> {
    let rest = bits >> from;
    (rest != 0).then(|| from + u64::from(rest.trailing_zeros()))
}

/// The first second with another offset than that of `from`; at `to` it is another.
fn change_after(from: u64, to: u64, zone: Zone) -> u64 {
    let offset = (zone.0)(from);
    let (mut before, mut after) = (from, to);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if (zone.0)(middle) == offset { before = middle } else { after = middle }
    }
    after
}

/// Where clocks show what they show at `at` for the second time: until when they repeat themselves.
fn second_time_until(at: u64, offset: i64, zone: Zone) -> Option<u64> {
    let before = (zone.0)(at.saturating_sub(LONGEST_STEP));
    let step = u64::try_from(before - offset).ok().filter(|&step| step > 0)?;
    let first = at.checked_sub(step)?;
    ((zone.0)(first) == before).then(|| change_after(first, at, zone) + step)
}

#[cfg(test)]
mod tests;
