//! The kernel programs: a line in this list for each.

/// A program of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name in the object.
    pub name: &'static str,
    /// How it is attached, as `tracker status` says it.
    pub kind: &'static str,
    /// The tracepoint, function or iterator that it is attached to; empty where it is an interface
    /// or a network namespace.
    pub target: &'static str,
}

macro_rules! programs {
    ($( $(#[$meta:meta])* $constant:ident = $name:literal, $kind:literal, $target:literal; )*) => {
        $( $(#[$meta])* pub const $constant: &str = $name; )*
        /// All programs of the object.
        pub const PROGRAMS: &[Program] = &[$( Program { name: $name, kind: $kind, target: $target }, )*];
    };
}

programs! {
    /// Packets, by XDP, on physical and virtio interfaces.
    PROGRAM_XDP = "tracker_xdp", "xdp", "";
    /// Packets, by a tcx or clsact classifier, on all other interfaces.
    PROGRAM_TC = "tracker_tc", "tc", "";
    /// SYNs that reach TCP, by the lookup of a listening socket.
    PROGRAM_SK_LOOKUP = "tracker_sk_lookup", "sk_lookup", "";
    /// Socket events, by the BTF-typed tracepoint.
    PROGRAM_SOCK_BTF = "tracker_sock_btf", "tp_btf", "inet_sock_set_state";
    /// Socket events, by the raw tracepoint, where the kernel has no BTF.
    PROGRAM_SOCK_RAW = "tracker_sock_raw", "raw_tp", "inet_sock_set_state";
    /// Census of all TCP sockets.
    PROGRAM_CENSUS = "tracker_census", "iter", "tcp";
    /// Listening sockets, each by itself.
    PROGRAM_LISTENING = "tracker_listening", "iter", "bpf_sk_storage_map";
    /// Which process holds which socket.
    PROGRAM_HOLDERS = "tracker_holders", "iter", "task_file";
    /// Ephemeral ports of UDP.
    PROGRAM_UDP = "tracker_udp", "iter", "udp";
    /// TCP sockets that hold a port.
    PROGRAM_TCP_AT = "tracker_tcp_at", "iter", "tcp";
    /// UDP sockets that hold a port.
    PROGRAM_UDP_AT = "tracker_udp_at", "iter", "udp";
    /// Sockets of processes that hold a port.
    PROGRAM_FILES_AT = "tracker_files_at", "iter", "task_file";
    /// Packets that the kernel drops, while somebody asks why.
    PROGRAM_DROPS = "tracker_drops", "tp_btf", "kfree_skb";
    /// Resets that no socket sends, while somebody asks who does.
    PROGRAM_RESETS = "tracker_resets", "tp_btf", "net_dev_queue";
    /// The end of `bind()`, by fexit.
    PROGRAM_BIND = "tracker_bind", "fexit", "__sys_bind";
    /// The start of `bind()`, by the tracepoint of the system call.
    PROGRAM_BIND_IN = "tracker_bind_in", "tracepoint", "sys_enter_bind";
    /// The end of `bind()`, by the tracepoint of the system call.
    PROGRAM_BIND_OUT = "tracker_bind_out", "tracepoint", "sys_exit_bind";
}
