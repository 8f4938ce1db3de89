//! IPv6 extension headers: their number, kinds, lengths and fragments.

use tracker_common::classify::Outcome::{
    Fragment, Icmp, MalformedLength, OtherProtocol, TcpSyn, TcpSynAck, Truncated, Udp, Unparsed,
};

use super::Table;
use crate::frames::build::Extension;
use crate::frames::numbers::{
    ACK, DESTINATION_OPTIONS, ESP, HIP, HOP_BY_HOP, MOBILITY, NO_NEXT_HEADER, ROUTING, SHIM6, SYN, TCP, VLAN,
};

const HOPS: Extension = Extension::common(HOP_BY_HOP);
const ROUTE: Extension = Extension::common(ROUTING);
const OPTIONS: Extension = Extension::common(DESTINATION_OPTIONS);
const ATOMIC: Extension = Extension::Fragment { offset: 0, more: false };
const FIRST: Extension = Extension::Fragment { offset: 0, more: true };
const LATER: Extension = Extension::Fragment { offset: 1, more: true };
const LAST: Extension = Extension::Fragment { offset: 185, more: false };
/// With the 96-bit check value of RFC 2403, 24 bytes long.
const AUTH: Extension = Extension::Authentication { icv: 3 };

pub(super) fn fill(table: &mut Table) {
    numbers(table);
    kinds(table);
    lengths(table);
    cut(table);
    authentication(table);
    fragments(table);
    cut_fragments(table);
}

fn numbers(table: &mut Table) {
    let chain = [HOPS, OPTIONS, ROUTE, ATOMIC, AUTH, OPTIONS, OPTIONS, OPTIONS, OPTIONS, OPTIONS];
    for count in 0..=8 {
        let frame = table.ipv6().extensions(&chain[..count]).tcp(SYN).build();
        table.v6(format!("extension_headers_{count}"), frame, TcpSyn);
    }
    for count in [9, 10] {
        let frame = table.ipv6().extensions(&chain[..count]).tcp(SYN).build();
        table.v6(format!("extension_headers_{count}"), frame, Unparsed);
    }
    let eight = table.ipv6().extensions(&chain[..8]).tcp(SYN);
    table.v6("extension_headers_8_in_vlan", eight.clone().tags(&[VLAN]).build(), TcpSyn);
    table.v6("extension_headers_8_no_tcp", eight.build().cut_packet(14 + 40 + 80), MalformedLength);
    // The ninth header is neither walked nor missed.
    let nine = table.ipv6().extensions(&chain[..9]).tcp(SYN).build();
    table.v6("extension_headers_9_cut_packet_before", nine.cut_packet(14 + 40 + 80), Unparsed);
}

fn kinds(table: &mut Table) {
    for (name, protocol) in [
        ("hop_by_hop", HOP_BY_HOP),
        ("routing", ROUTING),
        ("destination_options", DESTINATION_OPTIONS),
        ("mobility", MOBILITY),
        ("hip", HIP),
        ("shim6", SHIM6),
    ] {
        for (size, units) in [("short", 0), ("long", 3)] {
            let frame = table.ipv6().extensions(&[Extension::Common { protocol, units }]).tcp(SYN).build();
            table.v6(format!("{name}_{size}"), frame, TcpSyn);
        }
    }
    table.v6("hop_by_hop_second", table.ipv6().extensions(&[OPTIONS, HOPS]).tcp(SYN).build(), TcpSyn);
    table.v6("behind_options_udp", table.ipv6().extensions(&[OPTIONS]).udp().build(), Udp);
    table.v6("behind_hops_icmpv6", table.ipv6().extensions(&[HOPS]).icmpv6().build(), Icmp);
    let end = table.ipv6().extensions(&[HOPS]).protocol(NO_NEXT_HEADER).build();
    table.v6("behind_hops_no_next_header", end, OtherProtocol);
    let esp = table.ipv6().protocol(ESP).payload(&[0xee; 40]).build();
    table.v6("esp_ipv6", esp, OtherProtocol);
    let behind = table.ipv6().extensions(&[HOPS, OPTIONS]).protocol(ESP).payload(&[0xee; 40]).build();
    table.v6("behind_options_esp", behind, OtherProtocol);
}

fn lengths(table: &mut Table) {
    // 8 bytes of options and 20 of TCP.
    let frame = table.ipv6().extensions(&[OPTIONS]).tcp(SYN).build();
    table.v6("extension_length_beyond_packet", frame.clone().poke(55, &[3]), MalformedLength);
    table.v6("extension_length_255", frame.clone().poke(55, &[255]), MalformedLength);
    table.v6("extension_length_255_of_padded_frame", frame.clone().poke(55, &[255]).pad(1400), MalformedLength);
    table.v6("extension_leaves_4_for_tcp", frame.poke(55, &[2]), MalformedLength);
    let longest = Extension::Common { protocol: ROUTING, units: 150 };
    table.v6("extension_of_1208_bytes", table.ipv6().extensions(&[longest]).tcp(SYN).build(), TcpSyn);
}

fn cut(table: &mut Table) {
    let one = table.ipv6().extensions(&[OPTIONS]).tcp(SYN).build();
    let two = table.ipv6().extensions(&[HOPS, ROUTE]).tcp(SYN).build();
    let frag = table.ipv6().extensions(&[ATOMIC]).tcp(SYN).build();
    for at in [0, 1, 4, 7] {
        for (name, frame, start) in [("extension", &one, 54), ("second_extension", &two, 62), ("atomic", &frag, 54)] {
            table.v6(format!("{name}_cut_at_{at}"), frame.clone().cut(start + at), Truncated);
            table.v6(format!("{name}_cut_packet_at_{at}"), frame.clone().cut_packet(start + at), MalformedLength);
        }
    }
}

fn authentication(table: &mut Table) {
    let frame = table.ipv6().extensions(&[AUTH]).tcp(SYN | ACK).build();
    table.v6("ah_tcp", frame.clone(), TcpSynAck);
    let bare = Extension::Authentication { icv: 0 };
    table.v6("ah_without_check_value", table.ipv6().extensions(&[bare]).tcp(SYN).build(), TcpSyn);
    for at in [0, 7, 11, 12, 23] {
        table.v6(format!("ah_cut_at_{at}"), frame.clone().cut(54 + at), Truncated);
        table.v6(format!("ah_cut_packet_at_{at}"), frame.clone().cut_packet(54 + at), MalformedLength);
    }
    table.v6("ah_length_beyond_packet", frame.poke(55, &[42]), MalformedLength);
    // RFC 4302, 2.2: its fixed part has three words, which the field states as one.
    let udp = table.ipv6().extensions(&[AUTH]).udp().build();
    table.v6("ah_length_0", udp.poke(55, &[0]), MalformedLength);
    let nothing = table.ipv6().extensions(&[AUTH]).protocol(NO_NEXT_HEADER).build();
    table.v6("ah_no_next_header", nothing, OtherProtocol);
}

fn fragments(table: &mut Table) {
    let v6 = table.ipv6();
    table.v6("atomic_fragment", v6.clone().extensions(&[ATOMIC]).tcp(SYN).build(), TcpSyn);
    let first = v6.clone().extensions(&[FIRST]);
    table.v6("ipv6_first_fragment_tcp", first.clone().tcp(SYN).payload(&[7; 12]).build(), TcpSyn);
    table.v6("ipv6_first_fragment_udp", first.clone().udp().payload(&[7; 16]).build(), Udp);
    table.v6("ipv6_first_fragment_icmpv6", first.clone().icmpv6().payload(&[7; 16]).build(), Icmp);
    table.v6("ipv6_first_fragment_esp", first.protocol(ESP).payload(&[7; 16]).build(), OtherProtocol);
    for (name, fragment) in [("ipv6_later_fragment", LATER), ("ipv6_last_fragment", LAST)] {
        table.v6(name, v6.clone().extensions(&[fragment]).tcp(SYN).build(), Fragment);
        table.v6(format!("{name}_empty"), v6.clone().extensions(&[fragment]).protocol(TCP).build(), Fragment);
        let behind = v6.clone().extensions(&[HOPS, ROUTE, fragment]).udp().build();
        table.v6(format!("{name}_behind_options"), behind, Fragment);
    }
    // What stands behind a later fragment's header is no header, even if it would look like one.
    table.v6("later_fragment_before_options", v6.clone().extensions(&[LATER, OPTIONS]).tcp(SYN).build(), Fragment);
    table.v6("two_fragment_headers", v6.clone().extensions(&[FIRST, LATER]).tcp(SYN).build(), Fragment);
    // The two reserved bits below the offset say nothing.
    let reserved = v6.extensions(&[ATOMIC]).tcp(SYN).build();
    table.v6("fragment_reserved_bits", reserved.poke(57, &[0x06]), TcpSyn);
}

fn cut_fragments(table: &mut Table) {
    let v6 = table.ipv6();
    let tcp = v6.clone().extensions(&[FIRST]).tcp(SYN).build();
    for at in [0, 8, 19] {
        table.v6(format!("ipv6_first_fragment_cut_in_tcp_at_{at}"), tcp.clone().cut_packet(62 + at), Fragment);
    }
    table.v6("ipv6_first_fragment_cut_off", tcp.clone().cut(70), Truncated);
    table.v6("ipv6_first_fragment_data_offset_4", tcp.data_offset(4), MalformedLength);
    let udp = v6.clone().extensions(&[FIRST]).udp().build();
    table.v6("ipv6_first_fragment_cut_in_udp", udp.cut_packet(62 + 7), Fragment);
    let icmp = v6.clone().extensions(&[FIRST]).icmpv6().build();
    table.v6("ipv6_first_fragment_cut_in_icmpv6", icmp.cut_packet(62 + 4), Fragment);
    // RFC 7112 forbids a chain that goes on in the next fragment; the field does not.
    let chain = v6.clone().extensions(&[FIRST, OPTIONS]).tcp(SYN).build();
    table.v6("ipv6_first_fragment_cut_in_options", chain.clone().cut_packet(62 + 4), Fragment);
    table.v6("ipv6_first_fragment_options_go_on", chain.poke(63, &[200]), Fragment);
    let ah = v6.clone().extensions(&[FIRST, AUTH]).udp().build();
    table.v6("ipv6_first_fragment_cut_in_ah", ah.clone().cut_packet(62 + 10), Fragment);
    table.v6("ipv6_first_fragment_ah_length_0", ah.poke(63, &[0]), MalformedLength);
    let atomic = v6.extensions(&[ATOMIC]).tcp(SYN).build();
    table.v6("atomic_fragment_cut_in_tcp", atomic.clone().cut_packet(62 + 8), MalformedLength);
    table.v6("atomic_fragment_cut_off", atomic.cut(70), Truncated);
}
