//! A built frame, and the ways to break it.

/// A frame and where its headers begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The bytes, from the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Offset of what follows the Ethernet header and its tags.
    pub network: usize,
    /// Offset of what follows the IP header, its options and its extension headers.
    pub transport: usize,
}

impl From<Frame> for Vec<u8> {
    fn from(frame: Frame) -> Self {
        frame.bytes
    }
}

impl Frame {
    /// Ends the frame at `length`, as a capture or a broken sender does: IP still states the whole length.
    #[must_use]
    pub fn cut(mut self, length: usize) -> Self {
        self.bytes.truncate(length);
        self
    }

    /// Ends the packet at `length` of the frame: IP states what is left.
    #[must_use]
    pub fn cut_packet(self, length: usize) -> Self {
        self.cut(length).fit()
    }

    /// Appends `count` bytes that IP does not state: Ethernet's padding, or a trailer.
    #[must_use]
    pub fn pad(mut self, count: usize) -> Self {
        self.bytes.resize(self.bytes.len() + count, 0xa5);
        self
    }

    /// Makes IP state the length that the frame has.
    #[must_use]
    pub fn fit(self) -> Self {
        let length = self.bytes.len().saturating_sub(self.network);
        match self.version() {
            Some(4) => self.total_length(narrow(length)),
            Some(6) => self.payload_length(narrow(length.saturating_sub(40))),
            _ => self,
        }
    }

    /// Writes `bytes` at `offset`, as far as the frame reaches.
    #[must_use]
    pub fn poke(mut self, offset: usize, bytes: &[u8]) -> Self {
        for (slot, byte) in self.bytes.iter_mut().skip(offset).zip(bytes) {
            *slot = *byte;
        }
        self
    }

    /// Sets the IP version.
    #[must_use]
    pub fn with_version(self, version: u8) -> Self {
        self.nibble_high(|frame| frame.network, version)
    }

    /// Sets the length of the IPv4 header, in units of four bytes.
    #[must_use]
    pub fn ihl(mut self, words: u8) -> Self {
        if let Some(byte) = self.bytes.get_mut(self.network) {
            *byte = *byte & 0xf0 | words & 0x0f;
        }
        self
    }

    /// Sets IPv4's total length.
    #[must_use]
    pub fn total_length(self, length: u16) -> Self {
        let offset = self.network + 2;
        self.poke(offset, &length.to_be_bytes()).checksum()
    }

    /// Sets the IPv4 field of flags and fragment offset.
    #[must_use]
    pub fn fragment_field(self, field: u16) -> Self {
        let offset = self.network + 6;
        self.poke(offset, &field.to_be_bytes()).checksum()
    }

    /// Sets IPv6's payload length.
    #[must_use]
    pub fn payload_length(self, length: u16) -> Self {
        let offset = self.network + 4;
        self.poke(offset, &length.to_be_bytes())
    }

    /// Sets the length of the TCP header, in units of four bytes.
    #[must_use]
    pub fn data_offset(self, words: u8) -> Self {
        self.nibble_high(|frame| frame.transport + 12, words)
    }

    fn version(&self) -> Option<u8> {
        self.bytes.get(self.network).map(|byte| byte >> 4)
    }

    fn nibble_high(mut self, offset: impl Fn(&Self) -> usize, value: u8) -> Self {
        let offset = offset(&self);
        if let Some(byte) = self.bytes.get_mut(offset) {
            *byte = value << 4 | *byte & 0x0f;
        }
        self
    }

    /// Corrects the checksum of an IPv4 header that is whole.
    fn checksum(mut self) -> Self {
        let Some(first) = self.bytes.get(self.network) else { return self };
        let length = usize::from(first & 0x0f) * 4;
        if let Some(header) = self.bytes.get_mut(self.network..self.network + length)
            && length >= 20
        {
            super::network::seal(header);
        }
        self
    }
}

fn narrow(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}
