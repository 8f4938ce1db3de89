//! The rounds over the other network namespaces of the host.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::{Duration, Instant},
};

use super::{
    namespaces::{self, Listing, Namespace},
    netns_ports::NetnsPorts,
};

/// The other network namespaces of the host.
#[derive(Default)]
pub struct Others {
    /// What is kept of each.
    pub spaces: BTreeMap<u32, NetnsPorts>,
    /// The list that the round under way begins with.
    listing: Option<Listing>,
    /// Those that this round has yet to look at.
    pub pending: Vec<Namespace>,
    /// What the list of this round has found; nothing when it could not be made.
    pub listed: Option<Listed>,
    /// Why some were not looked at in this round.
    pub unread: Option<String>,
    /// When the round under way began.
    pub begun: Option<Instant>,
    /// How long its parts took.
    pub took: Duration,
    /// When the last round ended.
    pub ended: Option<Instant>,
}

/// What a list of network namespaces has found.
pub struct Listed {
    /// Those that are looked at.
    found: BTreeSet<u32>,
    /// All that there are.
    pub alive: BTreeSet<u32>,
}

impl Others {
    /// Whether a round has begun and not ended.
    pub fn is_under_way(&self) -> bool {
        self.listing.is_some() || !self.pending.is_empty()
    }

    /// Begins a round.
    pub fn begin(&mut self, listing: io::Result<Listing>) {
        (self.begun, self.took, self.listed) = (Some(Instant::now()), Duration::ZERO, None);
        match listing {
            Ok(listing) => self.listing = Some(listing),
            Err(error) => self.refuse(&error),
        }
    }

    /// Without a list none is looked at, and none is taken to be gone.
    fn refuse(&mut self, error: &io::Error) {
        self.listing = None;
        self.unread = Some(format!("list the network namespaces: {error}"));
    }

    /// Goes on with the list until `end`.
    pub fn list(&mut self, end: Instant) {
        while let Some(listing) = &mut self.listing {
            match listing.advance() {
                Ok(true) if Instant::now() >= end => return,
                Ok(true) => {}
                Ok(false) => self.finish_list(),
                Err(error) => self.refuse(&error),
            }
        }
    }

    fn finish_list(&mut self) {
        let Some((found, alive)) = self.listing.take().map(Listing::finish) else { return };
        let beyond = alive.len().saturating_sub(found.len() + 1);
        self.unread = (beyond > 0)
            .then(|| format!("{beyond} network namespaces beyond {} are not looked at", namespaces::MAX_NAMESPACES));
        self.listed = Some(Listed { found: found.iter().map(|namespace| namespace.netns).collect(), alive });
        self.pending = found;
    }

    /// Takes out those that the list of this round has not found.
    pub fn take_gone(&mut self) -> Vec<u32> {
        let Some(Listed { found, .. }) = &self.listed else { return Vec::new() };
        self.spaces.extract_if(.., |netns, _| !found.contains(netns)).map(|(netns, _)| netns).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_cannot_be_made_ends_no_namespace() {
        let mut others = Others::default();
        others.spaces.insert(1, NetnsPorts::new(1, None));
        others.begin(Err(io::ErrorKind::PermissionDenied.into()));
        others.list(Instant::now());
        assert_eq!((others.take_gone(), others.is_under_way()), (vec![], false));
        assert_eq!(others.unread.as_deref(), Some("list the network namespaces: permission denied"));
        others.begin(Listing::new(0));
        others.list(Instant::now() + Duration::from_mins(1));
        assert_eq!(others.take_gone(), [1], "a number that no namespace has");
    }
}
