//! A server that takes every connection, and does one thing with each.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Result;
use socket2::SockRef;

use crate::{
    namespace::Namespace,
    server::{ListenOptions, listen, reset_on_close, wait_for_close},
};

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnClose {
    /// It is held as long as the server lives.
    Hold,
    /// It is closed when the client has closed it. The next one waits for that.
    Follow,
    /// It is closed at once.
    Close,
    /// It is reset at once.
    Reset,
    /// What the client asks is answered, and it is closed.
    Answer,
}

/// A server on a thread of its own. Dropping it closes everything.
#[derive(Debug)]
pub struct Sink {
    listener: Arc<TcpListener>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Starts one in a namespace.
    pub fn start(namespace: &Namespace, address: SocketAddr, on_close: OnClose) -> Result<Self> {
        Self::on(namespace, listen(namespace, address, ListenOptions::default())?, on_close)
    }

    /// Starts one at a socket that listens already.
    pub fn on(namespace: &Namespace, listener: TcpListener, on_close: OnClose) -> Result<Self> {
        let listener = Arc::new(listener);
        let stopping = Arc::new(AtomicBool::new(false));
        let (theirs, flag) = (Arc::clone(&listener), Arc::clone(&stopping));
        let thread = namespace.on_thread("sink", move || serve(&theirs, &flag, on_close))?;
        Ok(Self { listener, stopping, thread: Some(thread) })
    }
}

fn serve(listener: &TcpListener, stopping: &AtomicBool, on_close: OnClose) {
    let mut held: Vec<TcpStream> = Vec::new();
    while !stopping.load(Ordering::Relaxed) {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // The client reset it while it waited; or the listener is shut down, and it is over.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::InvalidInput) => continue,
            Err(error) => panic!("accept: {error}"),
        };
        match on_close {
            OnClose::Hold => held.push(stream),
            OnClose::Close => {}
            OnClose::Follow => {
                stream.set_read_timeout(Some(Duration::from_secs(10))).expect("SO_RCVTIMEO");
                wait_for_close(&mut stream);
            }
            OnClose::Reset => reset_on_close(&stream),
            OnClose::Answer => answer(&mut stream),
        }
    }
}

/// Reads a request that fits into one segment, and answers it. A client may have gone.
fn answer(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("SO_RCVTIMEO");
    let mut buffer = [0; 1_024];
    if stream.read(&mut buffer).is_ok_and(|read| read > 0) {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ntracker\n");
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // accept() returns then, with EINVAL.
        let _ = SockRef::from(&*self.listener).shutdown(std::net::Shutdown::Both);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("lab: a sink broke");
        }
    }
}
