//! One program a file: where it is attached, and in which order it calls what the files above share. What more than one
//! program needs does not belong here.

mod bind_exit;
mod bind_trace;
mod census;
mod drops;
mod holders;
mod listening;
mod sk_lookup;
mod sock_btf;
mod sock_raw;
mod socket_dump_files;
mod socket_dump_tcp;
mod socket_dump_udp;
mod tc;
mod udp;
mod xdp;
