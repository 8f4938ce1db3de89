//! Packet programs on interfaces: which hook, why, and the slot of each interface.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError},
        xdp::XdpLink,
    },
    util::KernelVersion,
};
use tracker_common::{
    classify::Outcome,
    counters::{Interface, InterfaceCounters},
    layout::Sum as _,
    limits, names,
};
use tracker_model::snapshot::{self, Unwatched};

use super::{
    Hook,
    error::KernelError,
    links::{Layer, Link},
    maps::Maps,
    object,
    select::{self, Choice},
};

/// A program on an interface; dropping it takes the program off.
#[expect(dead_code, reason = "held for its Drop")]
enum Attached {
    Xdp(XdpLink),
    Tc(SchedClassifierLink),
    /// Seen on another interface.
    Below,
}

struct Watched {
    name: String,
    slot: u16,
    hook: &'static str,
    reason: String,
    /// `clsact` was put on the interface for this program and goes with it.
    own_clsact: bool,
    attached: Attached,
}

/// The interfaces that are watched.
pub struct Attachments {
    hook: Hook,
    patterns: Vec<String>,
    watched: BTreeMap<u32, Watched>,
    unwatched: Vec<Unwatched>,
    missing: Vec<Unwatched>,
    free_slots: BTreeSet<u16>,
    loaded: HashSet<&'static str>,
    /// What interfaces received that are no longer watched.
    departed: InterfaceCounters,
}

impl Attachments {
    /// Nothing is attached yet.
    pub fn new(hook: Hook, patterns: Vec<String>) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "256")]
        let free_slots = (1..limits::INTERFACES as u16).collect();
        Self {
            hook,
            patterns,
            watched: BTreeMap::new(),
            unwatched: Vec::new(),
            missing: Vec::new(),
            free_slots,
            loaded: HashSet::new(),
            departed: InterfaceCounters::default(),
        }
    }

    /// Attaches to interfaces that came or went up, and forgets those that went.
    ///
    /// # Errors
    /// Only when the rights are missing, an interface that the user named cannot be attached to, or a map fails.
    pub fn update(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        links: &BTreeMap<u32, Link>,
    ) -> Result<(), KernelError> {
        let choices = select::choose(links, &self.patterns);
        let stale: Vec<u32> = self
            .watched
            .iter()
            .filter(|(index, watched)| match choices.get(index) {
                Some(Choice::Watch) => matches!(watched.attached, Attached::Below),
                Some(Choice::SeenOn(lower)) => {
                    !matches!(watched.attached, Attached::Below)
                        || self.watched.get(lower).is_none_or(|lower| lower.slot != watched.slot)
                }
                Some(Choice::Skip(_)) | None => true,
            })
            .map(|(index, _)| *index)
            .collect();
        for index in stale {
            self.forget(index, maps)?;
        }
        self.unwatched.clear();
        self.missing = self.named_and_gone(links);
        let mut result = Ok(());
        // Watched ones first: those stacked on them take over their slots.
        for (index, choice) in &choices {
            let link = &links[index];
            match choice {
                Choice::Watch if self.watched.contains_key(index) => self.rename(*index, &link.name),
                Choice::Watch => {
                    if let Err(error) = self.watch(object, maps, link) {
                        tracing::warn!(interface = link.name, "not watched: {error}");
                        self.missing.push(Unwatched { name: link.name.clone(), reason: error.to_string() });
                        if self.patterns.contains(&link.name) || matches!(error, KernelError::NoRight) {
                            result = Err(error);
                        }
                    }
                }
                Choice::Skip(reason) => {
                    let named = self.patterns.contains(&link.name);
                    let list = if named { &mut self.missing } else { &mut self.unwatched };
                    list.push(Unwatched { name: link.name.clone(), reason: reason.clone() });
                }
                Choice::SeenOn(_) => {}
            }
        }
        for (index, choice) in &choices {
            if let Choice::SeenOn(lower) = choice {
                if self.watched.contains_key(index) {
                    self.rename(*index, &links[index].name);
                } else {
                    self.see_below(maps, &links[index], *lower)?;
                }
            }
        }
        result
    }

    /// Interfaces that the user named and that there are not.
    fn named_and_gone(&self, links: &BTreeMap<u32, Link>) -> Vec<Unwatched> {
        let exists = |name: &String| links.values().any(|link| link.name == *name);
        let gone = self.patterns.iter().filter(|pattern| !select::is_glob(pattern) && !exists(pattern));
        gone.map(|name| Unwatched { name: name.clone(), reason: "there is no such interface now".into() }).collect()
    }

    /// An interface may get another name while it is watched, and another interface its old one.
    fn rename(&mut self, index: u32, name: &str) {
        let Some(watched) = self.watched.get_mut(&index).filter(|watched| watched.name != name) else { return };
        tracing::info!(interface = name, was = watched.name, "renamed");
        name.clone_into(&mut watched.name);
        let slot = watched.slot;
        for above in self.watched.values_mut() {
            if matches!(above.attached, Attached::Below) && above.slot == slot {
                above.reason = seen_on(name);
            }
        }
    }

    fn watch(&mut self, object: &mut Ebpf, maps: &mut Maps, link: &Link) -> Result<(), KernelError> {
        let mut slot = self.free_slots.pop_first().unwrap_or(0);
        let flags = if link.layer == Layer::Ip { Interface::RAW_IP } else { 0 };
        // The entry comes first: packets may arrive as soon as the program is there.
        if !register(maps, link.index, slot, flags)? {
            self.release(std::mem::take(&mut slot), maps)?;
        }
        match self.attach(object, link) {
            Ok((attached, hook, reason, own_clsact)) => {
                tracing::info!(interface = link.name, hook, reason, "watching");
                let name = link.name.clone();
                self.watched.insert(link.index, Watched { name, slot, hook, reason, own_clsact, attached });
                Ok(())
            }
            Err(error) => {
                unregister(maps, link.index)?;
                self.release(slot, maps)?;
                Err(error)
            }
        }
    }

    fn see_below(&mut self, maps: &mut Maps, link: &Link, lower: u32) -> Result<(), KernelError> {
        let Some(below) = self.watched.get(&lower) else { return Ok(()) };
        let (slot, reason) = (below.slot, seen_on(&below.name));
        register(maps, link.index, slot, 0)?;
        let name = link.name.clone();
        let watched = Watched { name, slot, hook: "lower", reason, own_clsact: false, attached: Attached::Below };
        self.watched.insert(link.index, watched);
        Ok(())
    }

    fn forget(&mut self, index: u32, maps: &mut Maps) -> Result<(), KernelError> {
        let Some(watched) = self.watched.remove(&index) else { return Ok(()) };
        tracing::info!(interface = watched.name, "no longer watched");
        let below = matches!(watched.attached, Attached::Below);
        let (name, own_clsact, slot) = (watched.name, watched.own_clsact, watched.slot);
        // The program goes first: without the entry its packets would count as those of no known interface.
        drop(watched.attached);
        unregister(maps, index)?;
        if own_clsact {
            remove_clsact(&name);
        }
        if !below {
            self.release(slot, maps)?;
        }
        Ok(())
    }

    /// Takes all programs off.
    pub fn clear(&mut self, maps: &mut Maps) {
        let indices: Vec<u32> = self.watched.keys().copied().collect();
        for index in indices {
            if let Err(error) = self.forget(index, maps) {
                tracing::warn!("{error}");
            }
        }
    }

    /// A slot goes back with its counters at zero; what they held is kept in `departed`.
    fn release(&mut self, slot: u16, maps: &mut Maps) -> Result<(), KernelError> {
        if slot != 0 {
            let last = counters(maps, slot)?;
            self.departed.add(&last);
            maps.interface_counters.reset(u32::from(slot))?;
            self.free_slots.insert(slot);
        }
        Ok(())
    }

    fn attach(
        &mut self,
        object: &mut Ebpf,
        link: &Link,
    ) -> Result<(Attached, &'static str, String, bool), KernelError> {
        let hardware = link.kind.is_none() && link.layer == Layer::Ethernet;
        let why_tc = match self.hook {
            Hook::Tc => "asked for by --hook tc".to_string(),
            Hook::Xdp if link.has_xdp => "another XDP program is attached and stays".to_string(),
            Hook::Xdp => {
                let (attached, hook, reason) = self.attach_any_xdp(object, link)?;
                return Ok((attached, hook, reason, false));
            }
            Hook::Auto if !hardware => {
                let kind =
                    link.kind.as_deref().unwrap_or(if link.layer == Layer::Loopback { "loopback" } else { "tunnel" });
                format!("on a device of kind {kind} XDP would slow bulk traffic")
            }
            Hook::Auto if link.has_xdp => "another XDP program is attached and stays".to_string(),
            Hook::Auto => match self.attach_xdp(object, link, XdpMode::Driver) {
                Ok(attached) => return Ok((attached, "xdp", "the driver runs XDP natively".into(), false)),
                Err(error) => format!("native XDP was refused: {}", error.cause()),
            },
        };
        let (attached, hook, own_clsact) = self.attach_tc(object, link)?;
        Ok((attached, hook, why_tc, own_clsact))
    }

    /// Native XDP, or generic where the driver has none.
    fn attach_any_xdp(
        &mut self,
        object: &mut Ebpf,
        link: &Link,
    ) -> Result<(Attached, &'static str, String), KernelError> {
        match self.attach_xdp(object, link, XdpMode::Driver) {
            Ok(attached) if link.kind.is_some() => {
                let reason = "asked for by --hook xdp; native, which on virtual devices slows bulk traffic";
                Ok((attached, "xdp", reason.into()))
            }
            Ok(attached) => Ok((attached, "xdp", "asked for by --hook xdp; the driver runs it natively".into())),
            Err(KernelError::NoRight) => Err(KernelError::NoRight),
            Err(error) => {
                let attached = self.attach_xdp(object, link, XdpMode::Skb)?;
                let cause = error.cause();
                let reason =
                    format!("asked for by --hook xdp; native was refused ({cause}), generic slows bulk traffic");
                Ok((attached, "xdp-generic", reason))
            }
        }
    }

    fn attach_xdp(&mut self, object: &mut Ebpf, link: &Link, mode: XdpMode) -> Result<Attached, KernelError> {
        let name = names::PROGRAM_XDP;
        if self.loaded.insert(name) {
            object::load_xdp(object)?;
        }
        let fail = |source| KernelError::Attach { name, target: link.name.clone(), source };
        let program: &mut Xdp = object::program(object, name)?;
        let id = program.attach_to_if_index(link.index, mode).map_err(fail)?;
        Ok(Attached::Xdp(program.take_link(id).map_err(fail)?))
    }

    /// By tcx, before all others, so that none hides a packet; before Linux 6.6 by a filter of a clsact qdisc.
    fn attach_tc(&mut self, object: &mut Ebpf, link: &Link) -> Result<(Attached, &'static str, bool), KernelError> {
        let name = names::PROGRAM_TC;
        if self.loaded.insert(name) {
            object::load_tc(object)?;
        }
        let fail = |source| KernelError::Attach { name, target: link.name.clone(), source };
        let tcx = KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0));
        let (options, hook, own_clsact) = if tcx {
            (TcAttachOptions::TcxOrder(LinkOrder::first()), "tcx", false)
        } else {
            let own = match tc::qdisc_add_clsact(&link.name) {
                Ok(()) => true,
                Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {
                    remove_stale(&link.name)
                }
                Err(error) => return Err(fail(ProgramError::TcError(error))),
            };
            (TcAttachOptions::Netlink(NlOptions { priority: 1, ..NlOptions::default() }), "clsact", own)
        };
        let program: &mut SchedClassifier = object::program(object, name)?;
        let id = program.attach_with_options(&link.name, TcAttachType::Ingress, options).map_err(fail)?;
        Ok((Attached::Tc(program.take_link(id).map_err(fail)?), hook, own_clsact))
    }

    /// How many slots are taken.
    pub fn slots(&self) -> u64 {
        u64::from(limits::INTERFACES - 1) - self.free_slots.len() as u64
    }

    /// Interfaces that should be watched and are not.
    pub fn missing(&self) -> Vec<Unwatched> {
        self.missing.clone()
    }

    /// What interfaces received that are no longer watched.
    pub fn departed(&self) -> InterfaceCounters {
        self.departed
    }

    /// SYNs that watched interfaces have received; those that cannot be read at this moment are left out.
    pub fn syns(&self, maps: &Maps) -> u64 {
        let slots: BTreeSet<u16> = self.watched.values().map(|watched| watched.slot).collect();
        let syns = |counters: InterfaceCounters| counters.packets[Outcome::TcpSyn as usize].iter().sum::<u64>();
        slots.into_iter().filter_map(|slot| counters(maps, slot).ok()).map(syns).sum()
    }

    /// What each watched interface received. Stacked ones are shown with the counters of none.
    pub fn read(&self, maps: &Maps) -> Result<(Vec<snapshot::Interface>, Vec<Unwatched>), KernelError> {
        let mut interfaces = Vec::new();
        for (index, watched) in &self.watched {
            let below = matches!(watched.attached, Attached::Below);
            interfaces.push(snapshot::Interface {
                name: watched.name.clone(),
                index: *index,
                hook: watched.hook,
                reason: watched.reason.clone(),
                counters: if below || watched.slot == 0 {
                    InterfaceCounters::default()
                } else {
                    counters(maps, watched.slot)?
                },
            });
        }
        interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        let other = counters(maps, 0)?;
        if other != InterfaceCounters::default() {
            interfaces.push(snapshot::Interface {
                name: "other".into(),
                index: 0,
                hook: "",
                reason: format!("interfaces beyond the {} that are counted apart", limits::INTERFACES - 1),
                counters: other,
            });
        }
        Ok((interfaces, self.unwatched.clone()))
    }
}

fn seen_on(name: &str) -> String {
    format!("its packets are seen on {name}")
}

/// Counters of a slot, summed over the CPUs.
fn counters(maps: &Maps, slot: u16) -> Result<InterfaceCounters, KernelError> {
    maps.interface_counters.sum(u32::from(slot))
}

/// Enters an interface into the table; false when another one has its place.
fn register(maps: &mut Maps, index: u32, slot: u16, flags: u16) -> Result<bool, KernelError> {
    let place = index & (limits::INTERFACE_TABLE - 1);
    let entry = maps.interfaces.lookup(place)?;
    if entry.index != 0 && entry.index != index {
        return Ok(false);
    }
    maps.interfaces.update(place, Interface { index, slot, flags })?;
    Ok(true)
}

fn unregister(maps: &mut Maps, index: u32) -> Result<(), KernelError> {
    let place = index & (limits::INTERFACE_TABLE - 1);
    if maps.interfaces.lookup(place)?.index == index {
        maps.interfaces.update(place, Interface::default())?;
    }
    Ok(())
}

/// Takes off the filters of a tracker that was killed, which the kernel keeps; whether there were any, and the clsact
/// qdisc is thus tracker's own.
fn remove_stale(interface: &str) -> bool {
    let stale = tc::qdisc_detach_program(interface, TcAttachType::Ingress, names::PROGRAM_TC).is_ok();
    if stale {
        tracing::warn!(interface, "took off the program of a tracker that did not stop by itself");
    }
    stale
}

/// Removes the clsact qdisc that [`Attachments`] added, unless someone else has put a filter on it since. aya
/// has no call for it.
fn remove_clsact(interface: &str) {
    let run = |arguments: &[&str]| std::process::Command::new("tc").args(arguments).output();
    let busy = ["ingress", "egress"]
        .iter()
        .any(|side| run(&["filter", "show", "dev", interface, side]).is_ok_and(|output| !output.stdout.is_empty()));
    if busy {
        return;
    }
    match run(&["qdisc", "del", "dev", interface, "clsact"]) {
        Err(_) => tracing::warn!(interface, "the empty clsact qdisc stays: tc(8) is not there to remove it"),
        Ok(output) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stderr);
            // With the interface its qdisc is gone too.
            if !said.contains("Cannot find device") {
                tracing::warn!(interface, "the empty clsact qdisc stays: tc says: {}", said.trim());
            }
        }
        Ok(_) => {}
    }
}
