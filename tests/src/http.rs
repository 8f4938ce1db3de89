//! The little HTTP that the lab asks for itself.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::namespace::Namespace;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines.
    pub head: String,
    /// Body.
    pub body: String,
}

/// Asks for a path by HTTP/1.0 from inside a namespace, so that the answer ends where the connection does.
pub fn get(namespace: &Namespace, address: SocketAddr, path: &str) -> Result<Answer> {
    let bytes = namespace.enter(|| exchange(address, path)).with_context(|| format!("GET http://{address}{path}"))?;
    let text = String::from_utf8(bytes)?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without end of headers")?;
    let status = head.split(' ').nth(1).context("an answer without status")?.parse()?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

fn exchange(address: SocketAddr, path: &str) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
