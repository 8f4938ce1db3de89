//! The file of the API's socket: who may open it, what stands in its way, and that it goes when the daemon goes.

use std::{
    fs,
    io::{self, ErrorKind},
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{self, AddressFamily, SockFlag, SockType, UnixAddr},
        stat::{Mode, umask},
    },
    unistd::{Group, chown},
};
use tokio::net::UnixListener;

use crate::descriptors;

/// Owner and group may ask, nobody else.
const MODE: u32 = 0o660;
/// Until the group is set, only the owner may ask.
const PRIVATE_UMASK: Mode = Mode::from_bits_truncate(0o177);
/// Members of this group may ask, where it exists.
const GROUP: &str = "tracker";
const HINT: &str = "run as root, or name another place with --api.socket";

/// Why the socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon has it.
    #[error("another daemon has {}; stop it, or name another socket with --api.socket", .0.display())]
    Taken(PathBuf),
    /// Something else has its name.
    #[error("{} exists and is no socket; remove it, or name another place with --api.socket", .0.display())]
    NoSocket(PathBuf),
    /// It cannot be made.
    #[error("cannot create {}: {source}; {}", path.display(), descriptors::hint(source).unwrap_or(HINT))]
    Create {
        /// The socket or its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A socket that listens, and its file.
#[derive(Debug)]
pub struct ApiSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// Removes the file of a socket when dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that no other daemon's socket is removed.
    identity: (u64, u64),
}

impl ApiSocket {
    /// Makes the socket, and its directory if need be. A file on which nobody answers is replaced. Must be called
    /// within a runtime.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| SocketError::Create { path, source }
        };
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::create_dir_all(directory).map_err(failed(directory))?;
        }
        clear(path)?;
        let listener = bind_private(path).map_err(failed(path))?;
        let metadata = fs::symlink_metadata(path).map_err(failed(path))?;
        let file = SocketFile { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) };
        admit_group(path);
        fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(failed(path))?;
        Ok(Self { listener, file })
    }

    /// The listener, and what removes its file.
    #[must_use]
    pub fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

/// Removes what an earlier daemon left.
fn clear(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Create { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(SocketError::NoSocket(path.to_owned())),
        Ok(_) => {}
    }
    match is_listening(path) {
        Ok(false) => fs::remove_file(path).map_err(failed),
        Ok(true) => Err(SocketError::Taken(path.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}

/// Whether a socket listens at `path`. A daemon that is stopped and has a full queue counts, and is not waited for.
fn is_listening(path: &Path) -> nix::Result<bool> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) | Err(Errno::EAGAIN) => Ok(true),
        Err(Errno::ECONNREFUSED) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Binds a socket that only its owner may open, from its first moment.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let before = umask(PRIVATE_UMASK);
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

/// Without the group, or the right to hand a file to it, root alone may ask.
fn admit_group(path: &Path) {
    match Group::from_name(GROUP) {
        Ok(Some(group)) => {
            if let Err(error) = chown(path, None, Some(group.gid)) {
                tracing::warn!("cannot give {} to the group {GROUP}: {error}; its members cannot ask", path.display());
            }
        }
        Ok(None) => tracing::debug!("there is no group {GROUP}; only root can ask"),
        Err(error) => tracing::warn!("cannot look up the group {GROUP}: {error}; its members cannot ask"),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::api::tests::full_listener;

    #[tokio::test]
    async fn the_socket_is_for_owner_and_group_and_goes_with_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/tracker/tracker.sock");
        let socket = ApiSocket::bind(&path).unwrap();
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o660);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
        assert!(path.parent().unwrap().is_dir());
    }

    #[tokio::test]
    async fn a_file_that_a_dead_daemon_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the standard library leaves the file");
        let _socket = ApiSocket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn a_daemon_that_answers_keeps_its_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let first = ApiSocket::bind(&path).unwrap();
        let error = ApiSocket::bind(&path).unwrap_err();
        assert!(matches!(error, SocketError::Taken(_)), "{error}");
        assert!(path.exists());
        drop(first);
    }

    #[tokio::test]
    async fn a_daemon_that_is_stopped_keeps_its_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _full = full_listener(&path);
        let bound = tokio::task::spawn_blocking(move || ApiSocket::bind(&path).map(drop));
        let bound = tokio::time::timeout(std::time::Duration::from_secs(2), bound).await;
        assert!(matches!(bound, Ok(Ok(Err(SocketError::Taken(_))))), "{bound:?}");
    }

    #[tokio::test]
    async fn nobody_else_may_open_the_socket_before_its_group_is_set() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _listener = bind_private(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(ApiSocket::bind(&path), Err(SocketError::NoSocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let first = ApiSocket::bind(&path).unwrap();
        fs::rename(&path, directory.path().join("moved")).unwrap();
        let _second = ApiSocket::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_place_where_nothing_can_be_made_is_named_with_the_way_out() {
        let error = ApiSocket::bind(Path::new("/proc/nowhere/s")).unwrap_err().to_string();
        assert!(error.starts_with("cannot create /proc/nowhere: ") && error.contains("--api.socket"), "{error}");
    }
}
