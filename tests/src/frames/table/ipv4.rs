//! The IPv4 header, its options, its lengths and its fragments.

use tracker_common::classify::Outcome::{
    Fragment, Icmp, MalformedLength, OtherProtocol, TcpAck, TcpSyn, Truncated, Udp,
};

use super::Table;
use crate::frames::numbers::{ACK, AUTHENTICATION, SYN, TCP, VLAN};

/// Four No-Operation options, and a Router Alert.
const NO_OPERATIONS: [u8; 4] = [1; 4];
const ROUTER_ALERT: [u8; 4] = [148, 4, 0, 0];

pub(super) fn fill(table: &mut Table) {
    cut(table);
    header_length(table);
    version(table);
    total_length(table);
    options(table);
    fragments(table);
    cut_fragments(table);
}

fn cut(table: &mut Table) {
    let frame = table.ipv4().tcp(SYN).build();
    table.v4("ipv4_cut_at_0", frame.clone().cut(14), Truncated);
    table.v4("ipv4_cut_at_1", frame.clone().cut(15), Truncated);
    table.v4("ipv4_cut_at_10", frame.clone().cut(24), Truncated);
    table.v4("ipv4_cut_at_19", frame.cut(33), Truncated);
    let tagged = table.ipv4().tcp(SYN).tags(&[VLAN]).build();
    table.v4("ipv4_cut_at_19_in_vlan", tagged.cut(37), Truncated);
    let wrong = table.ipv4().tcp(SYN).build().ihl(4);
    // Both are wrong; a header that is not whole is not judged.
    table.v4("ipv4_cut_and_bad_ihl", wrong.cut(20), Truncated);
}

fn header_length(table: &mut Table) {
    let frame = table.ipv4().tcp(SYN).build();
    table.v4("ihl_0", frame.clone().ihl(0), MalformedLength);
    table.v4("ihl_1", frame.clone().ihl(1), MalformedLength);
    table.v4("ihl_4", frame.clone().ihl(4), MalformedLength);
    table.v4("ihl_4_udp", table.ipv4().udp().build().ihl(4), MalformedLength);
    // The packet has 40 bytes.
    table.v4("ihl_15_beyond_packet", frame.clone().ihl(15), MalformedLength);
    table.v4("ihl_11_beyond_packet", frame.clone().ihl(11), MalformedLength);
    table.v4("ihl_15_beyond_packet_of_padded_frame", frame.clone().ihl(15).pad(30), MalformedLength);
    // Header and packet of 60 bytes are possible; the frame has less.
    table.v4("ihl_15_beyond_frame", frame.clone().ihl(15).total_length(60), Truncated);
    // It ends where the packet ends, so TCP does not fit.
    table.v4("ihl_10_is_whole_packet", frame.ihl(10), MalformedLength);
}

fn version(table: &mut Table) {
    let frame = table.ipv4().tcp(SYN).build();
    for version in [0, 5, 6, 15] {
        table.v4(format!("ipv4_version_{version}"), frame.clone().with_version(version), MalformedLength);
    }
    let six = table.ipv6().tcp(SYN).build();
    table.v4("ipv6_packet_with_ethertype_ipv4", six.poke(12, &[0x08, 0x00]), MalformedLength);
}

fn total_length(table: &mut Table) {
    // 40 bytes of packet.
    let frame = table.ipv4().tcp(SYN).build();
    table.v4("total_length_0", frame.clone().total_length(0), MalformedLength);
    table.v4("total_length_19", frame.clone().total_length(19), MalformedLength);
    table.v4("total_length_20_before_tcp", frame.clone().total_length(20), MalformedLength);
    table.v4("total_length_39_in_tcp", frame.clone().total_length(39), MalformedLength);
    table.v4("total_length_41_above_frame", frame.clone().total_length(41), Truncated);
    table.v4("total_length_65535_above_frame", frame.clone().total_length(65_535), Truncated);
    table.v4("padded_to_60", frame.clone().pad(6), TcpSyn);
    let with_options = table.ipv4().ip_options(&NO_OPERATIONS).tcp(SYN).build();
    table.v4("total_length_below_options", with_options.total_length(23), MalformedLength);
    let data = table.ipv4().tcp(ACK).payload(&[0x55; 100]).build();
    table.v4("data", data.clone(), TcpAck);
    table.v4("data_cut_by_1", data.clone().cut(153), Truncated);
    table.v4("data_cut_to_header", data.cut(54), Truncated);
    let large = table.ipv4().tcp(ACK).payload(&[0x55; 1460]).build();
    table.v4("data_of_full_size", large, TcpAck);
    let empty = table.ipv4().protocol(TCP).build();
    table.v4("tcp_without_bytes", empty, MalformedLength);
}

fn options(table: &mut Table) {
    let short = table.ipv4().ip_options(&ROUTER_ALERT).tcp(SYN).build();
    table.v4("ip_options_4", short, TcpSyn);
    let long = table.ipv4().ip_options(&[1; 40]).tcp(SYN).build();
    table.v4("ip_options_40", long.clone(), TcpSyn);
    table.v4("ip_options_40_udp", table.ipv4().ip_options(&[1; 40]).udp().build(), Udp);
    // Options are not opened: what they say does not matter, only where they end.
    let odd = table.ipv4().ip_options(&[68, 255, 3, 0]).tcp(SYN).build();
    table.v4("ip_options_senseless", odd, TcpSyn);
    table.v4("ip_options_cut_at_0", long.clone().cut(34), Truncated);
    table.v4("ip_options_cut_at_20", long.clone().cut(54), Truncated);
    table.v4("ip_options_cut_at_39", long.clone().cut(73), Truncated);
    table.v4("ip_options_cut_packet_at_0", long.clone().cut_packet(34), MalformedLength);
    table.v4("ip_options_cut_packet_at_20", long.clone().cut_packet(54), MalformedLength);
    table.v4("ip_options_cut_packet_at_39", long.cut_packet(73), MalformedLength);
}

fn fragments(table: &mut Table) {
    let v4 = table.ipv4();
    let first = v4.clone().tcp(SYN).payload(&[7; 12]).ip_fragment(0, true);
    table.v4("first_fragment_tcp", first.build(), TcpSyn);
    table.v4("first_fragment_udp", v4.clone().udp().payload(&[7; 16]).ip_fragment(0, true).build(), Udp);
    table.v4("first_fragment_icmp", v4.clone().icmp().payload(&[7; 16]).ip_fragment(0, true).build(), Icmp);
    let gre = v4.clone().protocol(47).payload(&[0; 24]);
    table.v4("first_fragment_gre", gre.ip_fragment(0, true).build(), OtherProtocol);
    // Offset zero and no more: not fragmented, whatever else the field says.
    let whole = v4.clone().tcp(SYN).build();
    table.v4("fragment_field_0", whole.clone().fragment_field(0), TcpSyn);
    table.v4("dont_fragment", whole.clone().fragment_field(0x4000), TcpSyn);
    table.v4("evil_bit", whole.fragment_field(0x8000), TcpSyn);
    for (name, offset, more) in [
        ("later_fragment", 1, true),
        ("last_fragment", 185, false),
        ("fragment_at_4096", 4096, false),
        ("fragment_at_8191", 8191, false),
    ] {
        table.v4(name, v4.clone().tcp(SYN).payload(&[7; 4]).ip_fragment(offset, more).build(), Fragment);
        table.v4(format!("{name}_udp"), v4.clone().udp().ip_fragment(offset, more).build(), Fragment);
    }
    table.v4("later_fragment_icmp", v4.clone().icmp().ip_fragment(2, false).build(), Fragment);
    table.v4("later_fragment_ah", v4.protocol(AUTHENTICATION).ip_fragment(2, false).build(), Fragment);
}

fn cut_fragments(table: &mut Table) {
    let v4 = table.ipv4();
    let first = v4.clone().tcp(SYN).payload(&[7; 12]).ip_fragment(0, true);
    for length in [0, 8, 16, 19] {
        let frame = first.build().cut_packet(34 + length);
        table.v4(format!("first_fragment_cut_in_tcp_at_{length}"), frame, Fragment);
    }
    let optioned = first.tcp(SYN).tcp_options(&[1; 12]).build();
    table.v4("first_fragment_cut_in_tcp_options", optioned.clone().cut_packet(34 + 24), Fragment);
    // What TCP itself states below its minimum is wrong in a fragment too.
    table.v4("first_fragment_data_offset_4", optioned.data_offset(4), MalformedLength);
    let udp = v4.clone().udp().ip_fragment(0, true).build();
    table.v4("first_fragment_cut_in_udp", udp.cut_packet(34 + 7), Fragment);
    let icmp = v4.clone().icmp().ip_fragment(0, true).build();
    table.v4("first_fragment_cut_in_icmp", icmp.cut_packet(34 + 7), Fragment);
    // IP states more than the frame holds: that comes first.
    let later = v4.tcp(SYN).payload(&[7; 12]).ip_fragment(3, true).build();
    table.v4("later_fragment_cut_off", later.clone().cut(50), Truncated);
    table.v4("later_fragment_empty", later.cut_packet(34), Fragment);
}
