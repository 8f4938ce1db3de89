//! Names of the errors by which connects fail.

use nix::errno::Errno;

/// Name of a connect that the process gave up, by `close()` or by its own end: it has no errno.
pub const GIVEN_UP: &str = "ECANCELED";

/// Name of an index into [`tracker_common::counters::SocketCounters::connect_failures`].
#[must_use]
pub fn name(number: usize) -> String {
    if number == 0 {
        return GIVEN_UP.to_owned();
    }
    match i32::try_from(number).map_or(Errno::UnknownErrno, Errno::from_raw) {
        Errno::UnknownErrno => format!("errno_{number}"),
        errno => format!("{errno:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn errors_have_the_names_of_the_manual() {
        assert_eq!(name(0), "ECANCELED");
        assert_eq!(name(99), "EADDRNOTAVAIL");
        assert_eq!(name(110), "ETIMEDOUT");
        assert_eq!(name(111), "ECONNREFUSED");
        assert_eq!(name(113), "EHOSTUNREACH");
    }

    #[test]
    fn a_number_without_a_name_is_shown() {
        assert_eq!(name(41), "errno_41");
        assert_eq!(name(usize::MAX), format!("errno_{}", usize::MAX));
    }
}
