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
    use super::*;

    #[tokio::test]
    async fn nobody_else_may_open_the_socket_before_its_group_is_set() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _listener = bind_private(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
