//! What a network namespace is set to, from `/proc/sys/net/ipv4`: that of the thread which reads it.

use std::{fs, time::Duration};

use tracker_detect::ports::{PortSet, PortSettings, TwReuse};

use crate::kernel::error::KernelError;

/// Reads the settings. What this kernel does not have, or does not show, stands at the kernel's default.
pub fn read() -> Result<PortSettings, KernelError> {
    let default = PortSettings::default();
    let (low, high) = match text("ip_local_port_range") {
        Some(text) => range(&text).ok_or_else(|| unreadable("ip_local_port_range", &text))?,
        None => (default.low, default.high),
    };
    let reserved = match text("ip_local_reserved_ports") {
        Some(text) => text.trim().parse::<PortSet>().map_err(|_| unreadable("ip_local_reserved_ports", &text))?,
        None => PortSet::default(),
    };
    let number = |name| text(name).and_then(|text| text.trim().parse::<u64>().ok());
    let reuse = number("tcp_tw_reuse").and_then(|number| TwReuse::from_number(u8::try_from(number).ok()?));
    Ok(PortSettings {
        low,
        high,
        reserved,
        tw_reuse: reuse.unwrap_or(default.tw_reuse),
        tw_reuse_delay: number("tcp_tw_reuse_delay").map_or(default.tw_reuse_delay, Duration::from_millis),
        unprivileged_start: number("ip_unprivileged_port_start")
            .and_then(|number| u16::try_from(number).ok())
            .unwrap_or(default.unprivileged_start),
    })
}

/// `net.ipv6.bindv6only`.
pub fn ipv6_only() -> bool {
    fs::read_to_string("/proc/sys/net/ipv6/bindv6only").is_ok_and(|text| text.trim() == "1")
}

fn text(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()
}

fn range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn unreadable(name: &str, text: &str) -> KernelError {
    KernelError::Io {
        what: format!("read net.ipv4.{name}"),
        source: std::io::Error::other(format!("{:?} is not a form that the kernel writes", text.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_two_numbers() {
        assert_eq!(range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(range("32768"), None);
        assert_eq!(range("1 70000"), None);
    }
}
