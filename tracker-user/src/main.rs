//! Entry point of the `tracker` binary.
fn main() {}
