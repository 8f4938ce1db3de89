//! The values that settings can have, the same for flags, environment and file. Each error says what would be right.

use std::{net::SocketAddr, time::Duration};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::SignedDuration;
use tracing::level_filters::LevelFilter;
use tracker_detect::syn::Sensitivity;

/// Longest name of an interface (`IFNAMSIZ` less its end).
const INTERFACE_NAME: usize = 15;
const LARGEST_SAMPLE: u32 = 65_536;
const SHORTEST_INTERVAL: SignedDuration = SignedDuration::from_millis(100);
const LONGEST_INTERVAL: SignedDuration = SignedDuration::from_hours(1);
/// Paths that the web server needs itself.
const RESERVED_PATHS: [&str; 3] = ["/", "/healthz", "/readyz"];

/// Values of `--sensitivity`.
pub fn sensitivity() -> impl TypedValueParser<Value = Sensitivity> {
    one_of([("low", Sensitivity::Low), ("medium", Sensitivity::Medium), ("high", Sensitivity::High)])
}

/// Values of `--log-level`.
pub fn log_level() -> impl TypedValueParser<Value = LevelFilter> {
    one_of([
        ("error", LevelFilter::ERROR),
        ("warn", LevelFilter::WARN),
        ("info", LevelFilter::INFO),
        ("debug", LevelFilter::DEBUG),
        ("trace", LevelFilter::TRACE),
    ])
}

/// Values by name, of a type that another crate owns.
fn one_of<T: Copy + Send + Sync + 'static, const N: usize>(
    all: [(&'static str, T); N],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.map(|(name, _)| name))
        .try_map(move |text| all.into_iter().find(|(name, _)| *name == text).map(|(_, value)| value).ok_or("unknown"))
}

/// A name or glob of an interface.
pub fn interface(value: &str) -> Result<String, String> {
    let is_glob = value.contains(['*', '?', '[']);
    let wrong = value.is_empty() || value.contains(|c: char| c == '/' || c == ',' || c.is_whitespace());
    if wrong || (!is_glob && value.len() > INTERFACE_NAME) {
        return Err(format!(
            "must be the name of an interface (at most {INTERFACE_NAME} bytes) or a glob such as veth*"
        ));
    }
    match glob::Pattern::new(value) {
        Ok(_) => Ok(value.to_owned()),
        Err(error) => Err(format!("is no glob ({}); veth* and eth[0-3] are", error.msg)),
    }
}

/// A value of `--lifetime-sample`.
pub fn lifetime_sample(value: &str) -> Result<u32, String> {
    value
        .parse()
        .ok()
        .filter(|sample: &u32| sample.is_power_of_two() && *sample <= LARGEST_SAMPLE)
        .ok_or_else(|| format!("must be a power of two from 1 to {LARGEST_SAMPLE}"))
}

/// A value of `--census-interval`.
pub fn census_interval(value: &str) -> Result<Duration, String> {
    let interval: Option<SignedDuration> = value.parse().ok();
    interval
        .filter(|interval| (SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(interval))
        .map(SignedDuration::unsigned_abs)
        .ok_or_else(|| "must be a time with its unit from 100ms to 1h, such as 5s or 1m".to_owned())
}

/// A value of `--web.listen-address`. Without an address it is all addresses of the host.
pub fn listen_address(value: &str) -> Result<SocketAddr, String> {
    let whole = if value.starts_with(':') { format!("[::]{value}") } else { value.to_owned() };
    whole.parse().map_err(|_| {
        "must be an IP address and a port such as 127.0.0.1:10046 or [::1]:10046, or a port alone such as :10046"
            .to_owned()
    })
}

/// A value of `--web.telemetry-path`.
pub fn telemetry_path(value: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_.~-".contains(c);
    if !value.starts_with('/') || value.starts_with("//") || !value.chars().all(plain) {
        return Err("must begin with one / and hold only letters, digits and /_.~-".to_owned());
    }
    if RESERVED_PATHS.contains(&value) {
        return Err("is taken by a page of the daemon; /metrics is usual".to_owned());
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T>(read: fn(&str) -> Result<T, String>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(read(text).is_ok(), "{text}");
        }
        for text in bad {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_taken_that_make_sense() {
        let globs = ["eth0", "veth*", "eth[0-3]", "enp0s31f6.100", "very-long-pattern-*"];
        check(interface, &globs, &["", "a/b", "eth 0", "a-name-of-16-byte", "[", "eth[0"]);
        check(lifetime_sample, &["1", "65536"], &["0", "3", "131072", "-1", "8x", ""]);
        check(census_interval, &["5s", "250ms", "1m 30s"], &["5", "", "0s", "-5s", "99ms", "2h", "soon"]);
        let addresses = ["127.0.0.1", "::1:80x", "80", "", "host:80", "127.0.0.1:65536"];
        check(listen_address, &["127.0.0.1:80", "[::1]:80"], &addresses);
        let paths = ["", "metrics", "/", "//x", "/healthz", "/{x}", "/a?b", "/a b", "/ä"];
        check(telemetry_path, &["/a/metrics"], &paths);
        assert_eq!(listen_address(":80").unwrap().to_string(), "[::]:80");
        assert_eq!(census_interval("1m 30s"), Ok(Duration::from_secs(90)));
    }
}
