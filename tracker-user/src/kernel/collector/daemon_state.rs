//! What a snapshot says of the daemon itself: warnings, losses, how full its maps are, and its programs.

use aya::programs::ProgramInfo;
use tracker_common::{
    counters::{Loss, SocketCounters},
    limits, names,
};
use tracker_model::{
    api::{MapFill, Program},
    text::listener_place,
};

use super::{Collector, KernelError, floods, links, missed_events, object};

impl Collector {
    /// What is wrong with the daemon itself.
    pub(super) fn warnings(&self) -> Vec<String> {
        let lost = self.notifications_lost.then(|| {
            let seconds = links::RESYNC.as_secs();
            format!("the kernel does not notify of changed interfaces: they are listed every {seconds} s until it does")
        });
        let recording = self.floods.why_recording_ended();
        lost.into_iter()
            .chain(self.unjudged())
            .chain(recording.map(|why| format!("the recording (--detector.record) has ended: {why}")))
            .collect()
    }

    /// Listeners that are not judged though they receive SYNs.
    fn unjudged(&self) -> Option<String> {
        let starved = &self.slots.starved;
        let [first, ..] = &starved[..] else { return None };
        let (id, device) = (floods::id_of(first), self.links.get(&first.device).map(|link| link.name.as_str()));
        let slots = limits::LISTENERS;
        Some(format!(
            "listeners that receive SYNs and are not judged: {}, first {}; the {slots} that are counted apart receive \
             more",
            starved.len(),
            listener_place(id.address, device, id.port)
        ))
    }

    /// Socket events, and what could not be counted.
    pub(super) fn sockets_and_losses(&mut self) -> Result<(SocketCounters, [u64; Loss::COUNT]), KernelError> {
        let counters = &self.maps.socket_counters;
        let (sockets, missed) = self.missed_events.count(missed_events::passive_opens, || counters.sum(0))?;
        let mut losses = [0; Loss::COUNT];
        for loss in Loss::ALL {
            losses[loss as usize] = self.maps.losses.sum(loss as u32)?;
        }
        losses[Loss::EventSkipped as usize] = object::skipped_events(&self.object);
        losses[Loss::EventUnseen as usize] = missed;
        Ok((sockets, losses))
    }

    pub(super) fn fill(&self, sockets: &SocketCounters) -> Vec<MapFill> {
        let (addresses, prefixes) = self.local.counts();
        let timed = sockets.timed.cast_signed().max(0).cast_unsigned();
        [
            (names::LISTENERS, self.listeners.entries, limits::KNOWN_LISTENERS),
            (names::LISTENER_COUNTERS, self.listeners.slots, limits::LISTENERS),
            (names::INTERFACE_COUNTERS, self.attachments.slots(), limits::INTERFACES - 1),
            (names::LOCAL_ADDRESSES, addresses, limits::LOCAL_ADDRESSES),
            (names::LOCAL_PREFIXES, prefixes, limits::LOCAL_PREFIXES),
            (names::LIFETIMES, timed, limits::MEASURED_LIFETIMES),
        ]
        .into_iter()
        .map(|(name, entries, capacity)| MapFill { name: name.into(), entries, capacity: capacity.into() })
        .collect()
    }

    pub(super) fn programs(&self) -> Vec<Program> {
        let report = |names::Program { name, kind, .. }: &names::Program| {
            // A program that was not loaded has no info.
            let info: ProgramInfo = self.object.program(name)?.info().ok()?;
            Some(Program {
                name: (*name).into(),
                kind: (*kind).into(),
                id: info.id(),
                run_count: info.run_count(),
                run_seconds: info.run_time().as_secs_f64(),
            })
        };
        let mut programs: Vec<_> = names::PROGRAMS.iter().filter_map(report).collect();
        programs.sort_by(|a, b| a.name.cmp(&b.name));
        programs
    }
}
