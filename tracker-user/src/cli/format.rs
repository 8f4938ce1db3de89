//! Numbers and times as people read them.

use jiff::{SignedDuration, Timestamp};

pub(super) use tracker_model::text::{
    UNKNOWN, full_in, grouped as count, growth, known, length, rate, until as span, used, whole,
};

/// How long ago something was.
pub(super) fn ago(time: Timestamp, now: Timestamp) -> String {
    format!("{} ago", length(now.duration_since(time).max(SignedDuration::ZERO)))
}

/// A share, in percent.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 || percent >= 9.95 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

/// A process.
pub(super) fn process(pid: u32, comm: &str) -> String {
    format!("{}({pid})", printable(comm))
}

/// Address and port, as they are written in a URL.
pub(super) fn address_port(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// A process may give itself any name; control characters in it must not reach the terminal.
pub(super) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => safe.push(character),
            _ => safe.extend(character.escape_debug()),
        }
    }
    safe
}

/// A short time, in the unit that suits it.
pub(super) fn short(seconds: f64) -> String {
    if seconds < 1e-3 {
        format!("{:.0}µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1}ms", seconds * 1e3)
    } else {
        format!("{seconds:.1}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_thousands() {
        let shown = [0, 7, 999, 1_000, 12_345, 1_234_567, u64::MAX].map(count);
        assert_eq!(shown, ["0", "7", "999", "1,000", "12,345", "1,234,567", "18,446,744,073,709,551,615"]);
        assert_eq!((known(None::<u64>), known(Some(1_000_u32))), ("-".to_owned(), "1,000".to_owned()));
    }

    #[test]
    fn rates_have_a_decimal_while_they_are_small() {
        let shown = [0.0, 0.04, 12.34, 99.94, 99.96, 12_345.6].map(rate);
        assert_eq!(shown, ["0", "0.0", "12.3", "99.9", "100", "12,346"]);
    }

    #[test]
    fn shares_are_percent_with_a_decimal_while_they_are_small() {
        assert_eq!(
            [0.0, 0.004, 0.0994, 0.0996, 0.5, 1.0].map(percent),
            ["0 %", "0.4 %", "9.9 %", "10 %", "50 %", "100 %"]
        );
    }

    #[test]
    fn what_is_used_up_is_100_and_nothing_less() {
        let shown = [0.0, 0.000_1, 0.051_2, 0.777, 0.999_9, 1.0].map(used);
        assert_eq!(shown, ["0", "<0.1", "5.1", "78", "99", "100"]);
    }

    #[test]
    fn a_growth_has_a_sign_and_is_an_estimate() {
        assert_eq!([0.04, 3.54, -1.25].map(growth), ["~0", "~+3.5", "~-1.2"]);
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
    fn times_are_relative_in_two_units() {
        let shown = [0, 5, 59, 60, 3_599, 7_500, 86_400, 90_000, 950_000].map(|s| length(SignedDuration::from_secs(s)));
        assert_eq!(shown, ["0s", "5s", "59s", "1m", "59m", "2h 5m", "1d", "1d 1h", "10d 23h"]);
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!(ago(Timestamp::from_millisecond(997_600).unwrap(), now), "2s ago");
        assert_eq!(ago(Timestamp::from_second(1_001).unwrap(), now), "0s ago", "clocks step");
    }

    #[test]
    fn short_times_have_the_unit_that_suits() {
        assert_eq!([0.000_012, 0.002_04, 1.26].map(short), ["12µs", "2.0ms", "1.3s"]);
        assert_eq!((full_in(62.0, 0.99), full_in(0.0, 1.0)), ("~1m 2s".to_owned(), "now".to_owned()));
        let shown = [0.4, 12.3, 62.0, 120.0, 612.0, 1e300].map(span);
        assert_eq!(shown, ["0.4s", "12s", "1m 2s", "2m", "10m", "11574d 1h"]);
    }
}
