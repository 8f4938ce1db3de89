//! The lab itself: what the other cases rest on.

use std::{
    collections::BTreeMap,
    env, fs,
    net::{Ipv4Addr, TcpStream},
    panic,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tracker_tests::{
    Family,
    client::{self, Closer, Load},
    command, http,
    link::Tag,
    namespace::{self, Namespace, PREFIX},
    nginx::Nginx,
    packet_socket::PacketSocket,
    pair::Pair,
    process::Process,
    prometheus::Prometheus,
    segment::Route,
    serial,
    server::{self, ListenOptions},
    ss,
};

#[test]
fn a_namespace_is_gone_after_a_panic_with_all_its_processes() -> Result<()> {
    let _alone = serial::alone();
    let directory = namespace::scratch("case")?;
    let mut seen = None;
    let result = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let namespace = Namespace::new().unwrap();
        // Two processes: one that nobody waits for, and a grandchild.
        let shell = namespace.command("sh").args(["-c", "sleep 600 & sleep 600"]).spawn().unwrap();
        let log = directory.path().join("log");
        let process = Process::start("sleep", namespace.command("sleep").arg("600"), &log).unwrap();
        seen = Some((namespace.path(), shell, process.pid()));
        panic!("on purpose");
    }));
    assert!(result.is_err());
    let (path, mut shell, pid) = seen.context("the closure ran")?;
    assert!(!path.exists());
    shell.wait()?;
    assert!(!Path::new("/proc").join(pid.to_string()).exists());
    Ok(())
}

#[test]
fn what_a_killed_lab_left_is_swept() -> Result<()> {
    let _alone = serial::alone();
    let mut dead = Command::new("true").spawn()?;
    dead.wait()?;
    let name = format!("{PREFIX}{}-0", dead.id());
    command::run("ip", ["netns", "add", &name])?;
    let files = env::temp_dir().join(&name);
    fs::create_dir(&files)?;
    let mut inside = Command::new("ip").args(["netns", "exec", &name, "sleep", "600"]).spawn()?;
    let alive = Namespace::new()?;
    // Until `ip` has become `sleep`, it is not inside.
    let deadline = Instant::now() + Duration::from_secs(5);
    while command::output("ip", ["netns", "pids", &name])?.is_empty() {
        ensure!(Instant::now() < deadline, "sleep does not start");
    }
    namespace::sweep()?;
    assert!(!Path::new("/run/netns").join(&name).exists() && !files.exists());
    assert!(!inside.wait()?.success());
    assert!(alive.path().exists(), "the namespace of a lab that lives is left alone");
    Ok(())
}

#[test]
fn sockets_and_settings_are_those_of_the_namespace() -> Result<()> {
    let _alone = serial::alone();
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.sysctl("net.ipv4.tcp_syncookies", "0")?;
    assert_eq!(there.enter(|| fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies"))?, "1\n");
    let listener = server::listen(&here, (Ipv4Addr::LOCALHOST, 80).into(), ListenOptions::default())?;
    assert_eq!(ss::count(&here, Family::Ipv4)?, BTreeMap::from([("listen".to_owned(), 1)]));
    assert_eq!(ss::count(&there, Family::Ipv4)?, BTreeMap::new());
    let address = listener.local_addr()?;
    assert!(here.enter(|| TcpStream::connect(address)).is_ok());
    assert!(there.enter(|| TcpStream::connect(address)).is_err());
    let inode = command::stdout_of(here.command("readlink").arg("/proc/self/ns/net"))?;
    assert_eq!(inode.trim(), format!("net:[{}]", here.inode()));
    Ok(())
}

#[test]
fn nginx_and_clients_talk_on_a_plain_link_and_on_a_tagging_wire() -> Result<()> {
    let _alone = serial::alone();
    let single = [Tag { kind: Tag::CUSTOMER, vlan: 0 }];
    let double = [Tag { kind: Tag::SERVICE, vlan: 0 }, single[0]];
    for pair in [Pair::plain()?, Pair::tagged(&single)?, Pair::tagged(&double)?] {
        let nginx = Nginx::start(&pair.server, 80)?;
        for (closer, holder) in [(Closer::Server, &pair.server), (Closer::Client, &pair.client)] {
            for family in Family::BOTH {
                let before = ss::count(holder, family)?.get("time_wait").copied().unwrap_or(0);
                let target = pair.link.right.socket(family, nginx.port());
                client::run(&pair.client, &Load { target, connections: 50, threads: 2, closer })?;
                let after = ss::count(holder, family)?["time_wait"];
                assert_eq!(after - before, 50, "{closer:?} closes first over {family:?}");
            }
        }
        assert_eq!(pair.client.counter("Tcp", "RetransSegs")?, 0);
    }
    Ok(())
}

#[test]
fn a_wire_delays() -> Result<()> {
    let _alone = serial::alone();
    let delay = Duration::from_millis(50);
    let pair = Pair::delayed(delay)?;
    for family in Family::BOTH {
        let target = pair.link.right.socket(family, 80);
        let listener = server::listen(&pair.server, target, ListenOptions::default())?;
        let start = Instant::now();
        let _ends = server::connected(&pair.client, target, &listener)?;
        assert!((delay..delay * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
    }
    Ok(())
}

#[test]
fn a_frame_of_our_own_makes_a_half_open_request() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let (from, to) = (&pair.link.left, &pair.link.right);
    let socket = PacketSocket::sender(&pair.client, &from.device)?;
    for family in Family::BOTH {
        let target = to.socket(family, 80);
        let _listener = server::listen(&pair.server, target, ListenOptions::default())?;
        let spoofed = match family {
            Family::Ipv4 => "198.18.0.1:1234".parse()?,
            Family::Ipv6 => "[fd99::1]:1234".parse()?,
        };
        socket.send(&Route { from, to }.syn(spoofed, target))?;
        assert_eq!(ss::count(&pair.server, family)?["half_open"], 1);
    }
    Ok(())
}

#[test]
fn prometheus_scrapes() -> Result<()> {
    let _alone = serial::alone();
    let namespace = Namespace::new()?;
    // Prometheus can scrape itself: what it says then is not of interest, that it does is.
    let address = (Ipv4Addr::LOCALHOST, 9090).into();
    let prometheus = Prometheus::start(&namespace, address)?;
    assert_eq!(http::get(&namespace, address, "/metrics")?.status, 200);
    let deadline = Instant::now() + Duration::from_secs(10);
    while prometheus.query("up{job=\"tracker\"}")? != Some(1.0) {
        ensure!(Instant::now() < deadline, "no scrape within 10 s");
    }
    Ok(())
}
