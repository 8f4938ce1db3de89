//! What flags, variables and the file say, and which of them holds.

use std::{io::Write as _, time::Duration};

use tracker_detect::syn::Sensitivity;

use super::*;

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// Loads with these flags. Variables of whoever runs the tests do not count.
fn load(flags: &[&str], named: Option<&Path>) -> Result<Loaded, ConfigError> {
    let command =
        Flags::augment_args(Command::new("flags").no_binary_name(true)).mut_args(|flag| flag.env(None::<&str>));
    super::load(&Flags(command.try_get_matches_from(flags).unwrap()), named)
}

#[test]
fn a_flag_outweighs_the_file_and_the_file_the_default() {
    let file = file(
        "hook = 'xdp'\ninterface = ['eth0', 'eth1']\nlifetime-sample = 0x10\nall-netns = true\n\
         [web]\nlisten-address = ':1'\n",
    );
    let loaded = load(&["--hook", "tc", "--interface", "lo"], Some(file.path())).unwrap();
    let Settings { kernel, web, .. } = loaded.settings;
    assert_eq!((kernel.hook, kernel.lifetime_sample, kernel.all_netns), (Hook::Tc, 16, true));
    assert_eq!(kernel.interfaces, ["lo"], "a list replaces that of the file");
    assert_eq!((web.listen, web.telemetry_path.as_str()), (vec!["[::]:1".parse().unwrap()], "/metrics"));
    assert_eq!(loaded.file.as_deref(), Some(file.path()));
}

#[test]
fn the_kernel_programs_log_from_debug_on() {
    for (level, logs) in [("error", false), ("info", false), ("debug", true), ("trace", true)] {
        let file = file("");
        let settings = load(&["--log-level", level], Some(file.path())).unwrap().settings;
        assert_eq!(settings.kernel.kernel_log, logs, "{level}");
    }
}

#[test]
fn shown_settings_can_be_read_again() {
    let words = [
        "--interface=eth0,veth*",
        "--hook=xdp",
        "--socket-events=raw_tp",
        "--btf=/a b/\"btf\"",
        "--lifetime-sample=064",
        "--census-interval=1500ms",
        "--all-netns",
        "--trace-bind=true",
        "--sensitivity=low",
        "--detector.record=/tmp/replay.jsonl",
        "--web.listen-address=:1,[::1]:2",
        "--web.telemetry-path=/m",
        "--api.socket=/tmp/s",
        "--log-level=debug",
        "--log-format=json",
    ];
    let first = load(&words, Some(file("").path())).unwrap();
    assert_eq!(first.toml.lines().count(), words.len(), "one line for each setting:\n{}", first.toml);
    let again = load(&[], Some(file(&first.toml).path())).unwrap();
    assert_eq!(again.toml, first.toml);
    assert_eq!(format!("{:?}", again.settings), format!("{:?}", first.settings));
    let kernel = again.settings.kernel;
    assert_eq!((kernel.census_interval, kernel.sensitivity), (Duration::from_millis(1_500), Sensitivity::Low));
}

#[test]
fn a_named_file_must_exist_and_be_a_file() {
    let error = load(&[], Some(Path::new("/nonexistent/tracker.toml"))).unwrap_err();
    assert!(error.to_string().starts_with("cannot read /nonexistent/tracker.toml"));
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [fifo.as_path(), directory.path(), Path::new("/dev/zero")] {
        let error = anyhow::Error::from(load(&[], Some(path)).unwrap_err());
        assert!(format!("{error:#}").ends_with("not a regular file"), "{error:#}");
    }
}

fn refused(text: &str) -> String {
    let file = file(text);
    let error = load(&[], Some(file.path())).unwrap_err().to_string();
    error.strip_prefix(file.path().to_str().unwrap()).unwrap().to_owned()
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_key_that_was_meant() {
    assert_eq!(
        refused("hook = 'tc'\nweb.listen-adress = 'x'"),
        ":2: unknown key `web.listen-adress` (= 'x'); did you mean `web.listen-address`?"
    );
    let error = refused("[zzz]\na = 1");
    assert!(error.starts_with(":1: unknown key `zzz`") && error.contains("the keys are interface, hook,"));
}

#[test]
fn a_bad_value_is_refused_with_key_value_place_and_what_would_be_right() {
    for (text, expected) in [
        ("\n\nhook = 'foo'", ":3: hook = 'foo': must be one of auto, xdp, tc"),
        ("hook = 'XDP'", ":1: hook = 'XDP': must be one of auto, xdp, tc"),
        ("sensitivity = '3'", ":1: sensitivity = '3': must be one of low, medium, high"),
        ("log-level = 'off'", ":1: log-level = 'off': must be one of error, warn, info, debug, trace"),
        ("[web]\ntelemetry-path = 1", ":2: web.telemetry-path = 1: must be a string in quotes"),
        ("interface = [\n'a', 1]", ":1: interface = [ 'a', 1]: must be a list of strings"),
        ("lifetime-sample = 3", ":1: lifetime-sample = 3: must be a power of two from 1 to 65536"),
        ("lifetime-sample = '8'", ":1: lifetime-sample = '8': must be a whole number without quotes"),
        ("all-netns = 'true'", ":1: all-netns = 'true': must be true or false, without quotes"),
        ("btf = ''", ":1: btf = '': must not be empty"),
    ] {
        assert_eq!(refused(text), expected);
    }
    assert!(refused("interface = 'a,b'").contains("'a,b': must be the name of an interface"));
    assert!(refused("web.listen-address = []").contains("= []: must name one at least"));
    assert!(refused(&format!("hook = '{}'", "x".repeat(1_000_000))).len() < 200);
}

#[test]
fn what_is_no_toml_is_refused_with_its_place() {
    let error = refused("hook = 'tc'\nhook = 'xdp'");
    assert!(error.starts_with(":2: ") && !error.contains('\n'), "{error}");
    assert!(refused("hook").starts_with(":1: "));
}
