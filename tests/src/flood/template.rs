//! A frame of which only source, ports and sequence number change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Kind;
use crate::segment::Route;

/// Where the network header stands in the frame.
const NETWORK: usize = 14;

/// The frame with zeros where it changes: what is put there is added to the checksums.
#[derive(Debug)]
pub struct Template {
    frame: Vec<u8>,
    /// Where the source address stands, and how many bytes of it.
    source: (usize, usize),
    /// Where the TCP header stands.
    tcp: usize,
}

impl Template {
    /// A frame of this kind for that address.
    pub fn new(route: Route<'_>, kind: Kind, target: SocketAddr) -> Self {
        let (nobody, source, tcp) = match target.ip() {
            IpAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), (NETWORK + 12, 4), NETWORK + 20),
            IpAddr::V6(_) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), (NETWORK + 8, 16), NETWORK + 40),
        };
        let frame = route.segment((nobody, 0).into(), (target.ip(), 0).into(), |header| {
            header.sequence_number = 0;
            match kind {
                Kind::Syn => header.syn = true,
                Kind::Ack => {
                    header.ack = true;
                    header.acknowledgment_number = 1;
                }
                Kind::Rst => header.rst = true,
            }
        });
        Self { frame, source, tcp }
    }

    /// Length of a frame.
    pub fn len(&self) -> usize {
        self.frame.len()
    }

    /// Writes a frame.
    pub fn write(&self, frame: &mut [u8], source: u128, source_port: u16, target_port: u16, sequence: u32) {
        frame.copy_from_slice(&self.frame);
        let (at, length) = self.source;
        let source = &source.to_be_bytes()[16 - length..];
        frame[at..at + length].copy_from_slice(source);
        if length == 4 {
            add(frame, NETWORK + 10, sum(source));
        }
        let mut words = [0; 8];
        words[..2].copy_from_slice(&source_port.to_be_bytes());
        words[2..4].copy_from_slice(&target_port.to_be_bytes());
        words[4..].copy_from_slice(&sequence.to_be_bytes());
        frame[self.tcp..self.tcp + 8].copy_from_slice(&words);
        add(frame, self.tcp + 16, sum(source) + sum(&words));
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
}

/// Adds words that were zero to the checksum at an offset (RFC 1624).
fn add(frame: &mut [u8], at: usize, sum: u32) {
    let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
    let mut sum = sum + u32::from(!old);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let new = !u16::try_from(sum).expect("folded twice");
    frame[at..at + 2].copy_from_slice(&new.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::End;

    fn end(host: u8) -> End {
        End {
            namespace: String::new(),
            device: String::new(),
            mac: [2, 0, 0, 0, 0, host],
            ipv4: Ipv4Addr::new(10, 77, 1, host),
            ipv6: Ipv6Addr::new(0xfd77, 0, 0, 1, 0, 0, 0, host.into()),
        }
    }

    #[test]
    fn a_frame_is_as_if_made_whole() {
        let (from, to) = (end(1), end(2));
        let route = Route { from: &from, to: &to };
        let sources: [IpAddr; 2] = [Ipv4Addr::new(198, 51, 100, 7).into(), "2001:db8::1:ffff".parse().unwrap()];
        for source in sources {
            let ip = if source.is_ipv4() { IpAddr::from(to.ipv4) } else { to.ipv6.into() };
            let template = Template::new(route, Kind::Syn, (ip, 80).into());
            for sequence in [0, 1, 0xffff_fffe, 0x1234_5678] {
                let whole = route.segment((source, 40_000).into(), (ip, 80).into(), |header| {
                    header.syn = true;
                    header.sequence_number = sequence;
                });
                let mut frame = vec![0; template.len()];
                let number = match source {
                    IpAddr::V4(source) => source.to_bits().into(),
                    IpAddr::V6(source) => source.to_bits(),
                };
                template.write(&mut frame, number, 40_000, 80, sequence);
                assert_eq!(frame, whole, "{source} {sequence}");
            }
        }
    }
}
