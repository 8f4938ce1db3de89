//! What the commands print, against the texts in tracker-user/tests/golden/.

use std::{net::SocketAddr, path::Path};

use serde_json::Value;
use tracker_common::counters::InterfaceCounters;
use tracker_detect::explain::{BindRequest, explain_bind, explain_connect, explain_listen};
use tracker_fixtures as sample;
use tracker_model::{
    Snapshot,
    api::{Interface, Ports, Unwatched},
    explain::{BindAnswer, ConnectAnswer, ListenAnswer, Protocol},
};

use super::*;
use crate::view;

/// A daemon that sees little: nothing listens, nothing was counted, an interface is seen on another.
fn blind() -> Snapshot {
    let mut snapshot = sample::snapshot();
    snapshot.listeners.clear();
    snapshot.census = None;
    snapshot.tcp_counters = None;
    snapshot.losses[3] = 1_234;
    snapshot.programs[1].run_count = 0;
    snapshot.missing = vec![Unwatched { name: "eth1".to_owned(), reason: "it is down".to_owned() }];
    let seen_below = Interface::new(
        "eth0".to_owned(),
        2,
        "lower",
        "virtio_net has native XDP".to_owned(),
        InterfaceCounters::default(),
    );
    snapshot.interfaces = vec![seen_below];
    snapshot
}

/// The answer as the command line has it: what is not in JSON is not there.
fn received<T: Serialize + DeserializeOwned>(answer: &T) -> T {
    serde_json::from_value(serde_json::to_value(answer).unwrap()).unwrap()
}

fn connected(destination: &str) -> ConnectAnswer {
    let destination: SocketAddr = destination.parse().unwrap();
    explain_connect([192, 0, 2, 10].into(), destination, &sample::sockets(), &sample::port_settings())
}

fn bound(address: &str) -> BindAnswer {
    let address: SocketAddr = address.parse().unwrap();
    let request = BindRequest::new(Protocol::Tcp, address.ip(), address.port());
    let request = BindRequest { privileged: true, reuse_address: address.port() > 1_023, ..request };
    explain_bind(&request, &sample::sockets(), &sample::port_settings(), true)
}

/// Of a port whose SYNs a firewall drops, and of one where nothing stands in the way.
fn listening() -> [ListenAnswer; 2] {
    let blocked = sample::watched_port();
    let mut quiet = blocked.clone();
    (quiet.families, quiet.interfaces[0].asked) = (Default::default(), [0, 0]);
    quiet.sockets.iter_mut().for_each(|socket| socket.queues = None);
    [explain_listen([192, 0, 2, 10].into(), 80, &blocked), explain_listen([0, 0, 0, 0].into(), 80, &quiet)]
}

fn view(snapshot: &Snapshot, wide: bool) -> View {
    View { wide, now: snapshot.taken_at, columns: Some(100) }
}

fn status(snapshot: &Snapshot) -> Status {
    view::status(snapshot, view::Daemon { version: "1.2.3", pid: 815 }, snapshot.taken_at)
}

#[test]
fn answers_are_shown_as_in_the_goldens() {
    let snapshots = [
        ("fine", Box::new(sample::snapshot())),
        ("flood", Box::new(sample::under_flood())),
        ("blind", Box::new(blind())),
    ];
    for (name, snapshot) in snapshots {
        for (kind, wide) in [("table", false), ("wide", true)] {
            let view = view(&snapshot, wide);
            let text = [
                status::render(&received(&status(&snapshot)), view),
                listeners::render(&received(&view::listeners(&snapshot)), view),
                states::render(&received(&view::states(&snapshot)), view),
            ];
            sample::golden::compare(Path::new(&format!("{name}-{kind}.txt")), &text.join("\n"));
        }
    }
}

#[test]
fn alerts_ports_and_explanations_are_shown_as_in_the_goldens() {
    let (flood, shortage) = (sample::under_flood(), sample::under_shortage());
    for (kind, wide) in [("table", false), ("wide", true)] {
        let of = |snapshot: &Snapshot| alerts::render(&received(&view::alerts(snapshot)), view(snapshot, wide));
        let compare = |name: &str, text: &[String]| {
            sample::golden::compare(Path::new(&format!("{name}-{kind}.txt")), &text.join("\n"));
        };
        compare("alerts", &[of(&flood), of(&shortage), of(&sample::snapshot())]);
        let view = View { columns: None, ..view(&shortage, wide) };
        compare("ports", &[ports::render(&received(&*shortage.ports), &Shown::default(), view)]);
        let binds = ["0.0.0.0:80", "[::]:8080", "127.0.0.1:9000"].map(|address| received(&bound(address)));
        let binds = binds.map(|answer| explain::bind::render(&answer, view));
        let connect = explain::connect::render(&received(&connected("198.51.100.7:443")), view);
        let listens = listening().map(|answer| explain::listen::render(&received(&answer), view));
        compare("explain", &[&[connect][..], &binds, &listens].concat());
    }
}

/// Puts what steers a terminal into all texts of an answer that may come from outside.
fn poison(value: &mut Value) {
    const FROM_OUTSIDE: [&str; 10] =
        ["comm", "summary", "reason", "problems", "advice", "notes", "why", "name", "unread", "text"];
    fn append(value: &mut Value) {
        match value {
            Value::String(text) => text.push_str("a\u{1b}[2Jb\u{9b}2J\u{202e}\n"),
            Value::Array(texts) => texts.iter_mut().for_each(append),
            _ => {}
        }
    }
    match value {
        Value::Object(fields) => {
            fields.iter_mut().for_each(|(name, value)| {
                if FROM_OUTSIDE.contains(&name.as_str()) { append(value) } else { poison(value) }
            });
        }
        Value::Array(elements) => elements.iter_mut().for_each(poison),
        _ => {}
    }
}

fn poisoned<T: Serialize + DeserializeOwned>(answer: &T) -> T {
    let mut value = serde_json::to_value(answer).unwrap();
    poison(&mut value);
    serde_json::from_value(value).unwrap()
}

#[test]
fn names_and_texts_from_outside_cannot_steer_the_terminal() {
    let (flood, shortage) = (sample::under_flood(), sample::under_shortage());
    for wide in [false, true] {
        let (one, other) = (view(&flood, wide), view(&shortage, wide));
        let ports: Ports = poisoned(&*shortage.ports);
        for text in [
            status::render(&poisoned(&status(&blind())), one),
            listeners::render(&poisoned(&view::listeners(&flood)), one),
            alerts::render(&poisoned(&view::alerts(&flood)), one),
            alerts::render(&poisoned(&view::alerts(&shortage)), other),
            ports::render(&ports, &Shown::default(), other),
            explain::connect::render(&poisoned(&connected("198.51.100.7:443")), other),
            explain::bind::render(&poisoned(&bound("0.0.0.0:80")), other),
            explain::listen::render(&poisoned(&listening()[0]), other),
            check::line(&poisoned(&status(&blind()))) + "\n",
        ] {
            assert!(text.contains("a\\u{1b}[2Jb\\u{9b}2J\\u{202e}\\n"), "{text}");
            let steers = |character: char| character != '\n' && (character.is_control() || character == '\u{202e}');
            assert!(!text.contains(steers) && !text.lines().any(|line| line == "b"), "{text}");
        }
    }
}
