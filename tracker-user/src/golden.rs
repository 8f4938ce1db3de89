//! Texts that tests compare with, in tracker-user/tests/golden/. `TRACKER_BLESS=1` writes them again.

use std::{fs, path::Path};

/// Fails at the first line that differs from the file.
pub(crate) fn compare(name: &Path, text: &str) {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).join(name);
    if std::env::var_os("TRACKER_BLESS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap();
    for (number, (expected, line)) in golden.lines().zip(text.lines()).enumerate() {
        assert_eq!(line, expected, "line {} of {}", number + 1, path.display());
    }
    assert_eq!(text.lines().count(), golden.lines().count(), "{}", path.display());
}
