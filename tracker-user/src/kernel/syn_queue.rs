//! The limit of SYN queues, which depends on two settings of the namespace.

use std::fs;

use tracker_common::listener::ListenerQueues;

/// Settings of the namespace of the thread that reads them.
#[derive(Clone, Copy, Debug, Default)]
pub struct SynQueue {
    /// `net.ipv4.tcp_max_syn_backlog`, if SYN cookies are off (`net.ipv4.tcp_syncookies`).
    most: Option<u32>,
}

impl SynQueue {
    /// Reads them; what cannot be read does not limit.
    pub fn read() -> Self {
        let setting = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?.trim().parse().ok();
        let cookies: Option<u32> = setting("tcp_syncookies");
        Self { most: if cookies == Some(0) { setting("tcp_max_syn_backlog") } else { None } }
    }

    /// Requests that the SYN queues of a listener hold before SYNs are answered with cookies or dropped: as many as the
    /// backlog (`inet_csk_reqsk_queue_is_full`); without cookies also no more than three quarters of
    /// `tcp_max_syn_backlog` for each socket, unless the peer is known (`tcp_conn_request`).
    pub fn limit(self, census: &ListenerQueues) -> u32 {
        let sockets = u32::try_from(census.sockets).unwrap_or(u32::MAX);
        let most = self.most.map_or(u32::MAX, |most| (most - most / 4).saturating_mul(sockets.max(1)));
        census.accept_queue_max.min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_cookies_the_smaller_limit_holds() {
        let census = ListenerQueues { sockets: 1, accept_queue_max: 4096, ..ListenerQueues::default() };
        assert_eq!(SynQueue { most: None }.limit(&census), 4096);
        assert_eq!(SynQueue { most: Some(512) }.limit(&census), 384);
        let group = ListenerQueues { sockets: 4, ..census };
        assert_eq!(SynQueue { most: Some(512) }.limit(&group), 1536);
    }
}
