//! Many frames by one system call.

use std::{
    array, mem,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr,
};

use anyhow::{Context as _, Result};
use nix::errno::Errno;

use crate::packet_socket::PacketSocket;

/// Frames of one call.
pub const FRAMES: usize = 64;

/// Sends frames of one length that stand one behind the other, [`FRAMES`] at most, each exactly once.
pub fn send(socket: &PacketSocket, frames: &[u8], length: usize) -> Result<()> {
    let mut rest = frames;
    while !rest.is_empty() {
        match send_some(socket, rest, length) {
            Ok(sent) => rest = &rest[sent * length..],
            // A frame that a full queue refused was not sent: it is offered again.
            Err(Errno::ENOBUFS | Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => return Err(error).context("send frames"),
        }
    }
    Ok(())
}

/// Sends the first frames, and says how many.
fn send_some(socket: &PacketSocket, frames: &[u8], length: usize) -> Result<usize, Errno> {
    let count = (frames.len() / length).min(FRAMES);
    let mut parts: [libc::iovec; FRAMES] = array::from_fn(|index| match frames.chunks_exact(length).nth(index) {
        Some(frame) => libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: length },
        None => libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 },
    });
    // SAFETY: mmsghdr is made of integers and pointers, of which zero is a value.
    let mut headers: [libc::mmsghdr; FRAMES] = unsafe { mem::zeroed() };
    for (header, part) in headers.iter_mut().zip(&mut parts) {
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
    }
    let vector_length = libc::c_uint::try_from(count).expect("64 at most");
    // SAFETY: the first `count` headers, of the FRAMES that live here, point each to an iovec that lives here too, and
    // this to `length` bytes of `frames`, which sendmmsg only reads. No name, no control data: those pointers are null.
    let sent = unsafe { libc::sendmmsg(socket.as_fd().as_raw_fd(), headers.as_mut_ptr(), vector_length, 0) };
    Errno::result(sent).map(|sent| usize::try_from(sent).expect("a count"))
}
