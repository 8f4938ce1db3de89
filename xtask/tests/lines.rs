//! Lines of code and prose are at most 120 columns: rustfmt holds neither strings nor comments nor documents.

use std::{fs, path::Path, process::Command};

const COLUMNS: usize = 120;

#[test]
fn no_line_is_too_long() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = Command::new("git").args(["ls-files", "*.rs", "*.md", "*.toml"]).current_dir(&root).output().unwrap();
    let (mut lines, mut long) = (0, Vec::new());
    for name in String::from_utf8(files.stdout).unwrap().lines() {
        // A file that was removed is listed until the removal is committed.
        let Ok(text) = fs::read_to_string(root.join(name)) else { continue };
        for (number, line) in (1..).zip(text.lines()) {
            lines += 1;
            // A row of a Markdown table is one line, and so is one of what a command prints.
            let is_as_it_is = Path::new(name).extension().is_some_and(|end| end == "md")
                && (line.starts_with('|') || line.starts_with("    "));
            if line.chars().count() > COLUMNS && !is_as_it_is {
                long.push(format!("{name}:{number}"));
            }
        }
    }
    assert!(lines > 10_000, "{lines} lines were read");
    assert!(long.is_empty(), "lines of more than {COLUMNS} columns:\n{}", long.join("\n"));
}
