//! Figures and times as an operator reads them.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr};

use jiff::{RoundMode, SignedDuration, SignedDurationRound, Timestamp, Unit, tz::TimeZone};

use crate::process::{PortHolder, PortMaker};

/// A date and time, UTC, to the second.
#[must_use]
pub fn time(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%F %T").to_string()
}

/// A date and time, without the date when it is that of `from`.
#[must_use]
pub fn time_after(from: Timestamp, time: Timestamp) -> String {
    let [from, time] = [from, time].map(|time| time.to_zoned(TimeZone::UTC));
    time.strftime(if from.date() == time.date() { "%T" } else { "%F %T" }).to_string()
}

/// Since when, or from when to when. `before` is whether it was so already at `since`, when tracker looked first.
#[must_use]
pub fn period(since: Timestamp, before: bool, until: Option<Timestamp>) -> String {
    match (until, before) {
        (None, false) => format!("since {} UTC", time(since)),
        (None, true) => format!("since before tracker started ({} UTC)", time(since)),
        (Some(until), false) => format!("from {} to {} UTC", time(since), time_after(since, until)),
        (Some(until), true) => {
            format!("from before tracker started ({}) to {} UTC", time(since), time_after(since, until))
        }
    }
}

/// A figure as it is read: small ones with a digit after the point, others whole and grouped.
#[must_use]
pub fn number(value: f64) -> String {
    if value < 10.0 && (value - value.round()).abs() > 0.05 { format!("{value:.1}") } else { whole(value) }
}

/// A count with its digits in groups of three: `1,234,567`.
#[must_use]
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Names that are listed when there are many.
const LISTED: usize = 8;

/// The first of some names, and how many more there are.
#[must_use]
pub fn listed(names: &[&str]) -> String {
    match names.len().saturating_sub(LISTED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..LISTED].join(", ")),
    }
}

/// What stands for a value that is not known.
pub const UNKNOWN: &str = "-";

/// The text of a value that may be unknown.
pub fn or_unknown<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), text)
}

/// A count that may be unknown.
#[must_use]
pub fn known(count: Option<impl Into<u64>>) -> String {
    or_unknown(count, |count| grouped(count.into()))
}

/// A rate: with one decimal while that says something.
#[must_use]
pub fn rate(per_second: f64) -> String {
    if per_second == 0.0 {
        "0".to_owned()
    } else if per_second < 99.95 {
        format!("{per_second:.1}")
    } else {
        whole(per_second)
    }
}

/// A count that is estimated, without decimals.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate or a count is positive and finite")]
#[must_use]
pub fn whole(number: f64) -> String {
    grouped(number.round() as u64)
}

/// A stretch of time in whole units of one kind, rounded down: `40 s`, `4 min`, `3 h`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a figure to be read")]
#[must_use]
pub fn span(seconds: f64) -> String {
    match seconds.max(0.0) as u64 {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", grouped(seconds / 3_600)),
    }
}

/// A count and its noun: `1 port`, `1,200 ports`.
#[must_use]
pub fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// Longest time that is shown, seconds.
const MAX_SECONDS: f64 = 1e9;

/// A growth per second: an estimate, with its sign.
#[must_use]
pub fn growth(per_second: f64) -> String {
    if per_second.abs() < 0.05 { "~0".to_owned() } else { format!("~{per_second:+.1}") }
}

/// A length of time, in two units at most: 2h 5m.
#[must_use]
pub fn length(time: SignedDuration) -> String {
    let unit = match time.as_secs() {
        ..60 => Unit::Second,
        60..86_400 => Unit::Minute,
        _ => Unit::Hour,
    };
    let rounded = time.round(SignedDurationRound::new().smallest(unit).mode(RoundMode::Trunc)).unwrap_or(time);
    let (days, rest) = (rounded.as_hours() / 24, rounded - SignedDuration::from_hours(rounded.as_hours() / 24 * 24));
    match (days, rest.is_zero()) {
        (0, _) => format!("{rest:#}"),
        (days, true) => format!("{days}d"),
        (days, false) => format!("{days}d {rest:#}"),
    }
}

/// A length of time that is to come, or a bound: to the tenth of a second while it is short, to the second while that
/// matters.
#[must_use]
pub fn until(seconds: f64) -> String {
    let time = SignedDuration::from_secs_f64(seconds.clamp(0.0, MAX_SECONDS));
    match time.as_secs() {
        ..10 => format!("{seconds:.1}s"),
        whole @ 60..600 if whole % 60 > 0 => format!("{}m {}s", whole / 60, whole % 60),
        _ => length(time),
    }
}

/// When something is used up, an estimate, given the share that is: it may be so already.
#[must_use]
pub fn full_in(seconds: f64, share: f64) -> String {
    if share >= 1.0 { "now".to_owned() } else { format!("~{}", until(seconds)) }
}

/// A share of something that can be used up: 100 only when nothing is left, 0 only when nothing is used.
#[must_use]
pub fn used(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "0".to_owned(),
        ..0.1 => "<0.1".to_owned(),
        ..9.95 => format!("{percent:.1}"),
        ..100.0 => format!("{:.0}", percent.min(99.0)),
        _ => "100".to_owned(),
    }
}

/// How long ago something was.
#[must_use]
pub fn ago(time: Timestamp, now: Timestamp) -> String {
    format!("{} ago", length(now.duration_since(time).max(SignedDuration::ZERO)))
}

/// A share, in percent: with one decimal while it is small.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 || percent >= 9.95 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

/// A process. What it calls itself is not safe to print, see [`printable`].
#[must_use]
pub fn process(pid: u32, comm: &str) -> String {
    format!("{comm}({pid})")
}

/// Address and port, as they are written in a URL.
#[must_use]
pub fn address_port(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// Address, device and port of a listener, as ss(8) writes them: `0.0.0.0%eth0:80`, `[::]%eth0:80`.
#[must_use]
pub fn listener_place(address: IpAddr, device: Option<&str>, port: u16) -> String {
    let device = device.map_or_else(String::new, |device| format!("%{}", printable(device)));
    match address {
        IpAddr::V4(address) => format!("{address}{device}:{port}"),
        IpAddr::V6(address) => format!("[{address}]{device}:{port}"),
    }
}

/// Text without control characters, which must not reach a terminal: a process may give itself any name.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => safe.push(character),
            _ => safe.extend(character.escape_debug()),
        }
    }
    safe
}

/// Processes and their ports, safe to print; nothing without a process.
#[must_use]
pub fn holders(holders: &[PortHolder]) -> Option<String> {
    let holder = |of: &PortHolder| format!("{} {}", process(of.pid, &of.comm), grouped(of.ports.into()));
    let holders: Vec<_> = holders.iter().map(holder).collect();
    (!holders.is_empty()).then(|| printable(&holders.join(", ")))
}

/// Processes and their calls of `connect()`, safe to print; nothing without a process.
#[must_use]
pub fn makers(makers: &[PortMaker]) -> Option<String> {
    let maker = |of: &PortMaker| format!("{} {}", process(of.pid, &of.comm), grouped(of.connects.into()));
    let makers: Vec<_> = makers.iter().map(maker).collect();
    (!makers.is_empty()).then(|| printable(&makers.join(", ")))
}

/// Ports by state, most first, safe to print; nothing without a port.
#[must_use]
pub fn states(states: &BTreeMap<String, u32>) -> Option<String> {
    let mut states: Vec<_> = states.iter().filter(|(_, ports)| **ports > 0).collect();
    states.sort_by_key(|(_, ports)| Reverse(**ports));
    let states: Vec<_> =
        states.into_iter().map(|(name, ports)| format!("{name} {}", grouped((*ports).into()))).collect();
    (!states.is_empty()).then(|| printable(&states.join(", ")))
}

/// A short time, in the unit that suits it.
#[must_use]
pub fn short(seconds: f64) -> String {
    match seconds {
        ..1e-3 => format!("{:.0}µs", seconds * 1e6),
        ..1.0 => format!("{:.1}ms", seconds * 1e3),
        _ => format!("{seconds:.1}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_rates_are_short_and_not_false() {
        let shown = [0, 7, 999, 1_000, 12_345, 1_234_567, u64::MAX].map(grouped);
        assert_eq!(shown, ["0", "7", "999", "1,000", "12,345", "1,234,567", "18,446,744,073,709,551,615"]);
        assert_eq!((known(None::<u64>), known(Some(1_000_u32))), ("-".to_owned(), "1,000".to_owned()));
        assert_eq!([0.04, 4.2, 9.99, 1_234_567.4].map(number), ["0", "4.2", "10", "1,234,567"]);
        assert_eq!([0.0, 0.04, 12.34, 99.94, 99.96, 12_345.6].map(rate), ["0", "0.0", "12.3", "99.9", "100", "12,346"]);
        assert_eq!([0.04, 3.54, -1.25].map(growth), ["~0", "~+3.5", "~-1.2"]);
        assert_eq!([1, 2, 1_000].map(|count| counted(count, "port")), ["1 port", "2 ports", "1,000 ports"]);
    }

    #[test]
    fn shares_are_percent_and_what_is_used_up_is_100_and_nothing_less() {
        let shown = [0.0, 0.004, 0.0994, 0.0996, 0.5, 1.0].map(percent);
        assert_eq!(shown, ["0 %", "0.4 %", "9.9 %", "10 %", "50 %", "100 %"]);
        let shown = [0.0, 0.000_1, 0.051_2, 0.777, 0.999_9, 1.0].map(used);
        assert_eq!(shown, ["0", "<0.1", "5.1", "78", "99", "100"]);
    }

    #[test]
    fn an_ipv6_address_has_brackets() {
        assert_eq!(address_port("::", 443), "[::]:443");
        assert_eq!(address_port("192.0.2.1", 22), "192.0.2.1:22");
    }

    #[test]
    fn what_would_steer_the_terminal_is_spelt_out() {
        assert_eq!(printable("a\u{1b}[2J\n\u{202e}b"), "a\\u{1b}[2J\\n\\u{202e}b");
        assert_eq!(printable("it's \"é\" \\"), "it's \"é\" \\");
    }

    #[test]
    fn times_are_in_two_units_at_most() {
        let shown = [0, 5, 59, 60, 3_599, 7_500, 86_400, 90_000, 950_000].map(|s| length(SignedDuration::from_secs(s)));
        assert_eq!(shown, ["0s", "5s", "59s", "1m", "59m", "2h 5m", "1d", "1d 1h", "10d 23h"]);
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!(ago(Timestamp::from_millisecond(997_600).unwrap(), now), "2s ago");
        assert_eq!(ago(Timestamp::from_second(1_001).unwrap(), now), "0s ago", "clocks step");
        assert_eq!([0.000_012, 0.002_04, 1.26].map(short), ["12µs", "2.0ms", "1.3s"]);
        assert_eq!((full_in(62.0, 0.99), full_in(0.0, 1.0)), ("~1m 2s".to_owned(), "now".to_owned()));
        let shown = [0.4, 12.3, 62.0, 120.0, 612.0, 1e300].map(until);
        assert_eq!(shown, ["0.4s", "12s", "1m 2s", "2m", "10m", "11574d 1h"]);
        let shown = [-1.0, 59.9, 119.0, 120.0, 299.0, 7_200.0].map(span);
        assert_eq!(shown, ["0 s", "59 s", "119 s", "2 min", "4 min", "2 h"]);
    }
}
