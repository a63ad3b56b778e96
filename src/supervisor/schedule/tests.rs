use super::*;

/// Seconds since 1970 of a date and a time, as if clocks were never changed.
fn at(text: &str) -> u64 {
    let numbers: Vec<u64> = text.split(['-', ' ', ':']).map(|it| it.parse().unwrap()).collect();
    let &[year, month, day, hour, minute, second] = &numbers[..] else { panic!("{text}") };
    let days = (0..200_000).find(|&days| civil(days) == (year, month, day)).unwrap();
    days * DAY + hour * HOUR + minute * MINUTE + second
}

fn shown(seconds: u64) -> String {
    let (year, month, day) = civil(seconds / DAY);
    let time = seconds % DAY;
    let (hour, minute, second) = (time / HOUR, time / MINUTE % 60, time % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The next times as the clocks of a zone show them.
fn runs(schedule: &str, after: &str, zone: Zone, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(schedule).unwrap();
    let after = at(after);
    let offset = |utc: u64| (zone.0)(utc).unsigned_abs();
    let mut now = WallTime((after - offset(after - offset(after))) * 1000);
    let mut found = Vec::new();
    for _ in 0..count {
        let next = schedule.next(now, zone).unwrap();
        assert!(next.0 > now.0, "{schedule:?} goes back");
        now = next;
        let utc = now.0 / 1000;
        found.push(shown(utc.saturating_add_signed((zone.0)(utc))));
    }
    found
}

fn utc(schedule: &str, after: &str, count: usize) -> Vec<String> {
    runs(schedule, after, Zone::default(), count)
}

/// Central Europe in 2026: an hour forward at 1:00 UTC on 29 March, back on 25 October.
const BERLIN: Zone = Zone(|utc| {
    let summer = 1_774_746_000..1_792_890_000;
    if summer.contains(&utc) { 7200 } else { 3600 }
});

/// A place whose clocks are changed by half an hour, as on Lord Howe Island.
const HALF: Zone =
    Zone(|utc| if (1_774_746_000..1_792_890_000).contains(&utc) { 5400 } else { 3600 });

#[test]
fn five_fields_begin_with_the_minute_and_six_with_the_second() {
    assert_eq!(
        utc("30 2 * * *", "2026-01-15 12:00:00", 2),
        ["2026-01-16 02:30:00", "2026-01-17 02:30:00"]
    );
    assert_eq!(
        utc("15 30 2 * * *", "2026-01-15 02:30:14", 2),
        ["2026-01-15 02:30:15", "2026-01-16 02:30:15"]
    );
    // Not the time itself, and no second is skipped.
    assert_eq!(
        utc("* * * * * *", "2026-12-31 23:59:58", 3),
        ["2026-12-31 23:59:59", "2027-01-01 00:00:00", "2027-01-01 00:00:01"]
    );
}

#[test]
fn lists_ranges_steps_and_names_mean_what_crontab_says() {
    for (schedule, after, next) in [
        ("*/15 * * * *", "2026-01-15 12:15:00", "2026-01-15 12:30:00"),
        ("5/20 * * * *", "2026-01-15 12:26:00", "2026-01-15 12:45:00"),
        ("0 9-17/4 * * *", "2026-01-15 13:00:00", "2026-01-15 17:00:00"),
        ("0 0 1,15 * *", "2026-01-02 00:00:00", "2026-01-15 00:00:00"),
        ("0 0 * feb,DEC *", "2026-03-01 00:00:00", "2026-12-01 00:00:00"),
        ("0 2 * * mon-fri", "2026-01-16 12:00:00", "2026-01-19 02:00:00"),
        ("0 2 * * 7", "2026-01-16 12:00:00", "2026-01-18 02:00:00"),
        ("0 2 * * sat-sun", "2026-01-17 12:00:00", "2026-01-18 02:00:00"),
        ("0 2 ? * ?", "2026-01-16 12:00:00", "2026-01-17 02:00:00"),
        ("0 0 31 * *", "2026-02-01 00:00:00", "2026-03-31 00:00:00"),
        ("0 0 29 2 *", "2026-03-01 00:00:00", "2028-02-29 00:00:00"),
        ("0 0 29 feb *", "2097-01-01 00:00:00", "2104-02-29 00:00:00"),
        ("59 59 23 31 12 *", "2026-12-31 23:59:59", "2027-12-31 23:59:59"),
        ("@hourly", "2026-01-15 12:00:00", "2026-01-15 13:00:00"),
        ("@Daily", "2026-01-15 12:00:00", "2026-01-16 00:00:00"),
        ("@weekly", "2026-01-15 12:00:00", "2026-01-18 00:00:00"),
        ("@monthly", "2026-01-15 12:00:00", "2026-02-01 00:00:00"),
        ("@yearly", "2026-01-15 12:00:00", "2027-01-01 00:00:00"),
    ] {
        assert_eq!(utc(schedule, after, 1), [next], "{schedule}");
    }
}

#[test]
fn of_two_restricted_day_fields_one_is_enough() {
    assert_eq!(
        utc("0 0 13 * fri", "2026-01-10 12:00:00", 3),
        ["2026-01-13 00:00:00", "2026-01-16 00:00:00", "2026-01-23 00:00:00"]
    );
    // One that begins with a star restricts the other.
    assert_eq!(utc("0 0 */2 * mon", "2026-01-05 12:00:00", 1), ["2026-01-19 00:00:00"]);
}

#[test]
fn what_is_no_schedule_is_refused_with_the_field_that_is_wrong() {
    for (text, reason) in [
        ("", "0 fields, expected 5 or 6"),
        ("*", "1 field, expected 5 or 6"),
        ("* * * *", "4 fields, expected 5 or 6"),
        ("* * * * * * *", "7 fields, expected 5 or 6"),
        ("60 * * * *", "'60' is no minute: 0 to 59, ranges (a-b) and steps (*/n)"),
        ("60 * * * * *", "'60' is no second: 0 to 59, ranges (a-b) and steps (*/n)"),
        ("0 24 * * *", "'24' is no hour: 0 to 23, ranges (a-b) and steps (*/n)"),
        ("0 0 0 * *", "'0' is no day of month: 1 to 31, ranges (a-b) and steps (*/n)"),
        ("0 0 * 13 *", "'13' is no month: 1 to 12, ranges (a-b) and steps (*/n)"),
        ("0 0 * * 8", "'8' is no day of week: 0 to 7, ranges (a-b) and steps (*/n)"),
        ("0 0 30 2 *", "there is no such day"),
        ("0 0 31 4,6 *", "there is no such day"),
        ("@reboot", "the words are @hourly, @daily, @weekly, @monthly, @yearly"),
    ] {
        assert_eq!(Schedule::parse(text).unwrap_err(), reason, "{text}");
    }
    for item in [
        "x",
        "-",
        "1-",
        "-1",
        "5-1",
        "*/0",
        "*/",
        "/",
        "*/x",
        "1/2/3",
        "1-2-3",
        ",",
        "1,",
        "+1",
        "0001",
        "1.5",
        "**",
        "99999999999999999999",
        "m\u{fc}",
        "*-5",
    ] {
        assert!(Schedule::parse(&format!("{item} * * * *")).is_err(), "{item}");
    }
    assert!(Schedule::parse(&"0,".repeat(200)).unwrap_err().starts_with("longer than"));
}

#[test]
fn what_falls_into_the_missing_hour_happens_when_it_is_over() {
    assert_eq!(
        runs("30 2 * * *", "2026-03-28 12:00:00", BERLIN, 2),
        ["2026-03-29 03:00:00", "2026-03-30 02:30:00"]
    );
    // The times around it are as ever.
    assert_eq!(
        runs("0 1-4 * * *", "2026-03-29 00:30:00", BERLIN, 3),
        ["2026-03-29 01:00:00", "2026-03-29 03:00:00", "2026-03-29 04:00:00"]
    );
    assert_eq!(runs("15 2 * * *", "2026-03-28 12:00:00", HALF, 1), ["2026-03-29 02:30:00"]);
    assert_eq!(runs("45 2 * * *", "2026-03-28 12:00:00", HALF, 1), ["2026-03-29 02:45:00"]);
}

#[test]
fn what_falls_into_the_doubled_hour_happens_once() {
    assert_eq!(
        runs("30 2 * * *", "2026-10-24 12:00:00", BERLIN, 2),
        ["2026-10-25 02:30:00", "2026-10-26 02:30:00"]
    );
    let schedule = Schedule::parse("30 2 * * *").unwrap();
    let next = |after| schedule.next(WallTime(after * 1000), BERLIN).unwrap().0 / 1000;
    let first = 1_792_890_000 - 1800;
    assert_eq!(next(first - 1), first);
    // Also for who looks only when the hour has come again.
    assert_eq!(next(1_792_890_000 + 60), first + 25 * HOUR);
    // Every second of it at first, none the second time.
    let seconds = Schedule::parse("* * 2 * * *").unwrap();
    let end = seconds.next(WallTime((1_792_890_000 - 1) * 1000), BERLIN).unwrap().0 / 1000;
    assert_eq!(end, 1_792_890_000 + HOUR + 23 * HOUR);
}

#[test]
fn schedules_of_every_hour_follow_the_clock() {
    assert_eq!(
        runs("30 * * * *", "2026-10-25 00:45:00", BERLIN, 4),
        [
            "2026-10-25 01:30:00",
            "2026-10-25 02:30:00",
            "2026-10-25 02:30:00",
            "2026-10-25 03:30:00"
        ]
    );
    assert_eq!(
        runs("30 * * * *", "2026-03-29 01:00:00", BERLIN, 2),
        ["2026-03-29 01:30:00", "2026-03-29 03:30:00"]
    );
}

fn pick(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

/// Against the plainest way to find it: one second after the other.
#[test]
fn the_next_time_is_the_first_that_fits() {
    let zones = [Zone::default(), BERLIN, HALF];
    let mut seed = 1_u64;
    let mut below = |limit: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % limit
    };
    for _ in 0..200 {
        let text = format!("{} {} {} * * *", below(60), below(60), ["*", "*/2,1"][pick(below(2))]);
        let schedule = Schedule::parse(&text).unwrap();
        let every = schedule.is_of_every_hour();
        let zone = zones[pick(below(3))];
        let middle = [1_774_746_000, 1_792_890_000][pick(below(2))];
        let after = middle - 2 * HOUR + below(4 * HOUR);
        let found = schedule.next(WallTime(after * 1000), zone).unwrap().0 / 1000;
        let local = |utc: u64| utc.saturating_add_signed((zone.0)(utc));
        let is_again = |utc: u64| (1..=HOUR).any(|step| local(utc - step) == local(utc));
        let fits = |utc: u64| schedule.time_from(local(utc) % DAY) == Some(local(utc) % DAY);
        let first = (after + 1..)
            .find(|&utc| {
                let skipped = local(utc).saturating_sub(local(utc - 1));
                let in_gap = skipped > 1
                    && !every
                    && (1..skipped).any(|back| {
                        let time = (local(utc) - back) % DAY;
                        schedule.time_from(time) == Some(time)
                    });
                in_gap || (fits(utc) && (every || !is_again(utc)))
            })
            .unwrap();
        assert_eq!(found, first, "{text} after {after}");
    }
}
