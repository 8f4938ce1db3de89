//! One program a file.

mod census;
mod sock_btf;
mod sock_raw;
mod tc;
mod xdp;
