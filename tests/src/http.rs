//! The little HTTP that the lab asks for itself.

use std::{
    io::{Read, Write},
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

/// Asks for a path from inside a namespace.
pub fn get(namespace: &Namespace, address: SocketAddr, path: &str) -> Result<Answer> {
    let ask = || {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        exchange(stream, path)
    };
    namespace.enter(ask).with_context(|| format!("GET http://{address}{path}"))
}

/// Asks for a path over a connection, by HTTP/1.0: the answer ends where the connection does.
pub fn exchange(mut stream: impl Read + Write, path: &str) -> Result<Answer> {
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: tracker\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without end of headers")?;
    let status = head.split(' ').nth(1).context("an answer without status")?.parse()?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
