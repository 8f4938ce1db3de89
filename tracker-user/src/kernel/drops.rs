//! Why SYNs to a port do not reach TCP, by the kernel's own reasons (`enum skb_drop_reason`), and what becomes of the
//! answers. The programs are in the kernel only while a port is watched: they run for each packet that the host drops,
//! and for each that it sends.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use aya::{
    Ebpf,
    programs::{BtfTracePoint, tp_btf::BtfTracePointLink},
};
use tracker_common::{
    hash::{self, AddrWords},
    layout::Layout as _,
    limits, names,
    watch::{self, Fate, WatchedPorts, WatchedSyns},
};

use super::{
    btf::{self, KERNEL_BTF},
    error::KernelError,
    maps::Maps,
    object,
    sources::octets,
};

/// The enumeration of the reasons, and what its names begin with.
const REASONS: (&str, &str) = ("skb_drop_reason", "SKB_DROP_REASON_");

/// A port that is to be watched, at one address or at all of the host's.
pub type Wanted = (Option<IpAddr>, u16);

/// Watches ports: which SYNs arrive at which interface, and which the kernel drops.
#[derive(Default)]
pub struct Drops {
    places: [Option<Wanted>; watch::PORTS],
    attached: Option<Attached>,
    /// Names of the reasons by number, once the programs were loaded; or why the kernel refuses them.
    loaded: Option<Result<BTreeMap<u32, String>, String>>,
}

/// The programs while they are attached; dropping it takes them off.
struct Attached {
    _drops: BtfTracePointLink,
    _resets: Option<BtfTracePointLink>,
}

/// Ports that are being watched, each with the counts at the begin.
pub struct Watching {
    ports: Vec<(usize, Wanted, Box<Counts>)>,
}

/// The counts of one place.
struct Counts {
    syns: Vec<WatchedSyns>,
    drops: Vec<u64>,
}

/// What was counted of a port since it is watched.
#[derive(Clone, Debug, Default)]
pub struct PortCounts {
    /// By slot of the interface; those without a SYN are left out.
    pub syns: BTreeMap<u16, WatchedSyns>,
    /// Of IPv4 and of IPv6.
    pub families: [FamilyDrops; 2],
}

/// Packets that were dropped, by the kernel's name of the reason.
#[derive(Clone, Debug, Default)]
pub struct FamilyDrops {
    /// SYNs to the port.
    pub syns: BTreeMap<String, u64>,
    /// SYN-ACKs from the port.
    pub answers: BTreeMap<String, u64>,
    /// RSTs from the port that no socket sent.
    pub resets: u64,
}

impl Drops {
    /// Begins to watch ports; none when others are being watched and there is no room for all of these.
    ///
    /// # Errors
    /// A map cannot be written. That the kernel refuses the programs is no error: see [`Self::why_unknown`].
    pub fn start(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        ports: &[Wanted],
    ) -> Result<Option<Watching>, KernelError> {
        let free: Vec<_> = (0..watch::PORTS).filter(|place| self.places[*place].is_none()).collect();
        if free.len() < ports.len() {
            return Ok(None);
        }
        let taken = free.into_iter().zip(ports);
        let ports = taken.map(|(place, wanted)| (place, *wanted, Box::new(Counts::read(maps, place)))).collect();
        let watching = Watching { ports };
        for (place, wanted, _) in &watching.ports {
            self.places[*place] = Some(*wanted);
        }
        self.attach(object);
        if let Err(error) = self.publish(maps) {
            // Nobody would end it.
            let _ = self.stop(maps, &watching);
            return Err(error);
        }
        Ok(Some(watching))
    }

    /// What was counted since then, a row for each port.
    pub fn read(&self, maps: &Maps, watching: &Watching) -> Vec<PortCounts> {
        let names = self.loaded.as_ref().and_then(|loaded| loaded.as_ref().ok());
        watching.ports.iter().map(|(place, _, before)| Counts::read(maps, *place).since(before, names)).collect()
    }

    /// Ends it. The programs leave the kernel with the last one.
    pub fn stop(&mut self, maps: &mut Maps, watching: &Watching) -> Result<(), KernelError> {
        for (place, ..) in &watching.ports {
            self.places[*place] = None;
        }
        if self.places.iter().all(Option::is_none) {
            self.attached = None;
        }
        self.publish(maps)
    }

    /// Why the kernel does not tell which packets it drops, if so.
    pub fn why_unknown(&self) -> Option<&str> {
        self.loaded.as_ref()?.as_ref().err().map(String::as_str)
    }

    fn attach(&mut self, object: &mut Ebpf) {
        if self.attached.is_some() {
            return;
        }
        let loaded = self.loaded.get_or_insert_with(|| load(object).map_err(|error| error.to_string()));
        if loaded.is_err() {
            return;
        }
        match attach(object, names::PROGRAM_DROPS) {
            Ok(drops) => {
                let resets = attach(object, names::PROGRAM_RESETS).ok();
                self.attached = Some(Attached { _drops: drops, _resets: resets });
            }
            Err(error) => *loaded = Err(error.to_string()),
        }
    }

    /// Tells the programs which ports are watched. They stop at a free first place, so that one is never left there.
    fn publish(&self, maps: &mut Maps) -> Result<(), KernelError> {
        let mut watched = WatchedPorts::zero();
        for (place, wanted) in self.places.iter().enumerate() {
            if let Some((address, port)) = wanted {
                watched.ports[place] = *port;
                watched.addresses[place] = address.map_or([0; 2], words);
            }
        }
        if watched.ports[0] == 0 && self.places.iter().any(Option::is_some) {
            watched.ports[0] = NOBODY;
            watched.addresses[0] = NOWHERE;
        }
        maps.watched_ports.update(0, watched)
    }
}

/// Stands in a free first place: SYNs to this port at this address are counted for nobody.
const NOBODY: u16 = 1;
const NOWHERE: AddrWords = [u64::MAX; 2];

fn words(address: IpAddr) -> AddrWords {
    hash::to_words(&octets(address))
}

/// Loads the programs, and reads the names of the reasons.
pub fn load(object: &mut Ebpf) -> Result<BTreeMap<u32, String>, KernelError> {
    let btf = object::kernel_btf("the reasons of drops", "use a kernel with CONFIG_DEBUG_INFO_BTF=y")?;
    for (name, is_needed) in [(names::PROGRAM_DROPS, true), (names::PROGRAM_RESETS, false)] {
        let target = names::PROGRAMS.iter().find(|program| program.name == name).map_or("", |program| program.target);
        let loaded = object::program::<BtfTracePoint>(object, name)?.load(target, &btf);
        match loaded.map_err(|source| KernelError::program(name, source)) {
            Err(error) if is_needed => return Err(error),
            Err(error) => tracing::info!("resets that a firewall sends are not seen: {error}"),
            Ok(()) => {}
        }
    }
    let (enumeration, prefix) = REASONS;
    let names = btf::enumerators(Path::new(KERNEL_BTF), enumeration)?;
    Ok(names.into_iter().map(|(number, name)| (number, name.trim_start_matches(prefix).to_owned())).collect())
}

fn attach(object: &mut Ebpf, name: &'static str) -> Result<BtfTracePointLink, KernelError> {
    let fail = |source| KernelError::Attach { name, target: "its tracepoint".into(), source };
    let program = object::program::<BtfTracePoint>(object, name)?;
    let id = program.attach().map_err(fail)?;
    program.take_link(id).map_err(fail)
}

/// The counts of one place, as indices have them.
fn place(place: usize) -> u32 {
    u32::try_from(place).unwrap_or_default()
}

impl Counts {
    fn read(maps: &Maps, at: usize) -> Self {
        let at = place(at);
        let syns = (0..limits::INTERFACES).map(|slot| watch::syns_index(at, slot) as usize);
        let first = watch::drops_index(at, Fate::ALL[0], 0, 0);
        let last = watch::drops_index(at, Fate::ALL[Fate::COUNT - 1], watch::FAMILIES - 1, watch::REASONS - 1);
        let drops = (first..=last).map(|index| maps.watched_drops.get(index as usize).unwrap_or_default());
        Self {
            syns: syns.map(|index| maps.watched_syns.get(index).unwrap_or_default()).collect(),
            drops: drops.collect(),
        }
    }

    fn since(&self, before: &Self, names: Option<&BTreeMap<u32, String>>) -> PortCounts {
        let mut counts = PortCounts::default();
        for ((slot, now), then) in (0..).zip(&self.syns).zip(&before.syns) {
            let syns = difference(now, then);
            if syns != WatchedSyns::default() {
                counts.syns.insert(slot, syns);
            }
        }
        let first = watch::drops_index(0, Fate::ALL[0], 0, 0);
        for (family, drops) in (0..).zip(&mut counts.families) {
            for fate in Fate::ALL {
                for reason in 0..watch::REASONS {
                    let index = (watch::drops_index(0, fate, family, reason) - first) as usize;
                    let count = self.drops[index].wrapping_sub(before.drops[index]);
                    if count > 0 {
                        drops.add(fate, reason, count, names);
                    }
                }
            }
        }
        counts
    }
}

impl FamilyDrops {
    fn add(&mut self, fate: Fate, reason: u32, count: u64, names: Option<&BTreeMap<u32, String>>) {
        let name = || names.and_then(|names| names.get(&reason)).cloned().unwrap_or_else(|| format!("reason {reason}"));
        match fate {
            Fate::SynDropped => *self.syns.entry(name()).or_default() += count,
            Fate::AnswerDropped => *self.answers.entry(name()).or_default() += count,
            Fate::Reset => self.resets += count,
        }
    }
}

fn difference(now: &WatchedSyns, then: &WatchedSyns) -> WatchedSyns {
    let of = |now: [u64; 2], then: [u64; 2]| [now[0].wrapping_sub(then[0]), now[1].wrapping_sub(then[1])];
    WatchedSyns {
        asked: of(now.asked, then.asked),
        other: of(now.other, then.other),
        not_local: of(now.not_local, then.not_local),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Counts {
        let drops = watch::DROPS_ENTRIES as usize / watch::PORTS;
        Counts { syns: vec![WatchedSyns::default(); limits::INTERFACES as usize], drops: vec![7; drops] }
    }

    #[test]
    fn what_was_there_before_does_not_count() {
        let (before, mut now) = (counts(), counts());
        now.syns[3].asked[1] = 4;
        now.drops[watch::drops_index(0, Fate::SynDropped, 1, 8) as usize] += 5;
        now.drops[watch::drops_index(0, Fate::AnswerDropped, 0, 300) as usize] += 2;
        now.drops[watch::drops_index(0, Fate::Reset, 0, 0) as usize] += 1;
        let names = BTreeMap::from([(8, "NETFILTER_DROP".to_owned())]);
        let seen = now.since(&before, Some(&names));
        assert_eq!(seen.syns.keys().collect::<Vec<_>>(), [&3]);
        assert_eq!(seen.syns[&3].asked, [0, 4]);
        let [ipv4, ipv6] = &seen.families;
        assert_eq!(ipv6.syns, BTreeMap::from([("NETFILTER_DROP".to_owned(), 5)]));
        assert_eq!((ipv4.syns.len(), ipv4.resets, ipv6.resets), (0, 1, 0));
        assert_eq!(ipv4.answers, BTreeMap::from([("reason 255".to_owned(), 2)]));
    }

    #[test]
    fn this_kernel_names_the_reasons() {
        let names = btf::enumerators(Path::new(KERNEL_BTF), REASONS.0).unwrap();
        for wanted in ["NO_SOCKET", "NETFILTER_DROP", "TCP_CSUM", "IP_RPFILTER"] {
            assert!(names.iter().any(|(_, name)| name == &format!("{}{wanted}", REASONS.1)), "{wanted}: {names:?}");
        }
    }
}
