//! The ports that are being watched for those who ask why nobody connects: each answer comes when its time is over, and
//! meanwhile the thread does its other work.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{
    ListenAsked,
    collector::{BegunWatch, Collector},
    error::KernelError,
    requests::WatchAnswer,
};

/// At one moment, at most.
const MOST: usize = 4;

/// Watches under way.
#[derive(Default)]
pub struct Watches {
    running: Vec<Running>,
}

struct Running {
    watch: BegunWatch,
    ends: Instant,
    answer: WatchAnswer,
}

impl Watches {
    /// Begins one; who is one too many, or whose port cannot be watched, is told so at once.
    pub fn begin(&mut self, collector: &mut Collector, asked: ListenAsked, answer: WatchAnswer) {
        self.abandon(collector);
        let begun =
            if self.running.len() < MOST { collector.begin_watch(asked) } else { Err(KernelError::TooManyWatches) };
        match begun {
            Ok(watch) => {
                let ends = Instant::now() + watch.lasts();
                self.running.push(Running { watch, ends, answer });
            }
            // Nobody waits any more when sending fails.
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Waits until the time of one is over.
    pub async fn due(&self) {
        match self.running.iter().map(|running| running.ends).min() {
            Some(ends) => sleep_until(ends).await,
            None => std::future::pending().await,
        }
    }

    /// Answers one whose time is over; others have their turn next, for each answer takes a pass over all sockets.
    pub fn finish(&mut self, collector: &mut Collector) {
        let now = Instant::now() + Duration::from_millis(1);
        let Some(index) = self.running.iter().position(|running| running.ends <= now) else { return };
        let Running { watch, answer, .. } = self.running.swap_remove(index);
        if answer.is_closed() {
            collector.abandon_watch(&watch);
        } else {
            // Nobody waits any more when sending fails.
            let _ = answer.send(collector.finish_watch(watch));
        }
    }

    /// Takes down those whose askers have gone.
    pub fn abandon(&mut self, collector: &mut Collector) {
        for running in self.running.extract_if(.., |running| running.answer.is_closed()) {
            collector.abandon_watch(&running.watch);
        }
    }
}
