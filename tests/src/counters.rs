//! The kernel's own counters of a namespace, read often.

use std::{fs::File, os::unix::fs::FileExt as _};

use anyhow::{Context as _, Result};

use crate::namespace::Namespace;

/// Counters of a namespace. The files stay those of the namespace whichever thread reads them.
#[derive(Debug)]
pub struct Counters {
    tcp: File,
    extended: File,
    devices: File,
}

impl Counters {
    /// Opens them.
    pub fn of(namespace: &Namespace) -> Result<Self> {
        let open = |name: &str| {
            namespace.enter(|| File::open(format!("/proc/thread-self/net/{name}"))).with_context(|| name.to_owned())
        };
        Ok(Self { tcp: open("snmp")?, extended: open("netstat")?, devices: open("dev")? })
    }

    /// A counter of the group `Tcp`.
    pub fn tcp(&self, name: &str) -> Result<u64> {
        counter(&read(&self.tcp)?, "Tcp", name)
    }

    /// A counter of the group `TcpExt`.
    pub fn extended(&self, name: &str) -> Result<u64> {
        counter(&read(&self.extended)?, "TcpExt", name)
    }

    /// SYNs that sockets have sent, repeats included.
    pub fn syns_sent(&self) -> Result<u64> {
        Ok(self.tcp("ActiveOpens")? + self.extended("TCPSynRetrans")?)
    }

    /// Frames that a device received and that were dropped before anyone saw them, because the backlog was full.
    pub fn dropped(&self, device: &str) -> Result<u64> {
        let text = read(&self.devices)?;
        let prefix = format!("{device}:");
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix(&prefix));
        let dropped = line.with_context(|| format!("no device {device}"))?.split_whitespace().nth(3);
        Ok(dropped.context("a short line")?.parse()?)
    }
}

fn read(file: &File) -> Result<String> {
    let mut bytes = vec![0; 32 << 10];
    let mut length = 0;
    loop {
        match file.read_at(&mut bytes[length..], u64::try_from(length)?)? {
            0 => break,
            read => length += read,
        }
    }
    bytes.truncate(length);
    Ok(String::from_utf8(bytes)?)
}

fn counter(text: &str, group: &str, name: &str) -> Result<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
    let (names, values) = (lines.next().context("no such group")?, lines.next().context("no values")?);
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs.find(|(candidate, _)| *candidate == name).with_context(|| format!("no {group} {name}"))?;
    Ok(value.parse()?)
}
