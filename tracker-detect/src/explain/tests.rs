//! The rules of `tracker explain` against what the kernel did (`situations.txt`), and what must hold for any sockets.
//!
//! Each rule is tested here or below; that the kernel still does what the table says, by the lab (`ports_bind.rs`).

mod connect;
mod table;
mod text;

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::BindRequest;
use tracker_model::explain::{Protocol, SocketObservation, TcpState};
use tracker_model::process::Process;

/// The port that everything is about.
const PORT: u16 = 20_000;

/// A socket of that port at the IPv4 wildcard, without options.
pub(super) fn socket(state: TcpState) -> SocketObservation {
    let connected = !matches!(state, TcpState::Listen | TcpState::Bound | TcpState::Close);
    SocketObservation {
        protocol: Protocol::Tcp,
        ipv6: false,
        ipv6_only: false,
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        port: PORT,
        remote: connected.then(|| ([192, 0, 2, 9].into(), 40_009)),
        state,
        reuse_address: false,
        reuse_port: false,
        uid: 0,
        device: 0,
        inode: 0,
        bucket: None,
        remaining: (state == TcpState::TimeWait).then_some(Duration::from_secs(42)),
        timestamps: false,
        recyclable: false,
        queues: None,
        range: 0,
        processes: Vec::new(),
    }
}

/// A `bind()` to that port at the IPv4 wildcard, without options.
fn request() -> BindRequest {
    let request = BindRequest::new(Protocol::Tcp, IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT);
    BindRequest { privileged: true, ..request }
}

pub(super) fn process(pid: u32, comm: &str) -> Vec<Process> {
    vec![Process { pid, comm: comm.to_owned() }]
}
