//! Correct frames of every kind.

use fastrand::Rng;

use crate::frames::build::{Extension, Peers, Recipe};
use crate::frames::numbers::{
    ACK, AUTHENTICATION, CWR, DESTINATION_OPTIONS, ECE, ESP, ETHERTYPE_ARP, ETHERTYPE_IPX, ETHERTYPE_LLDP,
    ETHERTYPE_MACSEC, ETHERTYPE_MPLS, FIN, GRE, HIP, HOP_BY_HOP, ICMP, ICMPV6, IPIP, IPV6, MOBILITY, NO_NEXT_HEADER,
    PSH, QINQ, ROUTING, RST, SCTP, SHIM6, SYN, URG, VENDOR_TAG, VLAN,
};

const ETHERTYPES: [u16; 8] =
    [ETHERTYPE_ARP, ETHERTYPE_IPX, ETHERTYPE_LLDP, ETHERTYPE_MPLS, ETHERTYPE_MACSEC, VENDOR_TAG, 38, 1500];
const EXTENSIONS: [u8; 6] = [HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS, MOBILITY, HIP, SHIM6];
const PROTOCOLS: [u8; 9] = [SCTP, GRE, IPIP, IPV6, ESP, AUTHENTICATION, NO_NEXT_HEADER, ICMP, ICMPV6];
const FLAGS: [u8; 16] = [
    SYN,
    SYN | ECE | CWR,
    SYN | ACK,
    ACK,
    PSH | ACK,
    FIN | ACK,
    FIN,
    RST,
    RST | ACK,
    PSH,
    PSH | URG,
    0,
    SYN | FIN,
    SYN | RST,
    SYN | FIN | RST,
    0xff,
];

/// A correct frame of any kind.
pub(super) fn any(random: &mut Rng, peers: &Peers) -> Recipe {
    let recipe = match random.u8(..100) {
        0..45 => transport(ipv4(random, peers), random),
        45..94 => transport(ipv6(random, peers), random),
        94..96 => Recipe::arp(peers),
        _ => {
            let ethertype = if random.bool() { pick(random, &ETHERTYPES) } else { random.u16(..) };
            Recipe::other(peers, ethertype).payload(&payload(random))
        }
    };
    recipe.tags(&tags(random))
}

/// One of `choices`.
pub(super) fn pick<T: Copy>(random: &mut Rng, choices: &[T]) -> T {
    choices[random.usize(..choices.len())]
}

fn tags(random: &mut Rng) -> Vec<u16> {
    let count = match random.u8(..100) {
        0..65 => 0,
        65..80 => 1,
        80..95 => 2,
        95..99 => 3,
        _ => 4,
    };
    (0..count).map(|_| pick(random, &[VLAN, QINQ])).collect()
}

fn ipv4(random: &mut Rng, peers: &Peers) -> Recipe {
    let mut recipe = Recipe::ipv4(peers);
    if random.u8(..4) == 0 {
        recipe = recipe.ip_options(&[1; 40][..random.usize(..=40)]);
    }
    match random.u8(..12) {
        0 => recipe.ip_fragment(0, true),
        1 => recipe.ip_fragment(random.u16(1..8192), random.bool()),
        _ => recipe,
    }
}

fn ipv6(random: &mut Rng, peers: &Peers) -> Recipe {
    let count = match random.u8(..100) {
        0..40 => 0,
        40..75 => random.usize(1..4),
        75..93 => random.usize(4..9),
        _ => random.usize(9..12),
    };
    let chain: Vec<_> = (0..count).map(|_| extension(random)).collect();
    Recipe::ipv6(peers).extensions(&chain)
}

fn extension(random: &mut Rng) -> Extension {
    match random.u8(..20) {
        0..3 => Extension::Fragment { offset: 0, more: false },
        3 => Extension::Fragment { offset: 0, more: true },
        4 => Extension::Fragment { offset: random.u16(1..8192), more: random.bool() },
        5..8 => Extension::Authentication { icv: random.u8(..8) },
        _ => {
            let units = if random.u8(..4) == 0 { random.u8(1..5) } else { 0 };
            Extension::Common { protocol: pick(random, &EXTENSIONS), units }
        }
    }
}

fn transport(recipe: Recipe, random: &mut Rng) -> Recipe {
    let recipe = match random.u8(..100) {
        0..70 => {
            let flags = if random.u8(..4) == 0 { random.u8(..) } else { pick(random, &FLAGS) };
            let recipe = recipe.tcp(flags);
            if random.bool() { recipe.tcp_options(&[1; 40][..random.usize(..=40)]) } else { recipe }
        }
        70..82 => recipe.udp(),
        82..86 => recipe.icmp(),
        86..90 => recipe.icmpv6(),
        90..96 => recipe.protocol(pick(random, &PROTOCOLS)),
        _ => recipe.protocol(random.u8(..)),
    };
    recipe.payload(&payload(random))
}

/// Mostly short, so that most of a frame is headers.
fn payload(random: &mut Rng) -> Vec<u8> {
    let length = match random.u8(..100) {
        0..40 => 0,
        40..80 => random.usize(..32),
        80..98 => random.usize(..128),
        _ => random.usize(..1024),
    };
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}
