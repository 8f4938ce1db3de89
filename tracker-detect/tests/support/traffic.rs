//! What is sent: from where, where to, and how often.

use std::net::IpAddr;

use super::Random;

/// Where SYNs come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum From {
    One(u32),
    /// A prefix, and its length in bits.
    Prefix(u32, u8),
    /// An IPv6 /64.
    Six,
    Anywhere,
}

impl From {
    pub(super) fn draw(self, random: &mut Random) -> IpAddr {
        let bits = random.next();
        match self {
            Self::One(address) => std::net::Ipv4Addr::from_bits(address).into(),
            Self::Prefix(network, length) => std::net::Ipv4Addr::from_bits(network | (bits as u32 >> length)).into(),
            Self::Six => std::net::Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | u128::from(bits)).into(),
            Self::Anywhere => std::net::Ipv4Addr::from_bits(bits as u32).into(),
        }
    }

    pub(super) fn distinct(self, syns: u64) -> f64 {
        let pool = match self {
            Self::One(_) => 1.0,
            Self::Prefix(_, length) => 2_f64.powi(32 - i32::from(length)),
            Self::Anywhere => 2_f64.powi(32),
            Self::Six => return syns as f64,
        };
        pool * -(-(syns as f64) / pool).exp_m1()
    }
}

/// Where SYNs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Listener(usize),
    Port(u16),
    /// Another port each time, from this on.
    Ports(u16),
}

/// SYNs that are sent.
pub struct Traffic {
    pub from: From,
    pub to: To,
    /// SYNs per second at a second.
    pub rate: Box<dyn Fn(f64) -> f64>,
    /// Round trip time of clients that complete, seconds; none of a flood.
    pub client: Option<f64>,
    /// Share of segments lost.
    pub loss: f64,
    /// Whether the SYN-ACK is answered with a reset.
    pub resets: bool,
    pub(super) due: f64,
    pub(super) unread: u64,
    pub(super) watched: u64,
    /// Handshakes completed since the last time that sources were read.
    pub(super) completed: u64,
    pub(super) ports: u16,
}

impl Traffic {
    pub fn flood(from: From, to: To, rate: impl Fn(f64) -> f64 + 'static) -> Self {
        let rate = Box::new(rate);
        let (client, loss, resets, due) = (None, 0.0, false, 0.0);
        Self { from, to, rate, client, loss, resets, due, unread: 0, watched: 0, completed: 0, ports: 0 }
    }

    pub fn clients(rate: impl Fn(f64) -> f64 + 'static) -> Self {
        Self { client: Some(0.001), ..Self::flood(From::Prefix(0x0a09_0000, 22), To::Listener(0), rate) }
    }
}
