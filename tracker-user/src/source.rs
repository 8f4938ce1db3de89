//! Where figures come from: the running kernel side, or a fixed snapshot in tests.

use std::{future::Future, pin::Pin, sync::Arc};

use tracker_model::Snapshot;

use crate::kernel::{KernelError, KernelHandle, SocketsAsked, SocketsFound};

/// A snapshot that is on its way; none while the daemon starts or stops.
pub type Refresh<'a> = Pin<Box<dyn Future<Output = Option<Arc<Snapshot>>> + Send + 'a>>;

/// Sockets that are on their way; none while the daemon starts or stops.
pub type Sockets<'a> = Pin<Box<dyn Future<Output = Option<Result<SocketsFound, KernelError>>> + Send + 'a>>;

/// Where figures come from.
pub trait Source: Send + Sync + 'static {
    /// The newest snapshot; none while the daemon starts or stops.
    fn snapshot(&self) -> Option<Arc<Snapshot>>;
    /// A snapshot of this moment.
    fn refresh(&self) -> Refresh<'_>;
    /// The sockets that hold ports.
    fn sockets(&self, asked: SocketsAsked) -> Sockets<'_>;
}

impl Source for KernelHandle {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot()
    }

    fn refresh(&self) -> Refresh<'_> {
        Box::pin(self.refresh())
    }

    fn sockets(&self, asked: SocketsAsked) -> Sockets<'_> {
        Box::pin(self.sockets(asked))
    }
}

/// A source that always has the same snapshot, or none.
#[cfg(test)]
pub(crate) struct Fixed(pub(crate) Option<Arc<Snapshot>>);

#[cfg(test)]
impl Fixed {
    pub(crate) fn sample() -> Arc<Self> {
        Arc::new(Self(Some(Arc::new(tracker_model::sample::snapshot()))))
    }
}

#[cfg(test)]
impl Source for Fixed {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.0.clone()
    }

    fn refresh(&self) -> Refresh<'_> {
        Box::pin(async { self.0.clone() })
    }

    fn sockets(&self, _: SocketsAsked) -> Sockets<'_> {
        let found = self.0.as_ref().map(|_| {
            let (sockets, settings) = (tracker_model::sample::sockets(), tracker_model::sample::port_settings());
            Ok(SocketsFound { sockets, truncated: false, settings, is_local: true, no_way: None, ipv6_only: false })
        });
        Box::pin(async { found })
    }
}
