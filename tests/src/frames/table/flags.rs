//! TCP's flags, in both families.

use tracker_common::classify::Outcome::{
    self, MalformedNoFlags, MalformedSynFin, MalformedSynRst, TcpAck, TcpFin, TcpOther, TcpRst, TcpSyn, TcpSynAck,
};

use super::Table;
use crate::frames::numbers::{ACK, CWR, ECE, FIN, PSH, RST, SYN, URG};

const FLAGS: [(&str, u8, Outcome); 43] = [
    ("syn", SYN, TcpSyn),
    ("syn_ecn_setup", SYN | ECE | CWR, TcpSyn),
    ("syn_ece", SYN | ECE, TcpSyn),
    ("syn_psh", SYN | PSH, TcpSyn),
    ("syn_urg", SYN | URG, TcpSyn),
    ("syn_psh_urg_ece_cwr", SYN | PSH | URG | ECE | CWR, TcpSyn),
    ("syn_ack", SYN | ACK, TcpSynAck),
    ("syn_ack_ecn_setup", SYN | ACK | ECE, TcpSynAck),
    ("syn_ack_psh", SYN | ACK | PSH, TcpSynAck),
    ("syn_ack_urg", SYN | ACK | URG, TcpSynAck),
    ("ack", ACK, TcpAck),
    ("ack_psh", ACK | PSH, TcpAck),
    ("ack_urg", ACK | URG, TcpAck),
    ("ack_psh_urg", ACK | PSH | URG, TcpAck),
    ("ack_ece", ACK | ECE, TcpAck),
    ("ack_cwr", ACK | CWR, TcpAck),
    ("ack_psh_ece_cwr", ACK | PSH | ECE | CWR, TcpAck),
    ("fin", FIN, TcpFin),
    ("fin_ack", FIN | ACK, TcpFin),
    ("fin_psh_ack", FIN | PSH | ACK, TcpFin),
    ("fin_ack_ece", FIN | ACK | ECE, TcpFin),
    ("xmas", FIN | PSH | URG, TcpFin),
    ("rst", RST, TcpRst),
    ("rst_ack", RST | ACK, TcpRst),
    ("rst_psh_ack", RST | PSH | ACK, TcpRst),
    ("rst_fin", RST | FIN, TcpRst),
    ("rst_fin_ack", RST | FIN | ACK, TcpRst),
    ("psh", PSH, TcpOther),
    ("urg", URG, TcpOther),
    ("psh_urg", PSH | URG, TcpOther),
    ("psh_ece_cwr", PSH | ECE | CWR, TcpOther),
    ("none", 0, MalformedNoFlags),
    ("ece_alone", ECE, MalformedNoFlags),
    ("cwr_alone", CWR, MalformedNoFlags),
    ("ece_cwr_alone", ECE | CWR, MalformedNoFlags),
    ("syn_fin", SYN | FIN, MalformedSynFin),
    ("syn_fin_ack", SYN | FIN | ACK, MalformedSynFin),
    ("syn_fin_psh_urg", SYN | FIN | PSH | URG, MalformedSynFin),
    ("syn_fin_rst", SYN | FIN | RST, MalformedSynFin),
    ("all", 0xff, MalformedSynFin),
    ("syn_rst", SYN | RST, MalformedSynRst),
    ("syn_rst_ack", SYN | RST | ACK, MalformedSynRst),
    ("syn_rst_psh_urg_ece_cwr", SYN | RST | PSH | URG | ECE | CWR, MalformedSynRst),
];

pub(super) fn fill(table: &mut Table) {
    for (name, flags, outcome) in FLAGS {
        let v4 = table.ipv4().tcp(flags).build();
        let v6 = table.ipv6().tcp(flags).build();
        table.v4(format!("flags_{name}_ipv4"), v4, outcome);
        table.v6(format!("flags_{name}_ipv6"), v6, outcome);
    }
    // The low nibble beside the data offset is reserved (and the lowest bit AE, of accurate ECN).
    let reserved = table.ipv4().tcp(SYN).build();
    table.v4("reserved_bits_syn", reserved.poke(46, &[0x5f]), TcpSyn);
    let nothing = table.ipv6().tcp(0).build();
    table.v6("reserved_bits_alone", nothing.poke(66, &[0x5f]), MalformedNoFlags);
}
