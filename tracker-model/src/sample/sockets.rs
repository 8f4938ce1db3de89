//! The sockets of the host of [`super::under_shortage`], for what is explained.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::ports::{FULL, RANGE, SOURCE, process};
use crate::{
    ports::{
        PortSettings,
        explain::{Bucket, Protocol, SocketSeen, TcpState},
    },
    snapshot::Process,
};

/// What that host is set to.
#[must_use]
pub fn port_settings() -> PortSettings {
    let mut settings = PortSettings { low: RANGE.low, high: RANGE.high, ..PortSettings::default() };
    settings.reserved.insert_range(RANGE.low..=RANGE.low + 9);
    settings
}

/// Its sockets:
/// - nginx listens at 0.0.0.0:80, and a resolver has UDP port 80 of one address;
/// - at port 8080 there are two `TIME_WAIT`s, of which one was opened with `SO_REUSEADDR`;
/// - a test has bound 127.0.0.1:9000 and does not listen;
/// - no port is left to 198.51.100.7:443.
#[must_use]
pub fn sockets() -> Vec<SocketSeen> {
    let web = SocketSeen { reuse_address: true, inode: 5_501, ..listener(80, process(815, "nginx")) };
    let dns = SocketSeen {
        protocol: Protocol::Udp,
        address: SOURCE,
        state: TcpState::Bound,
        bucket: None,
        ..listener(80, process(53, "unbound"))
    };
    let test = SocketSeen {
        address: Ipv4Addr::LOCALHOST.into(),
        state: TcpState::Bound,
        reuse_address: true,
        uid: 1_000,
        ..listener(9_000, process(321, "pytest"))
    };
    let waiting = |port: u16, left, reuse_address| SocketSeen {
        reuse_address,
        remaining: Some(Duration::from_secs(left)),
        bucket: Some(Bucket { fastreuse: 0, fastreuseport: 0 }),
        ..connection(8_080, TcpState::TimeWait, ([203, 0, 113, 9].into(), port), None)
    };
    let mut all = vec![web, dns, test, waiting(51_000, 42, false), waiting(51_001, 7, true)];
    all.extend((RANGE.low + 10..=RANGE.high).map(of_range));
    all
}

/// A port of the range: the first 570 have connections, some are in `CLOSE_WAIT`, 400 in `TIME_WAIT`, the last are bound.
fn of_range(port: u16) -> SocketSeen {
    let to_full = |state, process| connection(port, state, (FULL, 443), process);
    match port - RANGE.low {
        10..510 => to_full(TcpState::Established, Some(process(4_711, "app"))),
        510..580 => to_full(TcpState::Established, Some(process(99, "cron-job"))),
        580..588 => to_full(TcpState::CloseWait, Some(process(99, "cron-job"))),
        index @ 588..988 => SocketSeen {
            // 50 are too young to be taken again.
            recyclable: index < 938,
            timestamps: true,
            remaining: Some(Duration::from_millis(400 + u64::from(index - 588) * 149)),
            ..to_full(TcpState::TimeWait, None)
        },
        _ => SocketSeen { state: TcpState::Bound, address: SOURCE, ..listener(port, process(512, "proxy")) },
    }
}

fn listener(port: u16, process: Process) -> SocketSeen {
    SocketSeen {
        protocol: Protocol::Tcp,
        ipv6: false,
        ipv6_only: false,
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        port,
        remote: None,
        state: TcpState::Listen,
        reuse_address: false,
        reuse_port: false,
        uid: 0,
        device: 0,
        inode: 0,
        bucket: Some(Bucket { fastreuse: 0, fastreuseport: 0 }),
        remaining: None,
        timestamps: false,
        recyclable: false,
        processes: vec![process],
    }
}

fn connection(port: u16, state: TcpState, remote: (IpAddr, u16), process: Option<Process>) -> SocketSeen {
    SocketSeen {
        address: SOURCE,
        remote: Some(remote),
        state,
        bucket: Some(Bucket { fastreuse: -1, fastreuseport: -1 }),
        processes: process.into_iter().collect(),
        ..listener(port, Process { pid: 0, comm: String::new() })
    }
}
