//! Writes the sockets that hold a port, for the passes of `programs/socket_dump_*.rs`.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::seq_file,
    helpers::{bpf_jiffies64, generated::bpf_seq_write},
    macros::map,
    maps::Array,
};
use tracker_common::{
    socket::{NO_BUCKET, SocketQuery, SocketRecord},
    state::TIME_WAIT,
};

use crate::{
    fields::{self, Memory, Typed},
    sightings,
};

#[map]
static SOCKET_QUERY: Array<SocketQuery> = Array::with_max_entries(1, 0);

/// Writes a socket of an iterator if its local port is one of those that the daemon asks for; `fill` adds to the record
/// what only some kinds of sockets have, and returns false for one that is left out after all.
///
/// # Safety
/// `meta` is the `bpf_iter_meta` of the running iterator, `socket` a `sock_common`.
#[inline(always)]
pub(crate) unsafe fn dump(
    meta: *const u8,
    socket: *const u8,
    protocol: u16,
    fill: impl FnOnce(&mut SocketRecord, &SocketQuery) -> bool,
) {
    // SAFETY: the caller's `meta` and `socket`.
    unsafe {
        let (Some(family), Some(query)) = (fields::family::<Typed>(socket), SOCKET_QUERY.get(0)) else { return };
        let port = Typed::read::<u16>(socket, &fields::OFF_NUM);
        if port == 0 || port < query.low || port > query.high {
            return;
        }
        let mut record = record(socket, family, protocol);
        if fill(&mut record, query) {
            write(meta, &record);
        }
    }
}

/// What all kinds of sockets have.
///
/// # Safety
/// `socket` is a `sock_common` of that family.
#[inline(always)]
unsafe fn record(socket: *const u8, family: usize, protocol: u16) -> SocketRecord {
    // SAFETY: the caller's `socket`.
    unsafe {
        let reuse: u8 = Typed::read(socket, &fields::OFF_REUSE);
        let reuse_port: u8 = Typed::read(socket, &fields::OFF_REUSEPORT);
        let ipv6_only: u8 = Typed::read(socket, &fields::OFF_IPV6ONLY);
        SocketRecord {
            local: fields::local_address::<Typed>(socket, family),
            remote: fields::remote_address::<Typed>(socket, family),
            left: u32::MAX,
            device: Typed::read(socket, &fields::OFF_DEVICE),
            local_port: Typed::read(socket, &fields::OFF_NUM),
            remote_port: u16::from_be(Typed::read(socket, &fields::OFF_DPORT)),
            protocol,
            state: Typed::read(socket, &fields::OFF_STATE),
            ipv6: family as u8,
            reuse_address: reuse >> (fields::REUSE_BIT.load() & 7) & 0xf,
            reuse_port: reuse_port >> (fields::REUSEPORT_BIT.load() & 7) & 1,
            ipv6_only: ipv6_only >> (fields::IPV6ONLY_BIT.load() & 7) & 1,
            fastreuse: NO_BUCKET,
            fastreuseport: NO_BUCKET,
            ..SocketRecord::default()
        }
    }
}

/// What the bucket of the port says.
///
/// # Safety
/// `bucket` is an `inet_bind_bucket` or null.
#[inline(always)]
pub(crate) unsafe fn bucket(record: &mut SocketRecord, bucket: *const u8) {
    if !bucket.is_null() {
        // SAFETY: the caller's `bucket`.
        unsafe {
            record.fastreuse = Typed::read(bucket, &fields::OFF_FASTREUSE);
            record.fastreuseport = Typed::read(bucket, &fields::OFF_FASTREUSEPORT);
        }
    }
}

/// What a minisocket has besides.
///
/// # Safety
/// `minisocket` is a `tcp_timewait_sock`.
#[inline(always)]
pub(crate) unsafe fn waiting(record: &mut SocketRecord, minisocket: *const u8, query: &SocketQuery) {
    // SAFETY: the caller's `minisocket`; the helper has no arguments.
    unsafe {
        record.state = Typed::read(minisocket, &fields::OFF_TW_SUBSTATE);
        bucket(record, Typed::read(minisocket, &fields::OFF_TW_BUCKET));
        let left = Typed::read::<u64>(minisocket, &fields::OFF_TW_EXPIRES).wrapping_sub(bpf_jiffies64());
        record.left = if left > u64::from(u32::MAX >> 1) { 0 } else { left as u32 };
        let stamp = Typed::read::<u32>(minisocket, &fields::OFF_TW_STAMP);
        if record.state == TIME_WAIT && stamp != 0 {
            record.stamped = 1;
            record.recyclable = u8::from(sightings::is_old(minisocket, stamp, query.reuse_delay_ms));
        }
    }
}

/// Writes a socket if the query is for it, unless there were too many.
///
/// # Safety
/// `meta` is the `bpf_iter_meta` of the running iterator.
#[inline(always)]
#[expect(clippy::cast_ptr_alignment, reason = "a structure of the kernel, which is aligned")]
unsafe fn write(meta: *const u8, record: &SocketRecord) {
    let Some(query) = SOCKET_QUERY.get_ptr_mut(0) else { return };
    // SAFETY: an entry of a map; one pass runs at a time. `seq` is the first member of `bpf_iter_meta`, and the length
    // is that of the record.
    unsafe {
        let to_destination = record.remote_port == (*query).destination_port && record.remote == (*query).destination;
        let bound = record.fastreuse >= 0 || record.fastreuseport >= 0;
        if (*query).all == 0 && !to_destination && !bound {
            return;
        }
        (*query).met += 1;
        if (*query).met > (*query).most {
            return;
        }
        let seq = *meta.cast::<*mut seq_file>();
        bpf_seq_write(seq, core::ptr::from_ref(record).cast::<c_void>(), size_of::<SocketRecord>() as u32);
    }
}
