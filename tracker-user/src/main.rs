//! Entry point of the `tracker` binary.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    tracker_user::command::main()
}
