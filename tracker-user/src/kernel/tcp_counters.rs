//! TCP counters of the namespace, from `/proc/net/netstat`.
//!
//! The procfs crate reads `/proc/net/snmp` but not this file, which has the counters of SYN cookies and accept queues.

use std::collections::HashMap;

use tracker_model::counters::NamespaceCounters;

use super::error::KernelError;

/// That of the thread's namespace.
const FILE: &str = "/proc/thread-self/net/netstat";

/// Reads the counters of the calling thread's namespace.
pub fn read() -> Result<NamespaceCounters, KernelError> {
    let text =
        std::fs::read_to_string(FILE).map_err(|source| KernelError::Io { what: format!("read {FILE}"), source })?;
    Ok(parse(&text))
}

/// A line of names is followed by one of values, both of which begin with the same word. A counter that the kernel does
/// not have is 0.
fn parse(text: &str) -> NamespaceCounters {
    let mut lines = text.lines();
    let mut values = HashMap::new();
    while let (Some(names), Some(counts)) = (lines.next(), lines.next()) {
        if names.starts_with("TcpExt:") {
            values.extend(names.split_whitespace().zip(counts.split_whitespace()).skip(1));
        }
    }
    NamespaceCounters::from_names(|name| values.get(name).and_then(|count| count.parse().ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_name() {
        let text = "TcpExt: SyncookiesSent ListenDrops New EmbryonicRsts\nTcpExt: 7 8 9 10\n\
                    IpExt: SyncookiesRecv InOctets\nIpExt: 1 2\n";
        let expected = NamespaceCounters {
            syncookies_sent: 7,
            listen_drops: 8,
            embryonic_resets: 10,
            ..NamespaceCounters::default()
        };
        assert_eq!(parse(text), expected);
        assert_eq!(parse(""), NamespaceCounters::default());
        assert_eq!(parse("TcpExt: SyncookiesSent\nTcpExt: ?\n"), NamespaceCounters::default());
    }

    /// Each name that is asked for is one that the kernel has.
    #[test]
    fn this_kernel_has_the_counters() {
        let text = std::fs::read_to_string(FILE).unwrap();
        for (name, _) in NamespaceCounters::MEANINGS {
            assert!(text.split_whitespace().any(|word| word == *name), "{name}");
        }
    }
}
