//! Why nobody can connect to a listening address: the answer.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::Display;

use super::SocketQueues;
use crate::process::Process;

/// Why nobody can connect to an address and port of this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListenAnswer {
    /// Address asked about; the wildcard for all.
    pub address: IpAddr,
    /// Port asked about.
    pub port: u16,
    /// How long was watched, seconds.
    pub watched_seconds: f64,
    /// The one thing that keeps connections from being made, or that nothing does.
    pub cause: ListenCause,
    /// Whether something on this host, or on the way back from it, keeps connections from being made. False where they
    /// are served elsewhere: at another port, by a transparent proxy, in another namespace.
    pub blocked: bool,
    /// One line for an operator.
    pub summary: String,
    /// What to do, the remedy of the cause first.
    pub advice: Vec<String>,
    /// What was found on each step of the way of a SYN, in its order.
    pub steps: Vec<Step>,
    /// The figures that this rests on, of the time of the watch.
    pub figures: ListenFigures,
    /// What else is good to know, and what is not known.
    pub notes: Vec<String>,
}

/// What keeps connections from being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ListenCause {
    /// Nothing: handshakes were completed.
    Fine,
    /// No SYN arrived. Something listens; whether a rule would drop one shows only when one arrives.
    NoSyns,
    /// Nothing is known of SYNs: the interface with the address is not watched.
    InterfaceNotWatched,
    /// The host does not have the address.
    AddressNotLocal,
    /// The interface with the address is down.
    InterfaceDown,
    /// No socket listens at the port.
    NothingListens,
    /// Sockets listen at the port, on other addresses alone.
    OtherAddress,
    /// Sockets listen at the port on loopback alone, where other hosts cannot reach them.
    LoopbackOnly,
    /// Only IPv6 sockets with `IPV6_V6ONLY` listen, and IPv4 is asked for.
    Ipv6Only,
    /// Only IPv4 sockets listen, and IPv6 is asked for.
    Ipv4Only,
    /// The sockets that listen are bound to another device than the SYNs come by (`SO_BINDTODEVICE`, VRF).
    OtherDevice,
    /// A firewall rule drops the SYNs.
    Firewall,
    /// A firewall rule drops some of the SYNs: a rate limit, or a list of sources.
    FirewallPartly,
    /// A firewall rule rejects the SYNs: clients are refused at once.
    Rejected,
    /// The table of connections of the firewall is full, which drops what is new.
    ConntrackFull,
    /// The host has no way back to the clients by the interface that they come by (`rp_filter`).
    ReversePath,
    /// The checksum of the SYNs is wrong.
    BadChecksum,
    /// The kernel drops the SYNs for another reason, which is named.
    Dropped,
    /// The SYNs are sent on to another port of this host (`REDIRECT`).
    Redirected,
    /// A transparent proxy takes the SYNs (`TPROXY`).
    TransparentProxy,
    /// The SYNs are forwarded to another namespace or host (DNAT, IPVS).
    Forwarded,
    /// Something takes the SYNs before TCP sees them, and drops none: a SYN proxy, a translation or another BPF
    /// program.
    TakenBeforeTcp,
    /// The SYN queue is full, and SYN cookies are off.
    SynQueueFull,
    /// The accept queue is full: the process does not accept.
    AcceptQueueFull,
    /// Of several sockets that share the port (`SO_REUSEPORT`) some do not accept: every so many clients are stuck.
    StuckSocket,
    /// A rule of this host drops the answers (SYN-ACKs).
    AnswersDropped,
    /// Answers (SYN-ACKs) are sent, and nothing comes back: they, or what acknowledges them, are lost on the way.
    AnswersLost,
    /// Clients reset each answer: half-open health checks, or a firewall or another route at their side.
    ClientsReset,
    /// Most SYNs are a flood; some connections are made.
    Flood,
    /// SYNs arrive and none has completed a handshake yet, for no reason that can be seen.
    NotKnown,
}

impl ListenCause {
    /// Whether it says how connections fare.
    #[must_use]
    pub const fn is_known(self) -> bool {
        !matches!(self, Self::NotKnown | Self::InterfaceNotWatched)
    }

    /// Whether it keeps connections from being made; [`Self::Redirected`] only where the other port does not serve
    /// them.
    #[must_use]
    pub const fn is_blocking(self) -> bool {
        use ListenCause as C;
        !matches!(
            self,
            C::Fine | C::NoSyns | C::InterfaceNotWatched | C::TransparentProxy | C::Forwarded | C::Flood | C::NotKnown
        )
    }
}

/// A step of the way of a SYN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Which.
    pub subject: StepSubject,
    /// Whether it is the cause.
    pub state: StepState,
    /// What was found.
    pub text: String,
}

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum StepSubject {
    /// Whether the host has the address.
    Address,
    /// SYNs that arrive, by interface.
    Arrival,
    /// What becomes of them before TCP: dropped, translated, delivered.
    Delivery,
    /// Who listens.
    Listener,
    /// SYN queue, cookies and accept queue.
    Queues,
    /// Answers and completed handshakes.
    Handshakes,
}

/// What a step says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum StepState {
    /// Nothing stands in the way here.
    Ok,
    /// This is the cause.
    Problem,
    /// Not known, or not reached.
    Unknown,
}

/// What was counted during the watch, and the queues at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListenFigures {
    /// SYNs to the address and port, by watched interfaces; interfaces without one are left out.
    pub interfaces: Vec<InterfaceSyns>,
    /// All of these SYNs.
    pub syns: u64,
    /// SYNs to the port at other addresses of this host.
    pub syns_other_address: u64,
    /// SYNs to the port at addresses of other hosts.
    pub syns_not_local: u64,
    /// SYNs that reached TCP at the port; null when that is not counted.
    pub delivered: Option<u64>,
    /// SYNs that the kernel dropped, by reason; null when it does not tell.
    pub dropped: Option<Vec<DropCount>>,
    /// SYN-ACKs that the kernel dropped on their way out, by reason; null when it does not tell.
    pub answers_dropped: Option<Vec<DropCount>>,
    /// RSTs from the port that no socket sent: those of a firewall.
    pub resets_sent: u64,
    /// Handshakes completed, by all interfaces.
    pub handshakes: u64,
    /// Sockets that listen at the port, also those that do not take these SYNs; at most 32.
    pub sockets: Vec<ListeningSocket>,
    /// SYN cookies that the namespace sent, for all its listeners; null when not known.
    pub cookies_sent: Option<u64>,
    /// SYN cookies that came back; null when not known.
    pub cookies_received: Option<u64>,
    /// Requests that the listeners at the port dropped; null when not known.
    pub requests_dropped: Option<u64>,
}

/// SYNs by an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceSyns {
    /// Name of the interface.
    pub interface: String,
    /// IPv4 SYNs.
    pub ipv4: u64,
    /// IPv6 SYNs.
    pub ipv6: u64,
}

/// Packets that the kernel dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DropCount {
    /// Reason, by the kernel's name (`enum skb_drop_reason`).
    pub reason: String,
    /// Packets.
    pub count: u64,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListeningSocket {
    /// Local address.
    pub address: IpAddr,
    /// Whether it is an IPv6 socket that takes no IPv4.
    pub ipv6_only: bool,
    /// Name of the device that it is bound to; null if to none.
    pub device: Option<String>,
    /// Whether it takes the SYNs that are asked about.
    pub takes: bool,
    /// Its queues at the end of the watch; null when not known.
    pub queues: Option<SocketQueues>,
    /// Who holds it, as far as known.
    pub processes: Vec<Process>,
}
