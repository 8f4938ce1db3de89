//! Settings of the daemon: flags over environment over file over defaults.
//!
//! [`RawSettings`] is what one source says, [`Settings`] what holds in the end.

mod error;
mod file;
mod raw;
mod settings;
pub mod value;

pub use error::ConfigError;
pub use file::{KEYS, Key, Kind};
pub use raw::RawSettings;
pub use settings::{LogSettings, Settings, WebSettings};

use std::path::{Path, PathBuf};

/// The configuration file that is read when none is named; it need not exist.
pub const DEFAULT_FILE: &str = "/etc/tracker/tracker.toml";
/// The socket of the API when none is named.
pub const DEFAULT_API_SOCKET: &str = "/run/tracker/tracker.sock";

/// Reads the file and lays flags and environment over it.
///
/// `named` is the file the user asked for; it must exist. Returns the settings and the file that was read, if any.
pub fn load(flags: RawSettings, named: Option<&Path>) -> Result<(Settings, Option<PathBuf>), ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let file = match std::fs::read_to_string(path) {
        Ok(text) => Some(file::parse(&text, path)?),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    };
    let read = file.is_some().then(|| path.to_owned());
    Ok((Settings::resolve(flags.or(file.unwrap_or_default())), read))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::kernel::Hook;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_flag_outweighs_the_file_and_the_file_the_default() {
        let file = file("hook = 'xdp'\ninterface = 'eth0'\n");
        let flags = RawSettings { hook: Some(Hook::Tc), ..RawSettings::default() };
        let (settings, read) = load(flags, Some(file.path())).unwrap();
        assert_eq!(settings.kernel.hook, Hook::Tc);
        assert_eq!(settings.kernel.interfaces, ["eth0"]);
        assert_eq!(settings.kernel.lifetime_sample, 8);
        assert_eq!(read.as_deref(), Some(file.path()));
    }

    #[test]
    fn a_list_of_a_flag_replaces_that_of_the_file() {
        let file = file("interface = ['eth0', 'eth1']");
        let flags = RawSettings { interface: Some(vec!["lo".to_owned()]), ..RawSettings::default() };
        let (settings, _) = load(flags, Some(file.path())).unwrap();
        assert_eq!(settings.kernel.interfaces, ["lo"]);
    }

    #[test]
    fn a_named_file_must_exist() {
        let error = load(RawSettings::default(), Some(Path::new("/nonexistent/tracker.toml"))).unwrap_err();
        assert!(matches!(error, ConfigError::Unreadable { .. }));
        assert!(error.to_string().starts_with("cannot read /nonexistent/tracker.toml"));
    }
}
