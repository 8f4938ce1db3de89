//! Which addresses are this host's own: the `local` routing table, kept current by the daemon.

use aya_ebpf::{
    macros::map,
    maps::{HashMap, LpmTrie, lpm_trie::Key},
};
use tracker_common::limits;

#[map]
static LOCAL_ADDRS: HashMap<[u8; 16], u8> = HashMap::with_max_entries(limits::LOCAL_ADDRESSES, 0);

/// `BPF_F_NO_PREALLOC`, which a trie demands.
const NO_PREALLOC: u32 = 1;

#[map]
static LOCAL_PREFIXES: LpmTrie<[u8; 16], u8> = LpmTrie::with_max_entries(limits::LOCAL_PREFIXES, NO_PREALLOC);

/// Whether a packet to `address` is delivered to this host.
#[inline(always)]
pub(crate) fn is_local(address: &[u8; 16]) -> bool {
    LOCAL_ADDRS.get_ptr(address).is_some() || LOCAL_PREFIXES.get(Key::new(128, *address)).is_some()
}
