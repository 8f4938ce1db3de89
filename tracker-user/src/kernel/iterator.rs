//! BPF iterators: programs that the kernel runs over all sockets or all descriptors while a file is read.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
};

use aya::{
    Ebpf, Pod,
    programs::{Iter, iter::IterLink},
};

use super::{error::KernelError, object};

/// Runs an iterator that writes nothing to its end, in the network namespace of the calling thread.
pub fn run(object: &mut Ebpf, name: &'static str, target: &'static str) -> Result<(), KernelError> {
    let io = |source| KernelError::Io { what: format!("run the iterator {target}"), source };
    let mut file = open(link(object, name, target)?).map_err(io)?;
    drive(&mut file).map_err(io)
}

/// A link of an iterator. It belongs to no network namespace until [`open`] makes it an iterator.
pub fn link(object: &mut Ebpf, name: &'static str, target: &'static str) -> Result<IterLink, KernelError> {
    let fail = |source| KernelError::Attach { name, target: target.into(), source };
    let program: &mut Iter = object::program(object, name)?;
    let id = program.attach().map_err(fail)?;
    program.take_link(id).map_err(fail)
}

/// Makes the iterator, in the network namespace of the calling thread.
pub fn open(link: IterLink) -> io::Result<File> {
    link.into_file().map_err(io::Error::other)
}

/// Reads an iterator that writes nothing to its end; reading is what runs the program.
pub fn drive(file: &mut impl Read) -> io::Result<()> {
    let mut buffer = [0; 64];
    while read(file, &mut buffer)? != 0 {}
    Ok(())
}

/// Reads an iterator that writes records of one kind to its end.
pub fn records<T: Pod>(file: &mut impl Read) -> io::Result<Vec<T>> {
    let mut records = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    let mut held = 0;
    loop {
        match read(file, &mut buffer[held..])? {
            0 => return Ok(records),
            read => held += read,
        }
        let whole = held - held % size_of::<T>();
        for bytes in buffer[..whole].chunks_exact(size_of::<T>()) {
            // SAFETY: as many bytes as the record has, any of which are a value of a Pod; unaligned, hence the copy.
            records.push(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() });
        }
        buffer.copy_within(whole..held, 0);
        held -= whole;
    }
}

/// Reads once from an iterator; 0 is its end.
///
/// After a million sockets without a byte the kernel answers EAGAIN, and goes on with the next call
/// (`MAX_ITER_OBJECTS` in `kernel/bpf/bpf_iter.c`).
pub fn read(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            result => return result,
        }
    }
}
