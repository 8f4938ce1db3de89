//! The binary as a user runs it, as far as no kernel program is needed: usage, settings, errors, exit codes.

use std::{
    ffi::OsStr,
    fs,
    net::TcpListener,
    os::unix::{ffi::OsStrExt as _, net::UnixListener},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

fn tracker(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracker"));
    // Variables of whoever runs the tests must not count.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TRACKER_") || name == "NOTIFY_SOCKET") {
        command.env_remove(name);
    }
    command.args(words);
    command
}

fn run(words: &[&str]) -> (i32, String, String) {
    parts(&tracker(words).output().unwrap())
}

/// Exit code, standard output, standard error.
fn parts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_command_line_uses_nothing_of_the_daemon() {
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli")];
    while let Some(directory) = directories.pop() {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for module in ["kernel", "api", "command", "daemon", "metrics", "web"] {
                let name = format!("crate::{module}");
                assert!(!text.contains(&name), "{} uses {name}; tracker-model has what both need", path.display());
            }
        }
    }
}

fn is_one_line(text: &str) -> bool {
    text.starts_with("tracker: ") && text.ends_with('\n') && text.lines().count() == 1
}

#[test]
fn version_and_help_are_fine() {
    let (code, out, _) = run(&["--version"]);
    assert_eq!((code, out), (0, format!("tracker {}\n", env!("CARGO_PKG_VERSION"))));
    let calls = [&["explain", "connect"][..], &["explain", "bind"], &["explain", "listen"]];
    let commands = ["run", "status", "alerts", "listeners", "states", "ports", "explain"];
    for command in commands.iter().map(std::slice::from_ref).chain(calls) {
        let (code, out, err) = run(&[command, &["--help"]].concat());
        assert!(code == 0 && out.contains("Examples:") && err.is_empty(), "{command:?}");
    }
    let (_, out, _) = run(&["run", "--help"]);
    assert!(!out.contains("--output"), "-o is not for the daemon:\n{out}");
}

#[test]
fn wrong_usage_is_one_line_and_code_2() {
    for words in [
        &["run", "--no-such-flag"][..],
        &["nothing"],
        &["status", "-o", "xml"],
        &["run", "--lifetime-sample", "3"],
        &["run", "--sensitivity", "most"],
        &["alerts", "--check"],
        &["ports", "--destination", "localhost"],
        &["ports", "--destination", "192.0.2.1:0"],
        &["ports", "--process", ""],
        &["explain", "connect", "192.0.2.1"],
        &["explain", "connect", "192.0.2.1:0"],
        &["explain", "connect", ":80"],
        &["explain", "connect", "192.0.2.1:80", "--source", "here"],
        &["explain", "bind", "::1"],
        &["explain", "bind", "80"],
        &["explain", "bind", ":80", "--user", "no such user"],
        &["explain", "accept", ":80"],
        &["explain", "listen", ":0"],
        &["explain", "listen", ":80", "--for", "61s"],
        &["-o", "json", "run"],
        &["run", "-o", "json"],
    ] {
        let (code, out, err) = run(words);
        assert!(code == 2 && out.is_empty() && is_one_line(&err), "{words:?}: {code} {err}");
    }
    assert_eq!((run(&[]).0, run(&["explain"]).0), (2, 2));
}

#[test]
fn a_bad_variable_is_named() {
    let long = "x".repeat(100_000);
    for (name, value, expected) in [
        ("TRACKER_HOOK", OsStr::new("foo"), "'foo' for the variable TRACKER_HOOK: must be one of auto, xdp, tc"),
        (
            "TRACKER_ALL_NETNS",
            OsStr::new("foo"),
            "'foo' for the variable TRACKER_ALL_NETNS: must be one of true, false",
        ),
        ("TRACKER_CONFIG", OsStr::new(""), "'' for the variable TRACKER_CONFIG: must not be empty"),
        (
            "TRACKER_LIFETIME_SAMPLE",
            OsStr::from_bytes(b"\xff"),
            "the variable TRACKER_LIFETIME_SAMPLE is not valid UTF-8",
        ),
        ("TRACKER_SENSITIVITY", OsStr::new(&long), "x…' for the variable TRACKER_SENSITIVITY"),
    ] {
        let (code, _, err) = parts(&tracker(&["run"]).env(name, value).output().unwrap());
        assert!(code == 2 && is_one_line(&err) && err.len() < 300, "{err}");
        assert!(err.contains(expected), "{err}");
    }
}

#[test]
fn a_pipe_is_no_configuration_file() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut daemon = tracker(&["run", "--config", fifo.to_str().unwrap()]).stderr(Stdio::piped()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while daemon.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            daemon.kill().unwrap();
            panic!("it waits for a writer");
        }
        thread::sleep(Duration::from_millis(20));
    }
    let (code, _, err) = parts(&daemon.wait_with_output().unwrap());
    assert!(code == 2 && is_one_line(&err) && err.contains("not a regular file"), "{err}");
}

#[test]
fn flags_outweigh_variables_and_variables_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tracker.toml");
    fs::write(&path, "hook = 'xdp'\nlifetime-sample = 4\nlog-level = 'warn'\nsensitivity = 'low'\n").unwrap();
    let output = tracker(&["run", "--check-config", "--hook", "tc"])
        .env("TRACKER_CONFIG", &path)
        .env("TRACKER_HOOK", "auto")
        .env("TRACKER_LIFETIME_SAMPLE", "2")
        .env("TRACKER_API_SOCKET", "/tmp/x")
        .env("TRACKER_SENSITIVITY", "high")
        .env("TRACKER_DETECTOR_RECORD", "/tmp/r")
        .output()
        .unwrap();
    let (code, out, err) = parts(&output);
    assert_eq!(code, 0, "{err}");
    for line in [
        "hook = \"tc\"",
        "lifetime-sample = 2",
        "log-level = \"warn\"",
        "api.socket = \"/tmp/x\"",
        "sensitivity = \"high\"",
        "detector.record = \"/tmp/r\"",
    ] {
        assert!(out.lines().any(|other| other == line), "{line} in\n{out}");
    }
}

#[test]
fn a_bad_file_is_one_line_and_code_2() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tracker.toml");
    for (text, expected) in [
        ("\nhok = 'tc'\n", ":2: unknown key `hok` (= 'tc'); did you mean `hook`?"),
        ("hook = 'foo'\n", ":1: hook = 'foo': must be one of auto, xdp, tc"),
        ("sensitivity = 3\n", ":1: sensitivity = 3: must be a string in quotes"),
        ("hook = \n", ":1: "),
        ("web.listen-address = []\n", ":1: web.listen-address = []: must name one at least"),
    ] {
        fs::write(&path, text).unwrap();
        let (code, _, err) = run(&["run", "--config", path.to_str().unwrap()]);
        assert!(code == 2 && is_one_line(&err), "{err}");
        assert!(err.contains(&format!("{}{expected}", path.display())), "{err}");
    }
    let (code, _, err) = run(&["run", "--config", "/nonexistent.toml"]);
    assert!(code == 2 && is_one_line(&err) && err.contains("/nonexistent.toml"), "{err}");
}

#[test]
fn a_daemon_that_is_not_there_is_one_line_with_the_way_out() {
    let explain =
        [&["explain", "connect", "192.0.2.1:80"][..], &["explain", "bind", ":80"], &["explain", "listen", ":80"]];
    let commands = ["status", "alerts", "listeners", "states", "ports"];
    for command in commands.iter().map(std::slice::from_ref).chain(explain) {
        let (code, out, err) = run(&[command, &["--api.socket", "/nonexistent/socket"]].concat());
        assert!(code == 1 && out.is_empty() && is_one_line(&err), "{err}");
        assert!(err.contains("start it with `tracker run` or name its socket with --api.socket"), "{err}");
    }
}

#[test]
fn a_check_of_a_daemon_that_is_not_there_is_critical() {
    let (code, out, err) = run(&["status", "--check", "--api.socket", "/nonexistent/socket"]);
    assert_eq!((code, err.as_str(), out.lines().count()), (2, "", 1));
    assert!(out.starts_with("TRACKER CRITICAL: cannot reach the daemon"), "{out}");
}

#[test]
fn what_stands_in_the_way_of_the_daemon_is_one_line_and_code_1() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "precious").unwrap();
    let taken = directory.path().join("taken");
    let _daemon = UnixListener::bind(&taken).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();

    let start = |socket: &Path, address: &str| {
        run(&["run", "--api.socket", socket.to_str().unwrap(), "--web.listen-address", address])
    };
    for (socket, address, expected) in [
        (directory.path().join("free"), address.as_str(), "stop what listens there"),
        (taken.clone(), "127.0.0.1:0", "another daemon has"),
        (file.clone(), "127.0.0.1:0", "is no socket"),
        ("/proc/nowhere/socket".into(), "127.0.0.1:0", "cannot create /proc/nowhere"),
    ] {
        let (code, _, err) = start(&socket, address);
        assert!(code == 1 && is_one_line(&err) && err.contains(expected), "{code} {err}");
    }
    assert!(!directory.path().join("free").exists() && taken.exists());
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");
}
