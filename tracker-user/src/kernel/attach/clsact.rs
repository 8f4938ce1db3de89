//! The clsact qdisc, which holds the program of an interface before Linux 6.6.

use std::{io, time::Duration};

use aya::programs::{
    TcAttachType,
    tc::{self, TcError},
};
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::tc::TcHandle;
use tracker_common::names;

/// How long the kernel may take to answer: the detector waits meanwhile.
const LIMIT: Duration = Duration::from_secs(1);

/// Puts it on an interface; whether it is tracker's own to remove.
pub(super) fn add(interface: &str) -> Result<bool, TcError> {
    match tc::qdisc_add_clsact(interface) {
        Ok(()) => Ok(true),
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => Ok(remove_stale(interface)),
        Err(error) => Err(error),
    }
}

/// Takes off the filters of a tracker that was killed, which the kernel keeps; whether there were any, and the qdisc is
/// thus tracker's own.
fn remove_stale(interface: &str) -> bool {
    let stale = tc::qdisc_detach_program(interface, TcAttachType::Ingress, names::PROGRAM_TC).is_ok();
    if stale {
        tracing::warn!(interface, "took off the program of a tracker that did not stop by itself");
    }
    stale
}

/// Removes it from the interface of this index, unless someone else has put a filter on it. Must run inside a Tokio
/// runtime, in the namespace of the interface.
pub async fn remove(index: u32) {
    let limited = tokio::time::timeout(LIMIT, try_remove(index)).await;
    match limited.unwrap_or_else(|_| Err(rtnetlink::Error::NamespaceError("the kernel does not answer".into()))) {
        // With the interface its qdisc is gone too.
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => {}
        Err(error) => tracing::warn!(index, "the empty clsact qdisc stays on the interface: {error}"),
        Ok(()) => {}
    }
}

async fn try_remove(index: u32) -> Result<(), rtnetlink::Error> {
    let fail = |error: io::Error| rtnetlink::Error::NamespaceError(error.to_string());
    let (connection, handle, _) = rtnetlink::new_connection().map_err(fail)?;
    tokio::spawn(connection);
    let index = index.cast_signed();
    let mut filters = handle.traffic_filter(index);
    let ingress: Vec<_> = filters.get().ingress().execute().try_collect().await?;
    let egress: Vec<_> = filters.get().egress().execute().try_collect().await?;
    if !ingress.is_empty() || !egress.is_empty() {
        return Ok(());
    }
    let mut request = handle.qdisc().del(index);
    let header = &mut request.message_mut().header;
    (header.parent, header.handle) = (TcHandle::CLSACT, TcHandle { major: u16::MAX, minor: 0 });
    request.execute().await
}
