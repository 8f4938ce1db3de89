//! Which hook sees the packets of an interface, and why.

use std::collections::HashSet;

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions},
        xdp::XdpLink,
    },
    util::KernelVersion,
};
use tracker_common::names;

use super::{clsact, descriptors};
use crate::kernel::{
    Hook,
    error::KernelError,
    links::{Layer, Link},
    object,
};

/// A program on an interface; dropping it takes the program off.
#[expect(dead_code, reason = "links are held for their Drop")]
pub enum Attached {
    Xdp(XdpLink),
    Tc(SchedClassifierLink),
    /// None: the packets are seen on the interface below, which has this index.
    ViaLower(u32),
}

/// How the packets of an interface are seen.
pub struct Attachment {
    pub attached: Attached,
    pub hook: &'static str,
    pub reason: String,
    /// `clsact` was put on the interface for this program and goes with it.
    pub own_clsact: bool,
}

impl Attachment {
    /// Through the watched interface of this index and name.
    pub fn via_lower(index: u32, name: &str) -> Self {
        Self { attached: Attached::ViaLower(index), hook: "lower", reason: seen_on(name), own_clsact: false }
    }

    /// Whether the packets are seen on the interface below.
    pub fn is_via_lower(&self) -> bool {
        matches!(self.attached, Attached::ViaLower(_))
    }
}

/// Why an interface that is stacked on another has no program.
pub fn seen_on(name: &str) -> String {
    format!("its packets are seen on {name}")
}

/// Puts programs on interfaces.
pub struct Attacher {
    hook: Hook,
    loaded: HashSet<&'static str>,
}

impl Attacher {
    /// No program is loaded yet.
    pub fn new(hook: Hook) -> Self {
        Self { hook, loaded: HashSet::new() }
    }

    /// Attaches to an interface by the hook that suits it.
    ///
    /// # Errors
    /// The kernel refuses, or the descriptors do not suffice.
    pub fn attach(&mut self, object: &mut Ebpf, link: &Link) -> Result<Attachment, KernelError> {
        descriptors::check()?;
        let is_hardware = link.kind.is_none() && link.layer == Layer::Ethernet;
        let why_tc = match self.hook {
            Hook::Tc => "asked for by --hook tc".to_string(),
            Hook::Xdp | Hook::Auto if link.has_xdp && (is_hardware || self.hook == Hook::Xdp) => {
                "another XDP program is attached and stays".to_string()
            }
            Hook::Xdp => return self.attach_any_xdp(object, link),
            Hook::Auto if !is_hardware => {
                let kind =
                    link.kind.as_deref().unwrap_or(if link.layer == Layer::Loopback { "loopback" } else { "tunnel" });
                format!("on a device of kind {kind} XDP would slow bulk traffic")
            }
            Hook::Auto => match self.attach_xdp(object, link, XdpMode::Driver) {
                Ok(attached) => return Ok(xdp(attached, "xdp", "the driver runs XDP natively".into())),
                Err(error) => format!("native XDP was refused: {}", error.cause()),
            },
        };
        self.attach_tc(object, link, why_tc)
    }

    /// Native XDP, or generic where the driver has none.
    fn attach_any_xdp(&mut self, object: &mut Ebpf, link: &Link) -> Result<Attachment, KernelError> {
        match self.attach_xdp(object, link, XdpMode::Driver) {
            Ok(attached) if link.kind.is_some() => {
                let reason = "asked for by --hook xdp; native, which on virtual devices slows bulk traffic";
                Ok(xdp(attached, "xdp", reason.into()))
            }
            Ok(attached) => Ok(xdp(attached, "xdp", "asked for by --hook xdp; the driver runs it natively".into())),
            Err(KernelError::NoRight) => Err(KernelError::NoRight),
            Err(error) => {
                let attached = self.attach_xdp(object, link, XdpMode::Skb)?;
                let cause = error.cause();
                let reason =
                    format!("asked for by --hook xdp; native was refused ({cause}), generic slows bulk traffic");
                Ok(xdp(attached, "xdp-generic", reason))
            }
        }
    }

    fn attach_xdp(&mut self, object: &mut Ebpf, link: &Link, mode: XdpMode) -> Result<XdpLink, KernelError> {
        let name = names::PROGRAM_XDP;
        if self.loaded.insert(name) {
            object::load_packet_program(object, name)?;
        }
        let fail = |source| KernelError::Attach { name, target: link.name.clone(), source };
        let program: &mut Xdp = object::program(object, name)?;
        let id = program.attach_to_if_index(link.index, mode).map_err(fail)?;
        program.take_link(id).map_err(fail)
    }

    /// By tcx, before all others, so that none hides a packet; before Linux 6.6 by a filter of a clsact qdisc.
    fn attach_tc(&mut self, object: &mut Ebpf, link: &Link, reason: String) -> Result<Attachment, KernelError> {
        let name = names::PROGRAM_TC;
        if self.loaded.insert(name) {
            object::load_packet_program(object, name)?;
        }
        let fail = |source| KernelError::Attach { name, target: link.name.clone(), source };
        let has_tcx = KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0));
        let (options, hook, own_clsact) = if has_tcx {
            (TcAttachOptions::TcxOrder(LinkOrder::first()), "tcx", false)
        } else {
            let own = clsact::add(&link.name).map_err(|error| fail(ProgramError::TcError(error)))?;
            (TcAttachOptions::Netlink(NlOptions { priority: 1, ..NlOptions::default() }), "clsact", own)
        };
        let program: &mut SchedClassifier = object::program(object, name)?;
        let id = program.attach_with_options(&link.name, TcAttachType::Ingress, options).map_err(fail)?;
        let attached = Attached::Tc(program.take_link(id).map_err(fail)?);
        Ok(Attachment { attached, hook, reason, own_clsact })
    }
}

fn xdp(link: XdpLink, hook: &'static str, reason: String) -> Attachment {
    Attachment { attached: Attached::Xdp(link), hook, reason, own_clsact: false }
}
