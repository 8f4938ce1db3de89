//! Hashes of sources and connections: spread, and different for what differs.

use tracker_common::{
    hash::{AddrWords, bucket_index, flow, mapped, scramble, source, to_octets, to_words},
    listener,
};

#[test]
fn one_source_is_spread_over_all_places() {
    let mut hit = [false; 4096];
    for number in 0..4096 {
        hit[scramble(0x1234_5678_9abc_def0, number) as usize % 4096] = true;
    }
    // A random choice leaves 1/e of as many places empty.
    let empty = hit.iter().filter(|hit| !**hit).count();
    assert!((4096 / 4..4096 / 2).contains(&empty), "{empty} of 4096 places are empty");
}

#[test]
fn another_key_address_or_port_gives_another_hash() {
    let v4 = |address: [u8; 4]| mapped(u32::from_ne_bytes(address));
    let address = v4([192, 0, 2, 1]);
    let hash = source(1, address);
    assert_ne!(hash, source(2, address));
    assert_ne!(hash, source(1, v4([192, 0, 2, 2])));
    let one = flow(hash, address, 1024, 80);
    assert_ne!(one, flow(hash, address, 1025, 80));
    assert_ne!(one, flow(hash, address, 1024, 81));
    assert_ne!(one, flow(hash, v4([192, 0, 2, 3]), 1024, 80));
}

#[test]
fn neighbours_have_places_of_their_own() {
    // As many as there are places: a random choice would hit 632 of 1000.
    let spread = |places: &dyn Fn(u16) -> (AddrWords, u16)| {
        let mut hit = [false; 1024];
        for number in 0..1024 {
            let (address, port) = places(number);
            hit[bucket_index(address, port.into(), 10) as usize] = true;
        }
        hit.iter().filter(|hit| **hit).count()
    };
    let v4 = |host: u16| mapped(u32::from_ne_bytes([10, 0, host.to_be_bytes()[0], host.to_be_bytes()[1]]));
    let v6 = |host: u16| {
        let [c, d] = host.to_be_bytes();
        to_words(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, c, d])
    };
    for hit in [
        spread(&|host| (v4(host), 443)),
        spread(&|host| (v6(host), 443)),
        spread(&|port| (v4(7), port)),
        spread(&|port| (v6(7), port)),
    ] {
        assert!(hit > 600, "{hit} of 1024 places are taken");
    }
}

#[test]
fn halves_are_those_of_the_address() {
    let octets = [192, 0, 2, 1];
    assert_eq!(to_words(&listener::mapped(octets)), mapped(u32::from_ne_bytes(octets)));
    assert_eq!(to_octets(mapped(u32::from_ne_bytes(octets))), listener::mapped(octets));
}

/// Addresses whose halves differ in bits that undo each other where the first half goes through too little.
#[test]
fn no_set_of_addresses_collides_under_every_key() {
    for key in [0x0123_4567_89ab_cdef, 0xfeed_5eed_0bad_cafe, 0x1111_2222_3333_4444] {
        let mut seen = [0u64; 1024];
        let set = (0..32u64).flat_map(|a| (0..32u64).map(move |b| [b << 56 ^ b << 24, a << 56]));
        for (hash, place) in set.map(|halves| source(key, halves)).zip(&mut seen) {
            *place = hash;
        }
        seen.sort_unstable();
        assert!(seen.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
