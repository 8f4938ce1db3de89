//! TCP states as the kernel numbers them (`include/net/tcp_states.h`).

use core::fmt;

named! {
    /// The states of RFC 9293, that of the half-open requests of Linux, and that of a socket which is bound and neither
    /// listens nor is connected.
    #[derive(strum::FromRepr)]
    #[cfg_attr(
        feature = "serde",
        derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
        serde(rename_all = "snake_case")
    )]
    pub enum TcpState {
        /// Data can flow.
        Established = 1,
        /// A SYN was sent, no answer yet.
        SynSent = 2,
        /// A handshake is under way (or a simultaneous open).
        SynRecv = 3,
        /// Closed here first; the FIN is not acknowledged yet.
        FinWait1 = 4,
        /// Closed here, the FIN is acknowledged, the peer has not closed.
        FinWait2 = 5,
        /// Closed here first and done; holds the port for 60 s.
        TimeWait = 6,
        /// No connection.
        Close = 7,
        /// The peer has closed, the local process has not.
        CloseWait = 8,
        /// Closed after the peer; the FIN is not acknowledged yet.
        LastAck = 9,
        /// Waiting for connections.
        Listen = 10,
        /// Both sides closed at once.
        Closing = 11,
        /// A half-open request socket (`NEW_SYN_RECV`); `/proc/net/tcp` and ss(8) show it as `SYN-RECV`.
        HalfOpen = 12,
        /// Bound, not listening, not connected. The kernel has no such state.
        Bound = 13,
    }
}

/// As tables for people show it: names of the standard in capitals.
impl fmt::Display for TcpState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut capitals = [0; 16];
        let name = self.name().as_bytes();
        let capitals = &mut capitals[..name.len()];
        capitals.copy_from_slice(name);
        capitals.make_ascii_uppercase();
        formatter.pad(match self {
            Self::HalfOpen => "half-open",
            Self::Bound => "bound",
            _ => str::from_utf8(capitals).unwrap_or_default(),
        })
    }
}

/// One more than the highest state of the kernel's.
pub const COUNT: usize = TcpState::Bound as usize;

/// Names of the states in metrics and JSON, by number; 0 is no state.
pub const NAMES: [&str; COUNT] = {
    let mut names = ["unknown"; COUNT];
    let mut number = 1;
    while number < COUNT {
        names[number] = TcpState::ALL[number - 1].name();
        number += 1;
    }
    names
};

macro_rules! numbers {
    ($($name:ident = $state:ident),* $(,)?) => { $(
        #[doc = concat!("Number of [`TcpState::", stringify!($state), "`].")]
        pub const $name: u8 = TcpState::$state as u8;
    )* };
}
numbers! {
    ESTABLISHED = Established,
    SYN_SENT = SynSent,
    SYN_RECV = SynRecv,
    FIN_WAIT1 = FinWait1,
    FIN_WAIT2 = FinWait2,
    TIME_WAIT = TimeWait,
    CLOSE = Close,
    CLOSE_WAIT = CloseWait,
    LAST_ACK = LastAck,
    LISTEN = Listen,
    CLOSING = Closing,
    NEW_SYN_RECV = HalfOpen,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_stands_in_the_table_of_names_at_its_number() {
        assert_eq!(NAMES[0], "unknown");
        for state in TcpState::ALL.into_iter().filter(|state| *state != TcpState::Bound) {
            assert_eq!(NAMES[state as usize], state.name());
            assert_eq!(TcpState::from_repr(state as u8), Some(state));
        }
        assert_eq!((NAMES[usize::from(FIN_WAIT1)], NAMES[usize::from(NEW_SYN_RECV)]), ("fin_wait1", "half_open"));
    }
}
