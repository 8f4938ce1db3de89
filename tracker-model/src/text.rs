//! Figures and times as an operator reads them.

use jiff::{Timestamp, tz::TimeZone};

/// A date and time, UTC, to the second.
#[must_use]
pub fn time(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%F %T").to_string()
}

/// The same, without the date when it is that of `from`.
#[must_use]
pub fn time_after(from: Timestamp, time: Timestamp) -> String {
    let [from, time] = [from, time].map(|time| time.to_zoned(TimeZone::UTC));
    time.strftime(if from.date() == time.date() { "%T" } else { "%F %T" }).to_string()
}

/// Since when, or from when to when.
#[must_use]
pub fn period(since: Timestamp, until: Option<Timestamp>) -> String {
    match until {
        None => format!("since {} UTC", time(since)),
        Some(until) => format!("from {} to {} UTC", time(since), time_after(since, until)),
    }
}

/// A figure as it is read: small ones with a digit after the point, others whole and grouped.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a figure to be read")]
#[must_use]
pub fn number(value: f64) -> String {
    if value < 10.0 && (value - value.round()).abs() > 0.05 {
        format!("{value:.1}")
    } else {
        grouped(value.round() as u64)
    }
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

/// What stands for a value that is not known.
pub const UNKNOWN: &str = "-";

/// A count that may be unknown.
#[must_use]
pub fn known(count: Option<impl Into<u64>>) -> String {
    count.map_or_else(|| UNKNOWN.to_owned(), |count| grouped(count.into()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_not_false() {
        assert_eq!([0.04, 4.2, 9.99, 1_234_567.4].map(number), ["0", "4.2", "10", "1,234,567"]);
        assert_eq!(
            [-1.0, 59.9, 119.0, 120.0, 299.0, 7_200.0].map(span),
            ["0 s", "59 s", "119 s", "2 min", "4 min", "2 h"]
        );
        assert_eq!([1, 2, 1_000].map(|count| counted(count, "port")), ["1 port", "2 ports", "1,000 ports"]);
    }
}
