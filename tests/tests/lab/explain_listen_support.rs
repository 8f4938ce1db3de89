//! What the cases of `tracker explain listen` need: clients that try, rules of nft, and a watch of a port meanwhile.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    process::Stdio,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tracker_model::explain::{ListenAnswer, ListenCause, StepState};
use tracker_tests::{Family, api::Api, daemon::Daemon, namespace::Namespace, pair::Pair};

/// The port of most cases.
pub(crate) const PORT: u16 = 80;
/// How long a port is watched, seconds.
const WATCHED: u16 = 2;
/// A client gives up after this time: its SYN was repeated once by then.
const PATIENCE: Duration = Duration::from_millis(1_300);

/// Adds rules to a namespace, as nft reads them.
pub(crate) fn nft(namespace: &Namespace, rules: &str) -> Result<()> {
    let mut nft = namespace.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    nft.stdin.take().context("no standard input")?.write_all(rules.as_bytes())?;
    let output = nft.wait_with_output()?;
    ensure!(output.status.success(), "nft: {}\n{rules}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A chain of a hook with one rule, in the table `lab`, which replaces the one before.
pub(crate) fn rule(namespace: &Namespace, hook: &str, kind: &str, rule: &str) -> Result<()> {
    let chain = format!("chain {hook} {{\ntype {kind} hook {hook} priority 0\n{rule}\n}}\n");
    nft(namespace, &format!("table inet lab\ndelete table inet lab\ntable inet lab {{\n{chain}}}\n"))
}

/// Takes the rules away.
pub(crate) fn no_rules(namespace: &Namespace) -> Result<()> {
    nft(namespace, "table inet lab\ndelete table inet lab\n")
}

/// Clients that try to connect at once, this many to each target, and hold what they get.
pub(crate) fn clients(namespace: &Namespace, targets: &[SocketAddr], count: usize) -> Vec<TcpStream> {
    namespace.enter(|| {
        thread::scope(|scope| {
            let connect = |target: SocketAddr| move || TcpStream::connect_timeout(&target, PATIENCE).ok();
            let all: Vec<_> = targets.iter().flat_map(|target| vec![*target; count]).collect();
            let all: Vec<_> = all.into_iter().map(|target| scope.spawn(connect(target))).collect();
            all.into_iter().filter_map(|client| client.join().expect("a client does not panic")).collect()
        })
    })
}

/// Watches ports while something happens.
pub(crate) fn watch_all(
    api: &Api,
    targets: &[SocketAddr],
    traffic: impl FnOnce() -> Result<()>,
) -> Result<Vec<ListenAnswer>> {
    thread::scope(|scope| {
        let watches: Vec<_> =
            targets.iter().map(|target| scope.spawn(|| api.explain_listen(*target, WATCHED))).collect();
        // The daemon takes a census first.
        thread::sleep(Duration::from_millis(400));
        traffic()?;
        watches.into_iter().map(|watch| watch.join().expect("asking does not panic")).collect()
    })
}

/// A pair whose server is watched.
pub(crate) struct Scene<'a> {
    pub(crate) pair: &'a Pair,
    pub(crate) api: Api,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(pair: &'a Pair, daemon: &Daemon<'_>) -> Self {
        Self { pair, api: Api::at(daemon.socket()) }
    }

    /// The server's address of a family, with a port.
    pub(crate) fn server(&self, family: Family, port: u16) -> SocketAddr {
        self.pair.link.right.socket(family, port)
    }

    /// Lets three clients of each family try to connect to a port while it is watched, at the server's own addresses,
    /// and checks the cause.
    pub(crate) fn tried(&self, port: u16, cause: ListenCause) -> Result<Vec<ListenAnswer>> {
        self.tried_by(&Family::BOTH, port, cause)
    }

    /// The same with some families.
    pub(crate) fn tried_by(&self, families: &[Family], port: u16, cause: ListenCause) -> Result<Vec<ListenAnswer>> {
        let targets: Vec<_> = families.iter().map(|family| self.server(*family, port)).collect();
        self.checked(&targets, cause, || {
            drop(clients(&self.pair.client, &targets, 3));
            Ok(())
        })
    }

    /// Watches while something happens, and checks that the cause of each is this one.
    pub(crate) fn checked(
        &self,
        targets: &[SocketAddr],
        cause: ListenCause,
        traffic: impl FnOnce() -> Result<()>,
    ) -> Result<Vec<ListenAnswer>> {
        let answers = watch_all(&self.api, targets, traffic)?;
        for (target, answer) in targets.iter().zip(&answers) {
            println!("{target}: {}: {}", answer.cause, answer.summary);
            ensure!(answer.cause == cause, "{target} is {}, not {cause}: {answer:#?}", answer.cause);
            // Those that are sent to another port may be served there.
            let may_be_served = cause == ListenCause::Redirected;
            ensure!(answer.blocked == cause.is_blocking() || may_be_served, "{answer:#?}");
            let problems = answer.steps.iter().filter(|step| step.state == StepState::Problem).count();
            ensure!(problems == usize::from(answer.blocked), "one step is the cause: {answer:#?}");
            ensure!(answer.advice.is_empty() == (cause == ListenCause::Fine), "a remedy: {answer:#?}");
            ensure!(answer.summary.lines().count() == 1, "{answer:#?}");
        }
        Ok(answers)
    }
}

/// How many SYNs were dropped for a reason.
pub(crate) fn dropped(answer: &ListenAnswer, reason: &str) -> u64 {
    let drops = answer.figures.dropped.iter().flatten().filter(|drop| drop.reason == reason);
    drops.map(|drop| drop.count).sum()
}
