//! What is kept of a SYN on its way to TCP.

use std::collections::HashSet;

use tracker_common::delivery::{SynOrigin, Target, hash, index};

const SOURCE: u64 = 0x0123_4567_89ab_cdef;

#[test]
fn a_syn_is_delivered_where_it_was_sent_to_or_elsewhere() {
    let targets = [Target::listener(0), Target::listener(1024), Target::closed_port(0), Target::closed_port(u16::MAX)];
    let hash = hash(SOURCE, 40_000);
    for sent_to in targets {
        let syn = SynOrigin::received(hash, sent_to);
        assert!(syn.is_of(hash) && syn.target() == sent_to && syn.delivered().is_none(), "{syn:?}");
        for place in targets {
            let syn = SynOrigin::from_bits(syn.to_bits()).delivered_to(place);
            assert!(syn.is_of(hash) && syn.target() == sent_to && syn.delivered() == Some(place), "{syn:?}");
        }
    }
}

#[test]
fn an_entry_that_was_never_written_is_of_no_syn() {
    for port in 0..=u16::MAX {
        assert!(!SynOrigin::from_bits(0).is_of(hash(SOURCE, port)));
    }
}

#[test]
fn ports_of_one_source_have_places_of_their_own() {
    let hashes: HashSet<_> = (0..=u16::MAX).map(|port| hash(SOURCE, port)).collect();
    assert_eq!(hashes.len(), 65_536);
    let places: HashSet<_> = (0..4_096).map(|port| index(hash(SOURCE, port))).collect();
    // 4,096 balls in 65,536 urns hit 65,536 (1 - exp(-1/16)) = 3,971 of them.
    assert!((3_930..4_010).contains(&places.len()), "{}", places.len());
}

#[test]
fn a_target_is_a_slot_or_a_port() {
    for (target, slot, port) in [(Target::listener(7), Some(7), None), (Target::closed_port(80), None, Some(80))] {
        assert_eq!((target.slot(), target.port()), (slot, port));
        assert_eq!(Target::from_number(target.to_number()), Some(target));
    }
    assert_eq!(Target::from_number(0), None);
}
