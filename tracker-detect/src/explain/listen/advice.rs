//! The remedy of each cause.

use tracker_model::explain::ListenCause;

use super::{
    case::Case,
    text::{elsewhere, listener},
};

/// What to do, first what helps.
pub(super) fn lines(cause: ListenCause, case: &Case<'_>) -> Vec<String> {
    use ListenCause as C;
    match cause {
        C::Fine | C::Flood | C::NoSyns | C::InterfaceNotWatched | C::AddressNotLocal | C::InterfaceDown => {
            arriving(cause, case)
        }
        C::NothingListens | C::OtherAddress | C::LoopbackOnly | C::Ipv6Only | C::Ipv4Only | C::OtherDevice => {
            listening(cause, case)
        }
        C::Firewall
        | C::FirewallPartly
        | C::Rejected
        | C::ConntrackFull
        | C::ReversePath
        | C::BadChecksum
        | C::Dropped => passing(cause, case),
        C::Redirected | C::TransparentProxy | C::Forwarded | C::TakenBeforeTcp => taking(cause, case),
        _ => answering(cause, case),
    }
}

fn arriving(cause: ListenCause, case: &Case<'_>) -> Vec<String> {
    let port = case.port;
    let on = case.seen_all.on_interface.as_ref().map_or("eth0", |interface| &interface.name);
    let line = match cause {
        ListenCause::Fine => return Vec::new(),
        ListenCause::Flood => {
            "See `tracker alerts -o wide`: it names the flood, its sources and what helps.".to_owned()
        }
        ListenCause::InterfaceNotWatched => format!("Let the daemon watch it: `tracker run --interface {on}`."),
        ListenCause::AddressNotLocal => {
            "See which addresses there are: `ip address`. Let clients connect to one of them, or add this one."
                .to_owned()
        }
        ListenCause::InterfaceDown => format!("Bring it up: `ip link set {on} up`."),
        _ => format!(
            "Look before this host: the clients' route and name, firewalls and security groups, a load balancer. At \
             the client `tcpdump -n tcp port {port}` shows whether it sends, here whether it arrives."
        ),
    };
    let mut lines = vec![line];
    let xdp: Vec<_> = case.seen_all.interfaces.iter().filter(|of| of.other_xdp).map(|of| of.name.as_str()).collect();
    if cause == ListenCause::NoSyns && !xdp.is_empty() {
        let by = xdp.join(", ");
        lines.push(format!(
            "An XDP program runs on {by} before tracker sees a packet, and may drop SYNs: `bpftool net`."
        ));
    }
    lines
}

fn listening(cause: ListenCause, case: &Case<'_>) -> Vec<String> {
    let who = super::processes(case.listening()).unwrap_or_else(|| "the process that listens".to_owned());
    let asked = case.asked.map_or_else(|| "the address that clients use".to_owned(), |address| address.to_string());
    let any = if case.family == 0 { "0.0.0.0" } else { "[::]" };
    vec![match cause {
        ListenCause::NothingListens => {
            "Start the service; if it runs, `ss -ltnp` shows where it listens, in its own network namespace.".to_owned()
        }
        ListenCause::LoopbackOnly => format!("Let {who} listen at {any} or at {asked}."),
        ListenCause::Ipv6Only => {
            format!("Let {who} listen at 0.0.0.0 too, or switch IPV6_V6ONLY off (net.ipv6.bindv6only=0).")
        }
        ListenCause::Ipv4Only => {
            format!("Let {who} listen at [::] too, or give clients no IPv6 address (AAAA) of this host.")
        }
        ListenCause::OtherDevice => {
            format!("Let {who} bind to the device that clients come by, or to none (SO_BINDTODEVICE, VRF).")
        }
        _ => format!("Let {who} listen at {asked} or at {any}, or let clients connect to where it listens."),
    }]
}

fn passing(cause: ListenCause, case: &Case<'_>) -> Vec<String> {
    let port = case.port;
    let names: Vec<_> = case.arrived_by().map(|interface| interface.name.as_str()).collect();
    let by = names.first().copied().unwrap_or("eth0");
    let find = "Find the rule: `nft list ruleset`, `iptables-save`";
    vec![match cause {
        ListenCause::FirewallPartly => {
            format!("{find}: one with a limit, a quota or a list of sources that port {port} meets. Raise it.")
        }
        ListenCause::Rejected => format!("{find}: one that rejects port {port}. Accept the port before it."),
        ListenCause::ConntrackFull => {
            let (count, max) = case.seen_all.settings.conntrack.unwrap_or_default();
            format!(
                "Raise net.netfilter.nf_conntrack_max ({count} of {max} in use), or keep this port out of the table \
                 with `notrack`."
            )
        }
        ListenCause::ReversePath => format!(
            "Give the clients' network a route by {by}, or let packets in that would go back another way: sysctl \
             net.ipv4.conf.{by}.rp_filter=2 (loose; without any route 0, and net.ipv4.conf.all.rp_filter too)."
        ),
        ListenCause::BadChecksum => format!(
            "Look at the checksum offload of what sends or forwards them: `ethtool -K DEVICE tx off` there, or rx \
             off on {by}."
        ),
        ListenCause::Dropped => "Look the reason up in the kernel's include/net/dropreason-core.h.".to_owned(),
        _ => format!(
            "{find}, chains with hook prerouting or input; `nft monitor trace` names it. Accept port {port} before it."
        ),
    }]
}

fn taking(cause: ListenCause, case: &Case<'_>) -> Vec<String> {
    let (port, to) = (case.port, elsewhere(case));
    vec![match cause {
        ListenCause::Redirected => {
            format!(
                "See why {to} does not answer, or take the rule away: `nft list ruleset`, `redirect` or `dnat` \
             of port {port}."
            )
        }
        ListenCause::TransparentProxy => {
            format!("See what the proxy does with them; its rule is a `tproxy` of port {port} in `nft list ruleset`.")
        }
        ListenCause::Forwarded => format!(
            "Look where they go: `dnat` of port {port} in `nft list ruleset`, `ipvsadm -L`; then ask there, `ip \
             netns exec NAME tracker …` or --all-netns."
        ),
        _ => "Look for a SYN proxy, a translation or another BPF program: `nft list ruleset`, `ipvsadm -L`, `bpftool \
         net`."
            .to_owned(),
    }]
}

fn answering(cause: ListenCause, case: &Case<'_>) -> Vec<String> {
    let who = listener(case);
    vec![match cause {
        ListenCause::SynQueueFull => {
            let backlog = case.seen_all.settings.max_syn_backlog.unwrap_or_default();
            format!(
                "sysctl net.ipv4.tcp_syncookies=1. A longer queue takes a larger backlog in listen() and \
                 net.ipv4.tcp_max_syn_backlog (now {backlog})."
            )
        }
        ListenCause::AcceptQueueFull => format!(
            "See what {who} does (`cat /proc/PID/stack`, a profiler): it must call accept(), or be restarted. A larger \
             backlog helps only against bursts."
        ),
        ListenCause::StuckSocket => {
            "Restart that worker, or see why it does not call accept(): the kernel goes on giving it its share of \
             the clients."
                .to_owned()
        }
        ListenCause::AnswersDropped => format!(
            "Find the rule: `nft list ruleset`, chains with hook output or postrouting. Accept answers from port {}.",
            case.port
        ),
        ListenCause::ClientsReset => {
            "See who they are (`tcpdump`): half-open health checks are harmless; else a firewall or another route at \
             their side has no connection to the answer."
                .to_owned()
        }
        ListenCause::NotKnown => "Watch longer: --for 30s.".to_owned(),
        _ => "Follow the answers: `ip route get CLIENT` here, then firewalls on the way back, which may be another \
              than the way here; and the client's own firewall."
            .to_owned(),
    }]
}
