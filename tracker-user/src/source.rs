//! Where figures come from: the running kernel side, or a fixed snapshot in tests.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
};

use tracker_model::Snapshot;

use crate::kernel::{Kernel, KernelError, SocketsAsked, SocketsFound};

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

/// The kernel side, which comes after the servers and goes before them: the servers share this, and only this owns
/// the kernel side.
#[derive(Default)]
pub struct KernelSource(RwLock<Option<Arc<Kernel>>>);

impl KernelSource {
    /// Lets the kernel side be seen.
    pub fn put(&self, kernel: Kernel) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(kernel));
    }

    /// Takes it away again. A refresh that is under way still holds it for a moment.
    pub fn take(&self) -> Option<Arc<Kernel>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn kernel(&self) -> Option<Arc<Kernel>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Source for KernelSource {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.kernel().map(|kernel| kernel.snapshot())
    }

    fn refresh(&self) -> Refresh<'_> {
        Box::pin(async {
            match self.kernel() {
                Some(kernel) => Some(kernel.refresh().await),
                None => None,
            }
        })
    }

    fn sockets(&self, asked: SocketsAsked) -> Sockets<'_> {
        Box::pin(async {
            match self.kernel() {
                Some(kernel) => Some(kernel.sockets(asked).await),
                None => None,
            }
        })
    }
}

/// A source that always has the same snapshot, or none.
#[cfg(test)]
pub(crate) struct Fixed(pub(crate) Option<Arc<Snapshot>>);

#[cfg(test)]
impl Fixed {
    pub(crate) fn sample() -> Arc<Self> {
        Arc::new(Self(Some(Arc::new(tracker_fixtures::snapshot()))))
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
            let (sockets, settings) = (tracker_fixtures::sockets(), tracker_fixtures::port_settings());
            Ok(SocketsFound { sockets, truncated: false, settings, is_local: true, no_way: None, ipv6_only: false })
        });
        Box::pin(async { found })
    }
}
