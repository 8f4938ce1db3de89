//! One program a file.

mod bind_exit;
mod bind_trace;
mod census;
mod holders;
mod holding_files;
mod holding_tcp;
mod holding_udp;
mod sock_btf;
mod sock_raw;
mod tc;
mod udp;
mod xdp;
