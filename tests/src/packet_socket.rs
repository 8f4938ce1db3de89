//! Raw frames on one device (packet(7)).

use std::{
    fs::File,
    io::{Read as _, Write as _},
    mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use nix::{errno::Errno, net::if_::if_nametoindex};

use crate::namespace::Namespace;

/// A socket that sends and receives the frames of one device.
#[derive(Debug)]
pub struct PacketSocket {
    file: File,
}

impl PacketSocket {
    /// A socket that only sends.
    pub fn sender(namespace: &Namespace, device: &str) -> Result<Self> {
        namespace.enter(|| Self::open(device, 0)).with_context(|| format!("packet socket on {device}"))
    }

    /// A socket that only sends, past the device's queue: what it sends has arrived when the call returns.
    pub fn flooder(namespace: &Namespace, device: &str) -> Result<Self> {
        let socket = Self::sender(namespace, device)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)?;
        Ok(socket)
    }

    /// A socket that sends and receives, with a `virtio_net_hdr` ahead of each frame that says what of its checksum is
    /// still to be done; what it sends does not come back to it.
    pub fn relay(namespace: &Namespace, device: &str) -> Result<Self> {
        namespace.enter(|| {
            let socket = Self::open(device, libc::ETH_P_ALL).with_context(|| format!("packet socket on {device}"))?;
            socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
            socket.set(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
            socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 32 << 20)?;
            Ok(socket)
        })
    }

    /// Opens a socket in the namespace of the calling thread.
    fn open(device: &str, protocol: libc::c_int) -> Result<Self> {
        let index = if_nametoindex(device).with_context(|| format!("no device {device}"))?;
        let protocol = u16::try_from(protocol)?.to_be();
        // A socket of protocol 0 receives nothing until it is bound to one, so none of another device's frames.
        // SAFETY: socket(2) takes no pointer.
        let descriptor = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        let descriptor = Errno::result(descriptor)?;
        // SAFETY: the kernel has just returned this descriptor; nothing else owns it.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
        // SAFETY: sockaddr_ll is made of integers, of which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET)?;
        address.sll_protocol = protocol;
        address.sll_ifindex = index.cast_signed();
        let length = u32::try_from(mem::size_of_val(&address))?;
        // SAFETY: the pointer and the length are those of a live sockaddr_ll.
        Errno::result(unsafe { libc::bind(file.as_raw_fd(), (&raw const address).cast(), length) })?;
        Ok(Self { file })
    }

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> Result<()> {
        let length = u32::try_from(mem::size_of_val(&value))?;
        // SAFETY: the pointer and the length are those of a live c_int.
        let result =
            unsafe { libc::setsockopt(self.file.as_raw_fd(), level, option, (&raw const value).cast(), length) };
        Errno::result(result).with_context(|| format!("option {option} of a packet socket"))?;
        Ok(())
    }

    /// Sends one frame.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = (&self.file).write(frame).context("send a frame")?;
        anyhow::ensure!(sent == frame.len(), "{sent} of {} bytes sent", frame.len());
        Ok(())
    }

    /// Sends many frames, one after the other.
    pub fn send_all<'a>(&self, frames: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        frames.into_iter().try_for_each(|frame| self.send(frame))
    }

    /// Receives one frame, waiting for it.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a mut [u8]> {
        let received = (&self.file).read(buffer).context("receive a frame")?;
        Ok(&mut buffer[..received])
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// `linux/if_packet.h`, since Linux 4.20.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
