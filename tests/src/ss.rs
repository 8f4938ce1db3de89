//! What ss(8) says, in the names of tracker.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

use crate::{Family, command, namespace::Namespace};

/// Sockets by state, those that are not zero.
pub type Counts = BTreeMap<String, u64>;

/// Counts the sockets of a family with `ss -tan`.
pub fn count(namespace: &Namespace, family: Family) -> Result<Counts> {
    let mut counts = Counts::new();
    for line in lines(namespace, family, "-tan")? {
        let state = line.split_whitespace().next().context("an empty line of ss")?;
        *counts.entry(name(state)?.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

/// A listening socket of `ss -ltn`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenQueue {
    /// Address and port as ss writes them.
    pub local: String,
    /// `Recv-Q`: connections that wait for `accept()`.
    pub accept_queue: u32,
    /// `Send-Q`: their limit.
    pub accept_queue_max: u32,
}

/// The listening sockets of a family.
pub fn listeners(namespace: &Namespace, family: Family) -> Result<Vec<ListenQueue>> {
    let parse = |line: String| -> Result<ListenQueue> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, accept_queue, accept_queue_max, local, ..] = words[..] else { bail!("a short line of ss: {line}") };
        Ok(ListenQueue {
            local: local.to_owned(),
            accept_queue: accept_queue.parse()?,
            accept_queue_max: accept_queue_max.parse()?,
        })
    };
    lines(namespace, family, "-ltn")?.into_iter().map(parse).collect()
}

fn lines(namespace: &Namespace, family: Family, what: &str) -> Result<Vec<String>> {
    let family = match family {
        Family::Ipv4 => "-4",
        Family::Ipv6 => "-6",
    };
    let mut ss = namespace.command("ss");
    ss.args(["-H", what, family]);
    Ok(command::stdout_of(&mut ss)?.lines().map(str::to_owned).collect())
}

/// tracker's name of a state of ss. ss shows half-open requests and the rare socket in `syn_recv` alike, as `SYN-RECV`;
/// where a case has no simultaneous open they are all half-open.
fn name(state: &str) -> Result<&'static str> {
    Ok(match state {
        "ESTAB" => "established",
        "SYN-SENT" => "syn_sent",
        "SYN-RECV" => "half_open",
        "FIN-WAIT-1" => "fin_wait1",
        "FIN-WAIT-2" => "fin_wait2",
        "TIME-WAIT" => "time_wait",
        "UNCONN" => "close",
        "CLOSE-WAIT" => "close_wait",
        "LAST-ACK" => "last_ack",
        "LISTEN" => "listen",
        "CLOSING" => "closing",
        other => bail!("ss shows a state {other}"),
    })
}
