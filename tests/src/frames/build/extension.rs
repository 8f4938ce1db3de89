//! IPv6 extension headers.

use crate::frames::numbers::{AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP};

/// One IPv6 extension header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// A header of RFC 6564's common form: protocol and length in units of eight bytes beyond the first.
    Common {
        /// Its protocol number.
        protocol: u8,
        /// Its length field.
        units: u8,
    },
    /// A fragment header.
    Fragment {
        /// Offset in units of eight bytes.
        offset: u16,
        /// Whether more fragments follow.
        more: bool,
    },
    /// An authentication header.
    Authentication {
        /// Words of four bytes in its integrity check value.
        icv: u8,
    },
}

impl Extension {
    /// The shortest header of RFC 6564's common form.
    #[must_use]
    pub const fn common(protocol: u8) -> Self {
        Self::Common { protocol, units: 0 }
    }

    /// Its protocol number.
    #[must_use]
    pub const fn protocol(self) -> u8 {
        match self {
            Self::Common { protocol, .. } => protocol,
            Self::Fragment { .. } => FRAGMENT,
            Self::Authentication { .. } => AUTHENTICATION,
        }
    }

    /// Appends the header, followed by one of protocol `next`.
    pub(super) fn write(self, bytes: &mut Vec<u8>, next: u8) {
        let start = bytes.len();
        match self {
            Self::Common { protocol, units } => {
                let length = (usize::from(units) + 1) * 8;
                bytes.extend([next, units]);
                if protocol == HOP_BY_HOP || protocol == DESTINATION_OPTIONS {
                    // One option of an experimental type that receivers skip (RFC 4727).
                    bytes.extend([0x1e, u8::try_from(length - 4).unwrap_or(u8::MAX)]);
                }
                bytes.resize(start + length, 0);
            }
            Self::Fragment { offset, more } => {
                bytes.extend([next, 0]);
                bytes.extend((offset << 3 | u16::from(more)).to_be_bytes());
                bytes.extend(0x1234_5678_u32.to_be_bytes());
            }
            Self::Authentication { icv } => {
                bytes.extend([next, icv + 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
                bytes.resize(start + 12 + usize::from(icv) * 4, 0);
            }
        }
    }
}
