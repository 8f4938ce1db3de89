//! TCP's and UDP's headers, ICMP, and other protocols.

use tracker_common::classify::Outcome::{Icmp, MalformedLength, OtherProtocol, TcpAck, TcpSyn, Truncated, Udp};

use super::Table;
use crate::frames::build::Frame;
use crate::frames::numbers::{
    ACK, AUTHENTICATION, ESP, FRAGMENT, GRE, ICMP, ICMPV6, IPIP, IPV6, NO_NEXT_HEADER, SCTP, SYN,
};

/// Maximum segment size, SACK permitted, timestamps, no operation, window scale: Linux's own, 20 bytes.
const LINUX_OPTIONS: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

pub(super) fn fill(table: &mut Table) {
    tcp_cut(table);
    tcp_options(table);
    data_offset(table);
    udp(table);
    icmp(table);
    others(table);
}

/// Adds a header cut at `at`, for both families: by the end of the frame, and by the end of the packet.
fn cut(table: &mut Table, name: &str, v4: &Frame, v6: &Frame, at: &[usize]) {
    for at in at {
        let (end4, end6) = (v4.transport + at, v6.transport + at);
        table.v4(format!("{name}_cut_at_{at}_ipv4"), v4.clone().cut(end4), Truncated);
        table.v6(format!("{name}_cut_at_{at}_ipv6"), v6.clone().cut(end6), Truncated);
        table.v4(format!("{name}_cut_packet_at_{at}_ipv4"), v4.clone().cut_packet(end4), MalformedLength);
        table.v6(format!("{name}_cut_packet_at_{at}_ipv6"), v6.clone().cut_packet(end6), MalformedLength);
        // Padding of the frame is no part of the packet.
        let padded = v4.clone().cut_packet(end4).pad(30);
        table.v4(format!("{name}_cut_packet_at_{at}_padded"), padded, MalformedLength);
    }
}

fn tcp_cut(table: &mut Table) {
    let (v4, v6) = (table.ipv4().tcp(SYN).build(), table.ipv6().tcp(SYN).build());
    cut(table, "tcp", &v4, &v6, &[0, 10, 13, 19]);
}

fn tcp_options(table: &mut Table) {
    let v4 = table.ipv4().tcp(SYN).tcp_options(&LINUX_OPTIONS).build();
    let v6 = table.ipv6().tcp(SYN).tcp_options(&LINUX_OPTIONS).build();
    table.v4("tcp_options_of_linux_ipv4", v4.clone(), TcpSyn);
    table.v6("tcp_options_of_linux_ipv6", v6.clone(), TcpSyn);
    cut(table, "tcp_options", &v4, &v6, &[20, 30, 39]);
    let longest = table.ipv4().tcp(SYN).tcp_options(&[1; 40]).build();
    table.v4("tcp_options_40", longest, TcpSyn);
    // Options are not opened.
    let senseless = table.ipv6().tcp(SYN).tcp_options(&[2, 0, 0xff, 0xff]).build();
    table.v6("tcp_options_senseless", senseless, TcpSyn);
    let data = table.ipv4().tcp(ACK).tcp_options(&[1; 12]).payload(&[0; 10]).build();
    table.v4("tcp_options_and_data", data, TcpAck);
}

fn data_offset(table: &mut Table) {
    let (v4, v6) = (table.ipv4().tcp(SYN).build(), table.ipv6().tcp(SYN).build());
    for words in [0, 1, 4] {
        table.v4(format!("data_offset_{words}_ipv4"), v4.clone().data_offset(words), MalformedLength);
        table.v6(format!("data_offset_{words}_ipv6"), v6.clone().data_offset(words), MalformedLength);
    }
    for words in [6, 15] {
        table.v4(format!("data_offset_{words}_beyond_ipv4"), v4.clone().data_offset(words), MalformedLength);
        table.v6(format!("data_offset_{words}_beyond_ipv6"), v6.clone().data_offset(words), MalformedLength);
    }
    table.v4("data_offset_15_beyond_padded", v4.data_offset(15).pad(40), MalformedLength);
    // With 40 bytes of data it takes them for options, which is possible.
    let data = table.ipv4().tcp(SYN).payload(&[1; 40]).build();
    table.v4("data_offset_15_over_data", data.data_offset(15), TcpSyn);
}

fn udp(table: &mut Table) {
    let v4 = table.ipv4().udp().build();
    let v6 = table.ipv6().udp().build();
    table.v4("udp_empty_ipv4", v4.clone(), Udp);
    table.v6("udp_empty_ipv6", v6.clone(), Udp);
    table.v4("udp_with_data", table.ipv4().udp().payload(b"data").build(), Udp);
    cut(table, "udp", &v4, &v6, &[0, 4, 7]);
    // Only lengths of IP and TCP are judged; UDP's says nothing about where headers are.
    table.v4("udp_length_field_0", v4.poke(38, &[0, 0]), Udp);
    table.v6("udp_length_field_65535", v6.poke(58, &[0xff, 0xff]), Udp);
}

fn icmp(table: &mut Table) {
    let v4 = table.ipv4().icmp().payload(&[8; 56]).build();
    let v6 = table.ipv6().icmpv6().payload(&[8; 56]).build();
    table.v4("icmp_echo", v4.clone(), Icmp);
    table.v6("icmpv6_echo", v6.clone(), Icmp);
    cut(table, "icmp", &v4, &v6, &[0, 4, 7]);
    table.v4("icmp_header_alone", table.ipv4().icmp().build(), Icmp);
    table.v6("icmpv6_header_alone", table.ipv6().icmpv6().build(), Icmp);
    table.v4("icmpv6_in_ipv4", table.ipv4().protocol(ICMPV6).payload(&[128; 8]).build(), OtherProtocol);
    table.v6("icmp_in_ipv6", table.ipv6().protocol(ICMP).payload(&[8; 8]).build(), OtherProtocol);
}

fn others(table: &mut Table) {
    for (name, protocol) in [("sctp", SCTP), ("gre", GRE), ("ipv4_tunnel", IPIP), ("ipv6_tunnel", IPV6), ("p255", 255)]
    {
        let v4 = table.ipv4().protocol(protocol).payload(&[0x45; 32]).build();
        let v6 = table.ipv6().protocol(protocol).payload(&[0x60; 32]).build();
        table.v4(format!("{name}_in_ipv4"), v4.clone(), OtherProtocol);
        table.v6(format!("{name}_in_ipv6"), v6, OtherProtocol);
        table.v4(format!("{name}_without_bytes"), v4.clone().cut_packet(34), OtherProtocol);
        table.v4(format!("{name}_cut_off"), v4.cut(40), Truncated);
    }
    // IPv6's extension headers are protocols like any other in IPv4, where nothing walks them.
    for (name, protocol) in [
        ("hop_by_hop", 0),
        ("fragment_header", FRAGMENT),
        ("ah", AUTHENTICATION),
        ("esp", ESP),
        ("no_next_header", NO_NEXT_HEADER),
    ] {
        let frame = table.ipv4().protocol(protocol).payload(&[6, 0, 0, 0, 0, 0, 0, 0]).build();
        table.v4(format!("{name}_in_ipv4"), frame, OtherProtocol);
    }
}
