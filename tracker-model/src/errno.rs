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
    fn errors_have_the_names_of_the_manual_and_others_their_number() {
        let names = [0, 99, 110, 111, 113, 41].map(name);
        assert_eq!(names, ["ECANCELED", "EADDRNOTAVAIL", "ETIMEDOUT", "ECONNREFUSED", "EHOSTUNREACH", "errno_41"]);
        assert_eq!(name(usize::MAX), format!("errno_{}", usize::MAX));
    }
}
