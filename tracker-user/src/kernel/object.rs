//! Loading the object with the kernel programs.

use std::{
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
    path::Path,
};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader,
    programs::{BtfTracePoint, FExit, Iter, Program, ProgramError, RawTracePoint, SkLookup, TracePoint},
};
use tracker_common::names;

use super::{
    Settings, SocketEvents,
    btf::{self, KERNEL_BTF},
    error::KernelError,
};

/// The kernel programs, as the build script left them. Public for the lab, which runs them on frames of its own.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracker"));

/// Tracepoint of socket events.
const SOCK_STATE: &str = "inet_sock_set_state";

/// A key that nobody outside knows: with it addresses could be chosen whose hashes collide.
pub fn hash_key() -> Result<u64, KernelError> {
    let mut key = [0; 8];
    let file = std::fs::File::open("/dev/urandom");
    file.and_then(|mut file| std::io::Read::read_exact(&mut file, &mut key))
        .map_err(|source| KernelError::Io { what: "read /dev/urandom".into(), source })?;
    Ok(u64::from_ne_bytes(key))
}

/// Loads maps and globals; no program is in the kernel yet.
pub fn open(settings: &Settings, netns: u32) -> Result<Ebpf, KernelError> {
    let path = settings.btf.as_deref().unwrap_or(Path::new(KERNEL_BTF));
    let offsets = btf::offsets(path)?;
    let sample_mask = settings.lifetime_sample.saturating_sub(1);
    // The levels of aya-log: 0 is silent, 4 is debug.
    let log_level: u8 = if settings.kernel_log { 4 } else { 0 };
    let mut loader = EbpfLoader::new();
    for (name, offset) in &offsets {
        loader.override_global(name, offset, true);
    }
    let key = hash_key()?;
    loader.override_global(names::HASH_KEY, &key, true);
    loader.override_global(names::NETNS, &netns, true);
    let all_netns = u32::from(settings.all_netns);
    loader.override_global(names::ALL_NETNS, &all_netns, true);
    loader.override_global(names::SAMPLE_MASK, &sample_mask, true);
    loader.override_global(aya_log::LEVEL, &log_level, true);
    loader.load(OBJECT).map_err(|error| match &error {
        EbpfError::MapError(aya::maps::MapError::CreateError { io_error, .. })
            if io_error.raw_os_error() == Some(libc::EPERM) =>
        {
            KernelError::NoRight
        }
        _ => KernelError::Load(error),
    })
}

/// A program of the object, by name and type.
pub fn program<'a, T>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, KernelError>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = object.program_mut(name).ok_or(KernelError::NoSuchProgram(name))?;
    program.try_into().map_err(|source| KernelError::Program { name, source })
}

/// Loads a program that sees packets: XDP, or a classifier.
pub fn load_packet_program(object: &mut Ebpf, name: &'static str) -> Result<(), KernelError> {
    match object.program_mut(name) {
        Some(Program::Xdp(program)) => program.load(),
        Some(Program::SchedClassifier(program)) => program.load(),
        _ => return Err(KernelError::NoSuchProgram(name)),
    }
    .map_err(|source| KernelError::program(name, source))
}

/// Loads the census and the other passes over sockets: holders of ports, UDP, and those that answer which sockets hold
/// a port. The kernel must have BTF of its own.
pub fn load_passes(object: &mut Ebpf) -> Result<(), KernelError> {
    let btf = kernel_btf("the census", "use a kernel with CONFIG_DEBUG_INFO_BTF=y")?;
    let passes = names::PROGRAMS.iter().filter(|program| program.kind == "iter");
    passes.filter(|program| program.name != names::PROGRAM_LISTENING).try_for_each(|pass| load_pass(object, pass, &btf))
}

/// Loads one iterator.
pub fn load_iterator(object: &mut Ebpf, name: &'static str) -> Result<(), KernelError> {
    let btf = kernel_btf(name, "use a kernel with CONFIG_DEBUG_INFO_BTF=y")?;
    let pass = names::PROGRAMS.iter().find(|program| program.name == name).ok_or(KernelError::NoSuchProgram(name))?;
    load_pass(object, pass, &btf)
}

fn load_pass(object: &mut Ebpf, pass: &names::Program, btf: &Btf) -> Result<(), KernelError> {
    let &names::Program { name, target, .. } = pass;
    program::<Iter>(object, name)?.load(target, btf).map_err(|source| KernelError::program(name, source))
}

/// Loads what sees which SYNs reach TCP.
pub fn load_sk_lookup(object: &mut Ebpf) -> Result<(), KernelError> {
    let name = names::PROGRAM_SK_LOOKUP;
    program::<SkLookup>(object, name)?.load().map_err(|source| KernelError::program(name, source))
}

/// Attaches it to this thread's network namespace.
pub fn attach_sk_lookup(object: &mut Ebpf) -> Result<(), KernelError> {
    load_sk_lookup(object)?;
    let (name, target) = (names::PROGRAM_SK_LOOKUP, super::OWN_NETNS);
    let netns =
        std::fs::File::open(target).map_err(|source| KernelError::Io { what: format!("open {target}"), source })?;
    let attached = program::<SkLookup>(object, name)?.attach(netns);
    attached.map(drop).map_err(|source| KernelError::Attach { name, target: target.into(), source })
}

/// Attaches socket events; returns how: `tp_btf` or `raw_tp`.
pub fn attach_socket_events(object: &mut Ebpf, wanted: SocketEvents) -> Result<&'static str, KernelError> {
    match wanted {
        SocketEvents::TpBtf => attach_tp_btf(object, names::PROGRAM_SOCK_BTF),
        SocketEvents::RawTp => attach_raw_tp(object),
        SocketEvents::Auto => attach_tp_btf(object, names::PROGRAM_SOCK_BTF).or_else(|error| match error {
            KernelError::NoRight => Err(error),
            error => {
                tracing::warn!("tp_btf is not available, using raw_tp: {error}");
                attach_raw_tp(object)
            }
        }),
    }
}

/// Loads a BTF-typed program and attaches it to the tracepoint of socket events.
pub fn attach_tp_btf(object: &mut Ebpf, name: &'static str) -> Result<&'static str, KernelError> {
    let btf = kernel_btf("tp_btf", "leave --socket-events at auto or choose raw_tp")?;
    let program = program::<BtfTracePoint>(object, name)?;
    program.load(SOCK_STATE, &btf).map_err(|source| KernelError::program(name, source))?;
    program.attach().map_err(|source| KernelError::Attach { name, target: SOCK_STATE.into(), source })?;
    Ok("tp_btf")
}

fn attach_raw_tp(object: &mut Ebpf) -> Result<&'static str, KernelError> {
    let name = names::PROGRAM_SOCK_RAW;
    let program = program::<RawTracePoint>(object, name)?;
    program.load().map_err(|source| KernelError::program(name, source))?;
    program.attach(SOCK_STATE).map_err(|source| KernelError::Attach { name, target: SOCK_STATE.into(), source })?;
    Ok("raw_tp")
}

/// Attaches what sees the end of `bind()`, and says how: `fexit`, `tracepoints` or `no`. The tracepoints only when they
/// are asked for: they slow every system call.
pub fn attach_bind(object: &mut Ebpf, trace: bool) -> Result<&'static str, KernelError> {
    let Err(error) = attach_fexit(object) else { return Ok("fexit") };
    // Lockdown and hardened kernels refuse this kind alone, with the error of a missing right.
    let refusal = match error {
        KernelError::NoRight => "the kernel refuses fexit programs".to_owned(),
        error => error.to_string(),
    };
    if !trace {
        tracing::info!("refused bind() calls are not seen without --trace-bind: {refusal}");
        return Ok("no");
    }
    tracing::info!("tracepoints in place of fexit: {refusal}");
    for (name, event) in [(names::PROGRAM_BIND_IN, "sys_enter_bind"), (names::PROGRAM_BIND_OUT, "sys_exit_bind")] {
        let program = program::<TracePoint>(object, name)?;
        program.load().map_err(|source| KernelError::program(name, source))?;
        program
            .attach("syscalls", event)
            .map_err(|error| KernelError::Tracepoint { event, reason: error.to_string() })?;
    }
    Ok("tracepoints")
}

/// Attaches what sees the end of `bind()` by fexit.
pub fn attach_fexit(object: &mut Ebpf) -> Result<(), KernelError> {
    let name = names::PROGRAM_BIND;
    let btf = kernel_btf("fexit", "use --trace-bind")?;
    let program = program::<FExit>(object, name)?;
    program.load("__sys_bind", &btf).map_err(|source| KernelError::program(name, source))?;
    let attached = program.attach().map(drop);
    attached.map_err(|source| KernelError::Attach { name, target: "__sys_bind".into(), source })
}

/// Socket events that the kernel did not hand over because the program was already running on that CPU
/// (`recursion_misses` of `bpf_prog_show_fdinfo`).
pub fn skipped_events(object: &Ebpf) -> u64 {
    let descriptor = |name| match object.program(name)? {
        Program::BtfTracePoint(program) => Some(program.fd().ok()?.as_fd().as_raw_fd()),
        Program::RawTracePoint(program) => Some(program.fd().ok()?.as_fd().as_raw_fd()),
        _ => None,
    };
    let misses = |descriptor: RawFd| -> Option<u64> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
        info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
    };
    [names::PROGRAM_SOCK_BTF, names::PROGRAM_SOCK_RAW].into_iter().filter_map(descriptor).filter_map(misses).sum()
}

/// Type information of the running kernel, as typed tracepoints and iterators are attached by it.
pub fn kernel_btf(what: &'static str, hint: &'static str) -> Result<Btf, KernelError> {
    Btf::from_sys_fs().map_err(|error| {
        tracing::debug!("{KERNEL_BTF}: {error}");
        KernelError::NoKernelBtf { what, hint }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{OBJECT, names};

    #[test]
    fn the_object_has_just_the_programs_and_maps_that_are_named() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        let programs: BTreeSet<_> = object.programs.keys().map(String::as_str).collect();
        let maps: BTreeSet<_> = object.maps.keys().map(String::as_str).filter(|name| !name.starts_with('.')).collect();
        assert_eq!(programs, names::PROGRAMS.iter().map(|program| program.name).collect());
        assert_eq!(maps, names::MAPS.iter().copied().collect());
    }
}
