//! The peer's own side: it follows the orders it gets.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, Write as _},
    net::Shutdown,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
    },
    unistd::{Uid, setresuid},
};
use socket2::Socket;

use super::{
    calls::Callers,
    protocol::{Ask, Reply, SocketId},
    sockets::{connect, name_of, open},
};

/// Argument of `listen()`.
const BACKLOG: i32 = 128;

/// Takes a name and a user, and does what standard input says until it ends.
pub fn serve(name: &str, user: Option<u32>) -> Result<()> {
    let name = std::ffi::CString::new(name)?;
    prctl::set_name(&name).context("take a name")?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raise the limit of open files")?;
    if let Some(user) = user {
        let user = Uid::from_raw(user);
        setresuid(user, user, user).context("become another user")?;
    }
    let (mut sockets, mut callers) = (Sockets::default(), Callers::default());
    for line in io::stdin().lock().lines() {
        let reply = match serde_json::from_str(&line?)? {
            Ask::Call(calls) => Reply::Tally(callers.call(&calls)),
            Ask::Begin(calls) => {
                callers.begin(calls);
                Reply::Done
            }
            Ask::Progress => Reply::Tally(callers.progress()),
            Ask::Log => Reply::Log(callers.log()),
            ask => sockets.answer(ask).unwrap_or_else(|error| Reply::Failed(name_of(&error))),
        };
        let mut line = serde_json::to_string(&reply)?;
        line.push('\n');
        io::stdout().lock().write_all(line.as_bytes())?;
    }
    Ok(())
}

/// The sockets that it was asked to make.
#[derive(Default)]
struct Sockets {
    open: BTreeMap<SocketId, Socket>,
    last: u32,
}

impl Sockets {
    fn answer(&mut self, ask: Ask) -> io::Result<Reply> {
        match ask {
            Ask::Open(options) => return Ok(self.add(open(&options)?)),
            Ask::Bind(socket, address) => self.get(socket)?.bind(&address.into())?,
            Ask::Listen(socket) => self.get(socket)?.listen(BACKLOG)?,
            Ask::Connect(socket, address) => connect(self.get(socket)?, address)?,
            Ask::Accept(socket) => {
                let (accepted, _) = self.get(socket)?.accept()?;
                return Ok(self.add(accepted));
            }
            Ask::Shutdown(socket) => self.get(socket)?.shutdown(Shutdown::Write)?,
            Ask::Close(socket) => drop(self.open.remove(&socket).ok_or(io::ErrorKind::NotFound)?),
            Ask::Local(socket) => {
                let address = self.get(socket)?.local_addr()?;
                return Ok(Reply::Address(address.as_socket().ok_or(io::ErrorKind::InvalidData)?));
            }
            Ask::Call(_) | Ask::Begin(_) | Ask::Progress | Ask::Log => unreachable!("of the callers"),
        }
        Ok(Reply::Done)
    }

    fn add(&mut self, socket: Socket) -> Reply {
        self.last += 1;
        self.open.insert(SocketId(self.last), socket);
        Reply::Socket(SocketId(self.last))
    }

    fn get(&self, socket: SocketId) -> io::Result<&Socket> {
        self.open.get(&socket).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
