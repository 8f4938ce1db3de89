//! The peer's own side: sockets, one call at a time.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, Write as _},
    net::{Shutdown, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        socket::{setsockopt, sockopt},
    },
    unistd::{Uid, setresuid},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    calls::Callers,
    words::{Ask, Options, Reply, SocketId},
};

/// Argument of `listen()`.
const BACKLOG: i32 = 128;
/// How long `accept()` and `connect()` may take.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// The sockets that it was told to make.
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

/// Makes a socket.
pub(super) fn open(options: &Options) -> io::Result<Socket> {
    let domain = if options.ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let protocol = options.multipath.then_some(Protocol::MPTCP);
    let socket = Socket::new(domain, if options.udp { Type::DGRAM } else { Type::STREAM }, protocol)?;
    if options.ipv6 {
        socket.set_only_v6(options.ipv6_only)?;
    }
    socket.set_reuse_address(options.reuse_address)?;
    socket.set_reuse_port(options.reuse_port)?;
    if options.without_port {
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    }
    if let Some(device) = &options.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nonblocking(options.nonblocking)?;
    Ok(socket)
}

/// Connects, or begins to where the socket does not wait.
pub(super) fn connect(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) && socket.nonblocking()? => Ok(()),
        result => result,
    }
}

/// Name of an error.
pub(super) fn name_of(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| format!("{:?}", Errno::from_raw(number)))
}
