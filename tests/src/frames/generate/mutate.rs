//! Ways in which a frame goes wrong.

use fastrand::Rng;

use super::recipe::pick;
use crate::frames::build::Frame;

/// Bytes that lengths, versions and protocols are often made of.
const EDGES: [u8; 14] = [0, 1, 2, 4, 5, 6, 8, 15, 17, 43, 44, 51, 60, 255];

/// The frame after one mutation; `other` is a frame to splice with.
pub(super) fn once(random: &mut Rng, frame: Frame, other: &[u8]) -> Frame {
    match random.u8(..16) {
        0..3 => flip(random, frame),
        3 => poke(random, frame),
        4..6 => cut(random, frame),
        6..9 => cut_packet(random, frame),
        9 => extend(random, frame),
        10..15 => field(random, frame),
        _ => splice(random, frame, other),
    }
}

/// An offset in the headers, mostly, or anywhere. A frame may have been cut to nothing.
fn offset(random: &mut Rng, frame: &Frame) -> usize {
    let headers = frame.bytes.len().min(frame.transport + 20);
    let end = if random.u8(..8) == 0 { frame.bytes.len() } else { headers };
    random.usize(..=end)
}

fn flip(random: &mut Rng, frame: Frame) -> Frame {
    let at = offset(random, &frame);
    let Some(byte) = frame.bytes.get(at).copied() else { return frame };
    let bit = 1 << random.u8(..8);
    frame.poke(at, &[byte ^ bit])
}

fn poke(random: &mut Rng, frame: Frame) -> Frame {
    let at = offset(random, &frame);
    let byte = if random.bool() { pick(random, &EDGES) } else { random.u8(..) };
    frame.poke(at, &[byte])
}

fn cut(random: &mut Rng, frame: Frame) -> Frame {
    let length = offset(random, &frame);
    frame.cut(length)
}

/// The packet ends early and says so.
fn cut_packet(random: &mut Rng, frame: Frame) -> Frame {
    let length = if random.bool() { frame.transport + random.usize(..24) } else { offset(random, &frame) };
    frame.cut_packet(length)
}

fn extend(random: &mut Rng, frame: Frame) -> Frame {
    let frame = frame.pad(random.usize(1..64));
    if random.bool() { frame.fit() } else { frame }
}

/// Sets a field that states a length, a version or a kind.
fn field(random: &mut Rng, frame: Frame) -> Frame {
    match random.u8(..12) {
        0 => frame.with_version(random.u8(..16)),
        1 => frame.ihl(random.u8(..16)),
        2 => {
            let length = length(random, &frame);
            frame.total_length(length)
        }
        3 => {
            let length = length(random, &frame).saturating_sub(if random.bool() { 40 } else { 0 });
            frame.payload_length(length)
        }
        4 => frame.data_offset(random.u8(..16)),
        5 => frame.fragment_field(if random.bool() { random.u16(..) } else { 1 << random.u8(..16) }),
        6 => {
            // Behind the fixed IPv6 header: the next header and the length of the first extension header.
            let at = frame.network + 40 + random.usize(..4);
            frame.poke(at, &[pick(random, &EDGES)])
        }
        7 => {
            let at = frame.network + if random.bool() { 6 } else { 9 };
            frame.poke(at, &[pick(random, &EDGES)])
        }
        8 => {
            let ethertype = pick(random, &[0x0800_u16, 0x86dd, 0x8100, 0x88a8, 0x9100, 0x0806]);
            let at = frame.network.saturating_sub(2);
            frame.poke(at, &ethertype.to_be_bytes())
        }
        _ => {
            let at = frame.transport + 13;
            frame.poke(at, &[random.u8(..)])
        }
    }
}

/// A length near the true one, an edge, or any.
fn length(random: &mut Rng, frame: &Frame) -> u16 {
    let truth = u16::try_from(frame.bytes.len().saturating_sub(frame.network)).unwrap_or(u16::MAX);
    match random.u8(..4) {
        0 => truth.wrapping_add(random.u16(..5)).wrapping_sub(2),
        1 => pick(random, &EDGES).into(),
        2 => random.u16(..=truth),
        _ => random.u16(..),
    }
}

/// The beginning of this frame and the end of another.
fn splice(random: &mut Rng, mut frame: Frame, other: &[u8]) -> Frame {
    let at = offset(random, &frame);
    let from = random.usize(..=other.len());
    frame.bytes.truncate(at);
    frame.bytes.extend(&other[from..]);
    frame
}
