//! Packet programs on interfaces: which interfaces are watched, by which hook, and the slot of each.
//! What the programs count is read elsewhere.

pub mod clsact;
mod descriptors;
mod hook;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use aya::Ebpf;
use nix::net::if_::{self, if_nameindex};
use tracker_common::{classify::Outcome, counters::InterfaceCounters, layout::Sum as _, limits};
use tracker_detect::explain::listen::AddressInterface;
use tracker_model::api::{Interface, Unwatched};

use self::hook::{Attached, Attacher, Attachment, seen_on};
use super::{
    Hook,
    error::KernelError,
    interface_policy::{self, Choice},
    links::Link,
    maps::Maps,
};

/// Interfaces that are counted apart; all others share slot 0.
const COUNTED_APART: u32 = limits::INTERFACES - 1;

struct Watched {
    name: String,
    slot: u16,
    attachment: Attachment,
}

impl Watched {
    /// Whether it is counted together with others.
    fn shares_slot(&self) -> bool {
        self.slot == 0 && !self.attachment.is_via_lower()
    }
}

/// The interfaces that are watched.
pub struct Attachments {
    attacher: Attacher,
    patterns: Vec<String>,
    watched: BTreeMap<u32, Watched>,
    unwatched: Vec<Unwatched>,
    missing: Vec<Unwatched>,
    /// Whether interfaces that were refused are tried again: once after each listing.
    tries_again: bool,
    free_slots: BTreeSet<u16>,
    /// What interfaces received that are no longer watched.
    departed: InterfaceCounters,
}

impl Attachments {
    /// Nothing is attached yet.
    pub fn new(hook: Hook, patterns: Vec<String>) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "256")]
        let free_slots = (1..limits::INTERFACES as u16).collect();
        Self {
            attacher: Attacher::new(hook),
            patterns,
            watched: BTreeMap::new(),
            unwatched: Vec::new(),
            missing: Vec::new(),
            tries_again: true,
            free_slots,
            departed: InterfaceCounters::default(),
        }
    }

    /// The interfaces were listed again: those that were refused are tried once more.
    pub fn listed_again(&mut self) {
        self.tries_again = true;
    }

    /// Attaches to interfaces that came or went up, and forgets those that went. Returns whether all is done: what
    /// there is no time for before `end` is left to the next turn. The detector shares the thread, so that many
    /// interfaces take several turns.
    ///
    /// # Errors
    /// Only when the rights are missing, an interface that the user named cannot be attached to, or a map fails.
    pub async fn update(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        links: &BTreeMap<u32, Link>,
        end: Instant,
    ) -> Result<bool, KernelError> {
        let choices = interface_policy::choose(links, &self.patterns);
        let is_there = |name: &String| links.values().any(|link| link.name == *name);
        self.missing.retain(|missing| self.patterns.contains(&missing.name) || is_there(&missing.name));
        if !self.forget_stale(&choices, maps, end).await? {
            return Ok(false);
        }
        // Those stacked on one that has a slot of its own now count there too.
        if self.give_free_slots(maps, links)? && !self.forget_stale(&choices, maps, end).await? {
            return Ok(false);
        }
        self.unwatched.clear();
        let missing = self.named_and_gone(links);
        let before = std::mem::replace(&mut self.missing, missing);
        self.add_unreadable(links);
        // Watched ones first: those stacked on them take over their slots.
        let mut result = Ok(true);
        for (index, choice) in &choices {
            match self.apply(object, maps, &links[index], choice, &before, end) {
                Ok(is_done) => result = result.map(|all_done| all_done && is_done),
                Err(error) => result = Err(error),
            }
        }
        self.tries_again = false;
        for (index, choice) in &choices {
            if let Choice::SeenOn(lower) = choice {
                self.watch_via_lower(maps, &links[index], *lower)?;
            }
        }
        result
    }

    /// Takes programs off interfaces that are gone, or are to be seen in another way; whether there was time for all.
    async fn forget_stale(
        &mut self,
        choices: &BTreeMap<u32, Choice>,
        maps: &mut Maps,
        end: Instant,
    ) -> Result<bool, KernelError> {
        for index in self.stale(choices) {
            self.forget(index, maps).await?;
            if Instant::now() >= end {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Watched interfaces that are gone, or are to be seen in another way.
    fn stale(&self, choices: &BTreeMap<u32, Choice>) -> Vec<u32> {
        let is_stale = |(index, watched): &(&u32, &Watched)| match choices.get(index) {
            Some(Choice::Watch) => watched.attachment.is_via_lower(),
            Some(Choice::SeenOn(lower)) => {
                !watched.attachment.is_via_lower()
                    || self.watched.get(lower).is_none_or(|lower| lower.slot != watched.slot)
            }
            Some(Choice::Skip(_)) | None => true,
        };
        self.watched.iter().filter(is_stale).map(|(index, _)| *index).collect()
    }

    /// Does with one interface what was chosen; whether it is done, or left to the next turn. `before` are those that
    /// were missing at the last update.
    fn apply(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        link: &Link,
        choice: &Choice,
        before: &[Unwatched],
        end: Instant,
    ) -> Result<bool, KernelError> {
        let is_named = self.patterns.contains(&link.name);
        let tried = before.iter().find(|missing| missing.name == link.name).filter(|_| !self.tries_again);
        match choice {
            Choice::Watch if self.watched.contains_key(&link.index) => self.rename(link.index, &link.name),
            Choice::Watch if tried.is_some() => self.missing.extend(tried.cloned()),
            Choice::Watch if Instant::now() >= end => {
                let reason = "it waits until other interfaces are attached to".into();
                self.unwatched.push(Unwatched { name: link.name.clone(), reason });
                return Ok(false);
            }
            Choice::Watch => {
                if let Err(error) = self.watch(object, maps, link) {
                    let missing = Unwatched { name: link.name.clone(), reason: error.without_target() };
                    if !before.contains(&missing) {
                        tracing::warn!(interface = link.name, "not watched: {error}");
                    }
                    self.missing.push(missing);
                    if is_named || matches!(error, KernelError::NoRight) {
                        return Err(error);
                    }
                }
            }
            Choice::Skip(reason) => {
                let list = if is_named { &mut self.missing } else { &mut self.unwatched };
                list.push(Unwatched { name: link.name.clone(), reason: reason.clone() });
            }
            Choice::SeenOn(_) => {}
        }
        Ok(true)
    }

    /// Interfaces that the user named and that do not exist.
    fn named_and_gone(&self, links: &BTreeMap<u32, Link>) -> Vec<Unwatched> {
        let exists = |name: &String| links.values().any(|link| link.name == *name);
        let gone = self.patterns.iter().filter(|pattern| !interface_policy::is_glob(pattern) && !exists(pattern));
        gone.map(|name| Unwatched { name: name.clone(), reason: "there is no such interface now".into() }).collect()
    }

    /// Adds the interfaces that the netlink library cannot read: those whose name is not UTF-8, which Linux allows.
    fn add_unreadable(&mut self, links: &BTreeMap<u32, Link>) {
        let Ok(interfaces) = if_nameindex() else { return };
        let unreadable = interfaces.iter().filter(|interface| !links.contains_key(&interface.index()));
        for name in unreadable.map(if_::Interface::name).filter(|name| name.to_str().is_err()) {
            let (list, reason) = if self.patterns.is_empty() {
                (&mut self.missing, "its name is not valid UTF-8; rename it with `ip link set`")
            } else {
                (&mut self.unwatched, "not named by --interface")
            };
            list.push(Unwatched { name: name.to_string_lossy().into_owned(), reason: reason.into() });
        }
    }

    /// Gives slots that have become free to interfaces that share slot 0; whether there were any.
    fn give_free_slots(&mut self, maps: &mut Maps, links: &BTreeMap<u32, Link>) -> Result<bool, KernelError> {
        let mut given = false;
        for (index, watched) in &mut self.watched {
            let Some(link) = links.get(index).filter(|_| watched.shares_slot()) else { continue };
            let Some(slot) = self.free_slots.pop_first() else { break };
            if table::register(maps, link, slot)? {
                (watched.slot, given) = (slot, true);
            } else {
                self.free_slots.insert(slot);
            }
        }
        Ok(given)
    }

    /// An interface may get another name while it is watched, and another interface its old one.
    fn rename(&mut self, index: u32, name: &str) {
        let Some(watched) = self.watched.get_mut(&index).filter(|watched| watched.name != name) else { return };
        tracing::info!(interface = name, was = watched.name, "renamed");
        name.clone_into(&mut watched.name);
        for Watched { attachment, .. } in self.watched.values_mut() {
            if matches!(attachment.attached, Attached::ViaLower(lower) if lower == index) {
                attachment.reason = seen_on(name);
            }
        }
    }

    fn watch(&mut self, object: &mut Ebpf, maps: &mut Maps, link: &Link) -> Result<(), KernelError> {
        let mut slot = self.free_slots.pop_first().unwrap_or(0);
        // The entry comes first: packets may arrive as soon as the program is there.
        if !table::register(maps, link, slot)? {
            self.release(std::mem::take(&mut slot), maps)?;
        }
        match self.attacher.attach(object, link) {
            Ok(attachment) => {
                let Attachment { hook, reason, .. } = &attachment;
                tracing::info!(interface = link.name, hook, reason, "watching");
                self.watched.insert(link.index, Watched { name: link.name.clone(), slot, attachment });
                Ok(())
            }
            Err(error) => {
                table::unregister(maps, link.index)?;
                self.release(slot, maps)?;
                Err(error)
            }
        }
    }

    /// Watches an interface through the one of index `lower`, if that one is watched.
    fn watch_via_lower(&mut self, maps: &mut Maps, link: &Link, lower: u32) -> Result<(), KernelError> {
        if self.watched.contains_key(&link.index) {
            self.rename(link.index, &link.name);
            return Ok(());
        }
        let Some(below) = self.watched.get(&lower) else { return Ok(()) };
        let (slot, attachment) = (below.slot, Attachment::via_lower(lower, &below.name));
        table::register(maps, link, slot)?;
        self.watched.insert(link.index, Watched { name: link.name.clone(), slot, attachment });
        Ok(())
    }

    async fn forget(&mut self, index: u32, maps: &mut Maps) -> Result<(), KernelError> {
        let Some(Watched { name, slot, attachment }) = self.watched.remove(&index) else { return Ok(()) };
        tracing::info!(interface = name, "no longer watched");
        let (is_via_lower, own_clsact) = (attachment.is_via_lower(), attachment.own_clsact);
        // The program goes first: without the entry its packets would count as those of no known interface.
        drop(attachment);
        table::unregister(maps, index)?;
        if own_clsact {
            clsact::remove(index).await;
        }
        if is_via_lower { Ok(()) } else { self.release(slot, maps) }
    }

    /// Takes all programs off.
    pub async fn clear(&mut self, maps: &mut Maps) {
        let indices: Vec<u32> = self.watched.keys().copied().collect();
        for index in indices {
            if let Err(error) = self.forget(index, maps).await {
                tracing::warn!("{error}");
            }
        }
    }

    /// A slot goes back with its counters at zero; what they held is kept in `departed`.
    fn release(&mut self, slot: u16, maps: &mut Maps) -> Result<(), KernelError> {
        if slot != 0 {
            self.departed.add(&maps.interface_counters.sum(slot.into())?);
            maps.interface_counters.reset(slot.into())?;
            self.free_slots.insert(slot);
        }
        Ok(())
    }

    /// Name and indices of the interfaces of each slot: of the one that is watched, and of those stacked on it.
    pub fn by_slot(&self) -> BTreeMap<u16, (String, Vec<u32>)> {
        let mut slots: BTreeMap<u16, (String, Vec<u32>)> = BTreeMap::new();
        for (index, watched) in &self.watched {
            let (name, indices) = slots.entry(watched.slot).or_default();
            if !watched.attachment.is_via_lower() {
                (if watched.slot == 0 { "other" } else { &watched.name }).clone_into(name);
            }
            indices.push(*index);
        }
        slots
    }

    /// Whether an XDP program that is not tracker's runs on one of these interfaces.
    pub fn has_other_xdp(&self, indices: &[u32], links: &BTreeMap<u32, Link>) -> bool {
        let is_ours = |index: &u32| {
            self.watched.get(index).is_some_and(|watched| matches!(watched.attachment.attached, Attached::Xdp(_)))
        };
        indices.iter().any(|index| links.get(index).is_some_and(|link| link.has_xdp) && !is_ours(index))
    }

    /// An interface, with whether it is watched.
    pub fn with_watched(&self, name: String, up: bool) -> AddressInterface {
        let watched = self.watched.values().any(|watched| watched.name == name);
        AddressInterface { name, up, watched }
    }

    /// How many slots are taken.
    pub fn slots(&self) -> u64 {
        u64::from(COUNTED_APART) - self.free_slots.len() as u64
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
        slots.into_iter().filter_map(|slot| maps.interface_counters.sum(slot.into()).ok()).map(syns).sum()
    }

    /// What each watched interface received, and those that need not be watched. Stacked ones have counters of zero;
    /// those that share slot 0 are together in `other`.
    pub fn read(&self, maps: &Maps) -> Result<(Vec<Interface>, Vec<Unwatched>), KernelError> {
        let mut interfaces = Vec::new();
        for (index, watched) in self.watched.iter().filter(|(_, watched)| !watched.shares_slot()) {
            let Attachment { hook, reason, .. } = &watched.attachment;
            let counters = if watched.attachment.is_via_lower() {
                InterfaceCounters::default()
            } else {
                maps.interface_counters.sum(watched.slot.into())?
            };
            interfaces.push(Interface::new(watched.name.clone(), *index, hook, reason.clone(), counters));
        }
        interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        let others = maps.interface_counters.sum(0)?;
        if self.watched.values().any(Watched::shares_slot) || others != InterfaceCounters::default() {
            let reason = format!("interfaces beyond the {COUNTED_APART} that are counted apart");
            interfaces.push(Interface::new("other".into(), 0, "", reason, others));
        }
        Ok((interfaces, self.unwatched.clone()))
    }
}
