//! Keyed hashes of addresses and connections, the same for packets and for sockets.
//!
//! The key is drawn at each start of the daemon, so that nobody can choose addresses that collide. The mixing is that
//! of `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014), whose every output bit depends on every input bit.

const K1: u64 = 0x9e37_79b9_7f4a_7c15;
const K2: u64 = 0xbf58_476d_1ce4_e5b9;
const K3: u64 = 0x94d0_49bb_1331_11eb;

#[inline(always)]
fn mix(key: u64, first: u64, second: u64) -> u64 {
    let mut x = (first ^ key).wrapping_mul(K1);
    x ^= x >> 32;
    // Keyed a second time before the second half comes in: who sends both halves could otherwise undo with one what he
    // did with the other, under any key.
    x = (x ^ key.rotate_left(32)).wrapping_mul(K3);
    x ^= x >> 29;
    x = (x ^ second).wrapping_mul(K2);
    x ^= x >> 29;
    x = x.wrapping_mul(K3);
    x ^ (x >> 32)
}

/// An address as two words, as they lie in memory: two registers are quicker than sixteen bytes.
pub type AddrWords = [u64; 2];

/// An address as two words.
#[inline(always)]
#[must_use]
pub fn to_words(address: &[u8; 16]) -> AddrWords {
    // SAFETY: both are 16 bytes without padding, and any bytes are a value of either.
    unsafe { core::mem::transmute::<[u8; 16], AddrWords>(*address) }
}

/// The address of two words.
#[inline(always)]
#[must_use]
pub fn to_octets(words: AddrWords) -> [u8; 16] {
    // SAFETY: both are 16 bytes without padding, and any bytes are a value of either.
    unsafe { core::mem::transmute::<AddrWords, [u8; 16]>(words) }
}

/// An IPv4 address as two words, in mapped form, given as it lies in memory.
#[inline(always)]
#[must_use]
pub const fn mapped(address: u32) -> AddrWords {
    let low = if cfg!(target_endian = "little") {
        0xffff_0000 | (address as u64) << 32
    } else {
        0xffff_0000_0000 | address as u64
    };
    [0, low]
}

/// Hash of a source address.
#[inline(always)]
#[must_use]
pub fn source(key: u64, [high, low]: AddrWords) -> u64 {
    // The lower half first: it holds all of an IPv4 address, and so goes through every multiplication.
    mix(key, low, high)
}

/// Hash of a connection, from that of its source. Of the destination only the lower half counts: one listener's
/// addresses differ there.
#[inline(always)]
#[must_use]
pub fn flow(source: u64, [_, low]: AddrWords, source_port: u16, destination_port: u16) -> u64 {
    mix(source, low, u64::from(source_port) << 16 | u64::from(destination_port))
}

/// Index of an address, with a port or without, in a table of 2^`bits` entries. Without a key and with one
/// multiplication (Knuth, TAOCP 3, 6.4): for tables in which this host's own addresses and listeners are entered, and
/// where two at one place cost some time and nothing else. Who may listen on this host can bring that about, who sends
/// packets to it cannot.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the upper bits, fewer than 32")]
pub const fn bucket_index([high, low]: AddrWords, port: u32, bits: u32) -> u32 {
    let x = high ^ low ^ port as u64;
    // The octets that differ most often stand highest, where multiplication spreads least.
    ((x ^ (x >> 32)).wrapping_mul(K1) >> (64 - bits)) as u32
}

/// Scatters the SYNs of one source, counted by `number`, as if at random; nobody foresees it who does not know the key.
/// A random number from the kernel would cost more.
#[inline(always)]
#[must_use]
pub const fn scramble(hash: u64, number: u64) -> u32 {
    let x = hash.wrapping_add(number.wrapping_mul(K1));
    ((x ^ (x >> 32)).wrapping_mul(K2) >> 32) as u32
}
