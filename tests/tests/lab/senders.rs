//! The lab's own floods and clients: they send what they say.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tracker_tests::{
    Family, daemon,
    detection::lab::{self, Lab, api},
    flood::{Flood, Pace, Sources},
    load_clients::Plan,
    serial,
};

#[test]
fn each_frame_of_a_flood_arrives_and_is_answered_by_nobody() -> Result<()> {
    let _alone = serial::alone();
    let lab = Lab::new(1, 2)?;
    let daemon = lab.daemon(None)?;
    let paces = [Pace::Steady(500.0), Pace::Steady(5_000.0), Pace::Fastest];
    for family in Family::BOTH {
        let target = lab.target(family, Lab::port(0));
        let (mut frames, dropped) = (0, lab.server.dropped(&lab.pair.link.right.device)?);
        let answers = lab.client.tcp("OutSegs")?;
        for pace in paces {
            let flood = Flood::syns(target, Sources::Everywhere(family), pace, Duration::from_secs(1));
            let sent = flood.start(&lab.pair.client, lab.route())?.wait()?;
            println!("{family:?} {pace:?}: {} frames", sent.frames);
            if let Pace::Steady(rate) = pace {
                #[expect(clippy::cast_precision_loss, reason = "some thousands")]
                let rate_of_sent = sent.frames as f64;
                assert!((rate_of_sent - rate).abs() <= rate / 100.0, "{} frames in a second at {rate}/s", sent.frames);
            }
            assert_eq!(sent.distinct, sent.frames);
            frames += sent.frames;
        }
        let listeners = api(&daemon).fresh_listeners()?;
        let seen = daemon::find(listeners, (lab::wildcard(family), target.port()).into()).context("no listener")?;
        let dropped = lab.server.dropped(&lab.pair.link.right.device)? - dropped;
        // What the backlog refused was sent again where the kernel says that it did.
        assert!(
            (frames - dropped..=frames).contains(&seen.syns_received),
            "{frames} sent, {dropped} dropped: {seen:?}"
        );
        assert_eq!(seen.handshakes_completed, 0);
        assert_eq!(lab.server.tcp("InCsumErrors")?, 0);
        assert_eq!(lab.client.tcp("OutSegs")?, answers, "nobody answers for a spoofed source");
    }
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn load_clients_are_counted_as_the_kernel_counts_it() -> Result<()> {
    let _alone = serial::alone();
    let lab = Lab::new(2, 1)?;
    for family in Family::BOTH {
        let before = (lab.client.syns_sent()?, lab.server.tcp("PassiveOpens")?);
        let targets = vec![lab.target(family, Lab::port(0))];
        let clients = Plan::requests(targets, lab::clients(family, 8), 500.0).start(&lab.pair.client)?;
        std::thread::sleep(Duration::from_secs(2));
        let seen = clients.stop()?;
        println!("{family:?}: {seen:?}");
        let after = (lab.client.syns_sent()? - before.0, lab.server.tcp("PassiveOpens")? - before.1);
        assert_eq!((after, seen.done), ((seen.attempted, seen.established), seen.attempted), "{seen:?}");
        assert!((990..=1_010).contains(&seen.attempted), "{seen:?}");
    }
    Ok(())
}
