//! Which interfaces are watched: pure rules over the list of interfaces.
//!
//! A packet that passes several interfaces of a host (a VLAN on a NIC, a port of a bridge) must be counted once. It is
//! counted where it comes in; devices stacked on a watched one are seen through it.

use std::collections::BTreeMap;

use super::{
    error::KernelError,
    links::{Layer, Link},
};

/// What is done with an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Attach to it.
    Watch,
    /// Its packets are seen on another interface, of this index.
    SeenOn(u32),
    /// Leave it, for this reason.
    Skip(String),
}

/// Devices whose packets have all passed the device below.
const STACKED: [&str; 6] = ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"];
/// Devices whose packets have all passed one of their members.
const CONTROLLERS: [&str; 4] = ["bridge", "bond", "team", "vrf"];
/// Devices on which nothing arrives that did not arrive elsewhere before.
const NEVER: [&str; 3] = ["ifb", "dummy", "nlmon"];

/// Chooses for each interface, by index. `patterns` are names and globs; empty stands for the default.
#[must_use]
pub fn choose(links: &BTreeMap<u32, Link>, patterns: &[String]) -> BTreeMap<u32, Choice> {
    let mut choices = BTreeMap::new();
    for link in links.values() {
        let choice = if patterns.is_empty() { by_default(links, link) } else { by_name(link, patterns) };
        choices.insert(link.index, choice);
    }
    // What is stacked on a watched interface is seen through it, by default as by name.
    let watched = |index: u32| choices.get(&index) == Some(&Choice::Watch);
    let mut seen = Vec::new();
    for link in links.values().filter(|link| !watched(link.index)) {
        if let Some(lower) = below(links, link, &watched, 0) {
            seen.push((link.index, Choice::SeenOn(lower)));
        }
    }
    choices.extend(seen);
    choices
}

fn by_default(links: &BTreeMap<u32, Link>, link: &Link) -> Choice {
    let kind = link.kind.as_deref().unwrap_or_default();
    if link.layer == Layer::Loopback {
        return Choice::Skip("loopback; watch it with --interface".into());
    }
    if !link.up {
        return Choice::Skip("down".into());
    }
    if link.layer == Layer::Other {
        return Choice::Skip("its packets have neither an Ethernet nor an IP header".into());
    }
    if NEVER.contains(&kind) {
        return Choice::Skip(format!("a device of kind {kind} receives nothing of its own"));
    }
    if STACKED.contains(&kind) && link.lower.is_some_and(|lower| links.contains_key(&lower)) {
        return Choice::Skip("stacked on an interface that is not watched".into());
    }
    if CONTROLLERS.contains(&kind) {
        return Choice::Skip(format!("a {kind} whose members are not all watched"));
    }
    Choice::Watch
}

fn by_name(link: &Link, patterns: &[String]) -> Choice {
    if !patterns.iter().any(|pattern| matches(pattern, &link.name)) {
        return Choice::Skip("not named by --interface".into());
    }
    if !link.up {
        return Choice::Skip("down".into());
    }
    if link.layer == Layer::Other {
        return Choice::Skip("its packets have neither an Ethernet nor an IP header".into());
    }
    Choice::Watch
}

/// The watched interface through which all packets of this one come, if there is one.
fn below(links: &BTreeMap<u32, Link>, link: &Link, watched: &impl Fn(u32) -> bool, depth: u32) -> Option<u32> {
    // The kernel stacks at most 8 devices (MAX_NEST_DEV); a list read while it changes might even show a circle.
    if depth == 8 {
        return None;
    }
    let kind = link.kind.as_deref().unwrap_or_default();
    let seen_on =
        |index: u32| if watched(index) { Some(index) } else { below(links, links.get(&index)?, watched, depth + 1) };
    if STACKED.contains(&kind) {
        return seen_on(link.lower.filter(|lower| *lower != link.index)?);
    }
    if CONTROLLERS.contains(&kind) {
        let members = links.values().filter(|member| member.controller == Some(link.index));
        // If one is not watched, packets reach the controller that nobody has seen.
        let all: Option<Vec<u32>> = members.map(|member| seen_on(member.index)).collect();
        return all?.first().copied();
    }
    None
}

/// Names without a glob must exist and be up, and be of a kind that can be watched; checked once, at the start.
pub fn check(links: &BTreeMap<u32, Link>, patterns: &[String]) -> Result<(), KernelError> {
    for pattern in patterns.iter().filter(|pattern| !is_glob(pattern)) {
        let Some(link) = links.values().find(|link| link.name == *pattern) else {
            let existing: Vec<_> = links.values().map(|link| link.name.as_str()).collect();
            return Err(KernelError::NoSuchInterface { name: pattern.clone(), existing: existing.join(", ") });
        };
        if !link.up {
            return Err(KernelError::InterfaceDown { name: pattern.clone() });
        }
        if let Choice::Skip(reason) = by_name(link, patterns) {
            return Err(KernelError::Unsupported { name: pattern.clone(), reason });
        }
    }
    Ok(())
}

pub fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

fn matches(pattern: &str, name: &str) -> bool {
    if is_glob(pattern) {
        glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(name))
    } else {
        pattern == name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: &str) -> Link {
        Link {
            index,
            name: name.into(),
            up: true,
            layer: Layer::Ethernet,
            kind: (!kind.is_empty()).then(|| kind.into()),
            lower: None,
            controller: None,
            has_xdp: false,
        }
    }

    fn on(lower: u32, link: Link) -> Link {
        Link { lower: Some(lower), ..link }
    }

    fn of(controller: u32, link: Link) -> Link {
        Link { controller: Some(controller), ..link }
    }

    fn map(links: &[Link]) -> BTreeMap<u32, Link> {
        links.iter().map(|link| (link.index, link.clone())).collect()
    }

    /// The choices in the order of the interfaces: watched, seen on another, or left.
    fn chosen(links: &[Link], patterns: &[&str]) -> String {
        let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
        let choices = choose(&map(links), &patterns).into_values().map(|choice| match choice {
            Choice::Watch => "watch".to_owned(),
            Choice::SeenOn(lower) => lower.to_string(),
            Choice::Skip(_) => "skip".to_owned(),
        });
        choices.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_stacked_on_a_watched_interface_is_seen_there() {
        let (nic, vlan) = (link(1, "eth0", ""), on(1, link(2, "eth0.10", "vlan")));
        let inner = on(2, link(3, "eth0.10.20", "vlan"));
        assert_eq!(chosen(&[nic.clone(), vlan.clone(), inner], &[]), "watch 1 1");
        assert_eq!(chosen(&[nic, vlan], &["eth0.*"]), "skip watch", "by name alone");
        let bridge = [link(1, "br0", "bridge"), of(1, link(2, "veth0", "veth")), of(1, link(3, "veth1", "veth"))];
        assert_eq!(chosen(&bridge, &[]), "2 watch watch");
        assert_eq!(chosen(&bridge, &["veth0"]), "skip watch skip", "a member is not watched");
        let bond = [link(1, "bond0", "bond"), of(1, link(2, "eth1", "")), on(1, link(3, "bond0.5", "vlan"))];
        assert_eq!(chosen(&bond, &[]), "2 watch 2");
        let circle = [on(2, link(1, "a", "vlan")), on(1, link(2, "b", "vlan"))];
        assert_eq!(chosen(&circle, &["c"]), "skip skip");
    }

    #[test]
    fn loopback_and_what_is_down_are_left_unless_named() {
        let lo = Link { layer: Layer::Loopback, ..link(1, "lo", "") };
        let links = [lo, Link { up: false, ..link(2, "eth0", "") }];
        assert_eq!((chosen(&links, &[]), chosen(&links, &["lo"])), ("skip skip".to_owned(), "watch skip".to_owned()));
        let named = |name: &str| check(&map(&links), &[name.to_owned()]);
        assert!(matches!(named("eth0"), Err(KernelError::InterfaceDown { .. })));
        assert!(matches!(named("eth9"), Err(KernelError::NoSuchInterface { .. })));
        assert!(named("eth9*").is_ok());
    }
}
