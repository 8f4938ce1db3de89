//! A real client: connections by connect(2), each with one request.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;

use crate::namespace::Namespace;

/// Who closes a connection first, and so holds it in `TIME_WAIT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closer {
    /// The server, once it has answered.
    Server,
    /// The client, once it has the answer.
    Client,
}

/// Connections to be made, one after the other on each of a few threads.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The HTTP server.
    pub target: SocketAddr,
    /// How many in all.
    pub connections: u32,
    /// On how many threads.
    pub threads: u32,
    /// Who closes first.
    pub closer: Closer,
}

/// Makes the connections from inside a namespace. Any that fails is an error.
pub fn run(namespace: &Namespace, load: &Load) -> Result<()> {
    namespace.enter(|| {
        thread::scope(|scope| {
            let share = |index| load.connections / load.threads + u32::from(index < load.connections % load.threads);
            let threads: Vec<_> = (0..load.threads)
                .map(|index| scope.spawn(move || (0..share(index)).try_for_each(|_| request(load.target, load.closer))))
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("the client does not panic"))
        })
    })
}

/// One connection with one request.
fn request(target: SocketAddr, closer: Closer) -> Result<()> {
    let mut stream = TcpStream::connect(target).with_context(|| format!("connect to {target}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let connection = match closer {
        Closer::Server => "close",
        Closer::Client => "keep-alive",
    };
    // One write, so one segment: nothing is unread when the server closes, which would make its FIN a RST.
    let request = format!("GET / HTTP/1.1\r\nHost: lab\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line)? > 0, "the server closed within the headers");
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    ensure!(body == b"tracker\n", "an answer of {length} bytes that is not the server's");
    if closer == Closer::Server {
        ensure!(reader.read(&mut [0])? == 0, "more than the answer");
    }
    Ok(())
}

/// What became of calls of `connect()`: streams, and failures by name of the error.
#[derive(Debug, Default)]
pub struct Connects {
    /// The connections, still open.
    pub streams: Vec<TcpStream>,
    /// Failures, by name: `ECONNREFUSED` and so on.
    pub failed: BTreeMap<String, u64>,
}

/// Calls `connect()` `count` times at once from inside a namespace and waits for all to return.
#[must_use]
pub fn connect(namespace: &Namespace, target: SocketAddr, count: usize) -> Connects {
    let results: Vec<io::Result<TcpStream>> = namespace.enter(|| {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..count).map(|_| scope.spawn(|| TcpStream::connect(target))).collect();
            threads.into_iter().map(|thread| thread.join().expect("connect does not panic")).collect()
        })
    });
    let mut connects = Connects::default();
    for result in results {
        match result {
            Ok(stream) => connects.streams.push(stream),
            Err(error) => *connects.failed.entry(name_of(&error)).or_default() += 1,
        }
    }
    connects
}

fn name_of(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| format!("{:?}", Errno::from_raw(number)))
}
