//! Which addresses are this host's own: the `local` routing table, kept current by the daemon.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, lpm_trie::Key},
};
use tracker_common::{
    hash::{self, AddrWords},
    limits,
};

/// Holds most of what `LOCAL_ADDRS` does, and is asked first: a hash map costs more than all the rest that is done with
/// a SYN. The daemon writes both halves of an address, but not at one moment: a SYN of that moment may be taken for one
/// to another host, or the reverse.
#[map]
static LOCAL_PLACES: Array<AddrWords> = Array::with_max_entries(limits::LOCAL_PLACES, 0);

#[map]
static LOCAL_ADDRS: HashMap<[u8; 16], u8> = HashMap::with_max_entries(limits::LOCAL_ADDRESSES, 0);

/// `BPF_F_NO_PREALLOC`, which a trie demands.
const NO_PREALLOC: u32 = 1;

#[map]
static LOCAL_PREFIXES: LpmTrie<[u8; 16], u8> = LpmTrie::with_max_entries(limits::LOCAL_PREFIXES, NO_PREALLOC);

/// Whether a packet to `address` is delivered to this host.
#[inline(always)]
pub(crate) fn is_local(address: AddrWords) -> bool {
    let place = LOCAL_PLACES.get(hash::bucket_index(address, 0, limits::LOCAL_PLACES.ilog2()));
    // Free places are zero, which is no address of a host.
    if place.is_some_and(|local| *local == address) && address != [0; 2] {
        return true;
    }
    let address = hash::to_octets(address);
    LOCAL_ADDRS.get_ptr(address).is_some() || LOCAL_PREFIXES.get(Key::new(128, address)).is_some()
}
