//! Ethernet, VLAN tags, and protocols that are not IP.

use tracker_common::classify::Outcome::{NonIp, TcpSyn, Truncated, Udp, Unparsed};

use super::Table;
use crate::frames::build::Recipe;
use crate::frames::numbers::{
    ETHERTYPE_IPX, ETHERTYPE_LLDP, ETHERTYPE_MACSEC, ETHERTYPE_MPLS, QINQ, SYN, VENDOR_TAG, VLAN,
};

pub(super) fn fill(table: &mut Table) {
    ethernet(table);
    tags(table);
    cut_tags(table);
    other_protocols(table);
}

fn ethernet(table: &mut Table) {
    let syn = table.ipv4().tcp(SYN).build();
    table.none("ethernet_cut_at_0", syn.clone().cut(0), Truncated);
    table.none("ethernet_cut_at_6", syn.clone().cut(6), Truncated);
    table.none("ethernet_cut_in_ethertype", syn.cut(13), Truncated);
}

fn tags(table: &mut Table) {
    let v4 = table.ipv4().tcp(SYN);
    let v6 = table.ipv6().tcp(SYN);
    table.v4("vlan_ipv4", v4.clone().tags(&[VLAN]).build(), TcpSyn);
    table.v6("vlan_ipv6", v6.clone().tags(&[VLAN]).build(), TcpSyn);
    table.v4("service_tag_alone", v4.clone().tags(&[QINQ]).build(), TcpSyn);
    table.v4("qinq_ipv4", v4.clone().tags(&[QINQ, VLAN]).build(), TcpSyn);
    table.v6("qinq_ipv6", v6.clone().tags(&[QINQ, VLAN]).build(), TcpSyn);
    table.v4("vlan_in_vlan", v4.clone().tags(&[VLAN, VLAN]).build(), TcpSyn);
    table.v4("service_tag_in_vlan", v4.clone().tags(&[VLAN, QINQ]).build(), TcpSyn);
    table.v4("priority_tag", v4.clone().tags(&[VLAN]).build().poke(14, &[0xe0, 0]), TcpSyn);
    let udp = table.ipv6().udp().payload(b"qinq");
    table.v6("qinq_udp", udp.tags(&[QINQ, VLAN]).build(), Udp);
    table.none("three_tags_ipv4", v4.clone().tags(&[QINQ, VLAN, VLAN]).build(), Unparsed);
    table.none("three_tags_ipv6", v6.tags(&[VLAN, VLAN, VLAN]).build(), Unparsed);
    table.none("third_tag_cut_off", v4.tags(&[QINQ, VLAN, VLAN]).build().cut(22), Unparsed);
}

fn cut_tags(table: &mut Table) {
    let frame = table.ipv4().tcp(SYN).tags(&[QINQ, VLAN]).build();
    for (name, length) in [
        ("first_tag_cut_at_0", 14),
        ("first_tag_cut_at_2", 16),
        ("first_tag_cut_at_3", 17),
        ("second_tag_cut_at_0", 18),
        ("second_tag_cut_at_2", 20),
        ("second_tag_cut_at_3", 21),
    ] {
        table.none(name, frame.clone().cut(length), Truncated);
    }
    table.v4("nothing_behind_two_tags", frame.cut(22), Truncated);
}

fn other_protocols(table: &mut Table) {
    let peers = table.peers;
    table.none("arp", Recipe::arp(&peers).build(), NonIp);
    table.none("arp_in_vlan", Recipe::arp(&peers).tags(&[VLAN]).build(), NonIp);
    table.none("arp_padded", Recipe::arp(&peers).build().pad(18), NonIp);
    table.none("arp_cut_off", Recipe::arp(&peers).build().cut(14), NonIp);
    for (name, ethertype) in [
        ("lldp", ETHERTYPE_LLDP),
        ("ipx", ETHERTYPE_IPX),
        ("mpls", ETHERTYPE_MPLS),
        ("macsec", ETHERTYPE_MACSEC),
        ("vendor_tag_0x9100", VENDOR_TAG),
        ("ethertype_0", 0),
        ("ethertype_ffff", 0xffff),
        // IEEE 802.3: up to 1500 it is a length, and LLC follows.
        ("llc_spanning_tree", 38),
        ("llc_longest", 1500),
    ] {
        table.none(name, Recipe::other(&peers, ethertype).payload(&[0x42; 46]).build(), NonIp);
    }
}
