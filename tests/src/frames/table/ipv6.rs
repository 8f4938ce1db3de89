//! The IPv6 header and its length.

use tracker_common::classify::Outcome::{MalformedLength, OtherProtocol, TcpAck, TcpSyn, Truncated};

use super::Table;
use crate::frames::build::Extension;
use crate::frames::numbers::{ACK, HOP_BY_HOP, NO_NEXT_HEADER, SYN, TCP, VLAN};

pub(super) fn fill(table: &mut Table) {
    cut(table);
    version(table);
    payload_length(table);
    jumbo(table);
}

fn cut(table: &mut Table) {
    let frame = table.ipv6().tcp(SYN).build();
    table.v6("ipv6_cut_at_0", frame.clone().cut(14), Truncated);
    table.v6("ipv6_cut_at_1", frame.clone().cut(15), Truncated);
    table.v6("ipv6_cut_at_7", frame.clone().cut(21), Truncated);
    table.v6("ipv6_cut_at_20", frame.clone().cut(34), Truncated);
    table.v6("ipv6_cut_at_39", frame.clone().cut(53), Truncated);
    table.v6("ipv6_cut_at_39_wrong_version", frame.cut(53).with_version(4), Truncated);
    let tagged = table.ipv6().tcp(SYN).tags(&[VLAN]).build();
    table.v6("ipv6_cut_at_39_in_vlan", tagged.cut(57), Truncated);
}

fn version(table: &mut Table) {
    let frame = table.ipv6().tcp(SYN).build();
    for version in [0, 4, 7, 15] {
        table.v6(format!("ipv6_version_{version}"), frame.clone().with_version(version), MalformedLength);
    }
    // 60 bytes, so that IPv6's header is whole.
    let four = table.ipv4().tcp(SYN).payload(&[0; 20]).build();
    table.v6("ipv4_packet_with_ethertype_ipv6", four.poke(12, &[0x86, 0xdd]), MalformedLength);
}

fn payload_length(table: &mut Table) {
    // 20 bytes of payload.
    let frame = table.ipv6().tcp(SYN).build();
    table.v6("payload_length_0_before_tcp", frame.clone().payload_length(0), MalformedLength);
    table.v6("payload_length_19_in_tcp", frame.clone().payload_length(19), MalformedLength);
    table.v6("payload_length_21_above_frame", frame.clone().payload_length(21), Truncated);
    table.v6("payload_length_65535_above_frame", frame.clone().payload_length(65_535), Truncated);
    table.v6("ipv6_padded", frame.pad(6), TcpSyn);
    let data = table.ipv6().tcp(ACK).payload(&[0x55; 100]).build();
    table.v6("ipv6_data", data.clone(), TcpAck);
    table.v6("ipv6_data_cut_by_1", data.clone().cut(173), Truncated);
    table.v6("ipv6_data_cut_to_header", data.cut(74), Truncated);
    table.v6("ipv6_data_of_full_size", table.ipv6().tcp(ACK).payload(&[0x55; 1440]).build(), TcpAck);
    table.v6("ipv6_tcp_without_bytes", table.ipv6().protocol(TCP).build(), MalformedLength);
    table.v6("no_next_header", table.ipv6().protocol(NO_NEXT_HEADER).build(), OtherProtocol);
    let trailing = table.ipv6().protocol(NO_NEXT_HEADER).payload(&[9; 20]).build();
    table.v6("no_next_header_with_bytes", trailing, OtherProtocol);
}

/// RFC 2675: a payload length of zero with a jumbo option stands for more than 65,535 bytes, which no frame holds.
fn jumbo(table: &mut Table) {
    let frame = table.ipv6().extensions(&[Extension::common(HOP_BY_HOP)]).tcp(SYN).build();
    let jumbo = frame.poke(56, &[0xc2, 4, 0, 1, 0, 0]).payload_length(0);
    table.v6("jumbo_payload_in_a_small_frame", jumbo, MalformedLength);
}
