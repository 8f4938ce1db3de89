//! The generated parts of docs/*.md. A part stands between two lines, `<!-- generated: NAME -->` and `<!-- end -->`.
//! `tables` makes those of the command line, the settings and the metrics, `api` those of the API, `facts` that of the
//! facts of alerts; those of the lab are here.
//!
//! What a part says is not written here: it comes from the code that it is about.

mod api;
mod facts;
mod tables;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

/// Name and text of each part. Each is used on some page.
fn parts() -> Result<Vec<(String, String)>> {
    let rest = [("facts of alerts".to_owned(), facts::facts()?), ("lab cases".to_owned(), lab_cases()?)];
    Ok(tables::tables().into_iter().chain(api::tables()).chain(rest).collect())
}

/// Fills all parts of all pages; with `check` only says which differ.
pub fn fill(check: bool) -> Result<()> {
    let mut pages: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(root().join("docs"))? {
        pages.push(entry?.path());
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    let parts = parts()?;
    let (mut old, mut used) = (Vec::new(), Vec::new());
    for page in pages {
        let text = fs::read_to_string(&page)?;
        let filled = filled(&text, &parts, &mut used).with_context(|| page.display().to_string())?;
        if filled != text && check {
            old.push(page.display().to_string());
        } else if filled != text {
            fs::write(&page, filled).with_context(|| format!("write {}", page.display()))?;
        }
    }
    let unused: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).filter(|name| !used.contains(name)).collect();
    ensure!(unused.is_empty(), "no page has a part `<!-- generated: … -->` for {}", unused.join(", "));
    ensure!(old.is_empty(), "not what the code says, run `cargo xtask docs`: {}", old.join(", "));
    Ok(())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is around this crate")
}

/// The text with its parts filled.
fn filled<'a>(text: &str, parts: &'a [(String, String)], used: &mut Vec<&'a str>) -> Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<!-- generated: ") {
        let (name, after) = after.split_once(" -->\n").context("a part without name")?;
        let part = parts.iter().find(|(known, _)| known == name);
        let (name, part) = part.with_context(|| format!("there is nothing to generate `{name}` from"))?;
        let (_, after) = after.split_once("<!-- end -->").with_context(|| format!("`{name}` has no end"))?;
        let part = part.trim_end();
        filled.extend([before, "<!-- generated: ", name, " -->\n\n", part, "\n\n<!-- end -->"]);
        used.push(name);
        rest = after;
    }
    Ok(filled + rest)
}

/// Every file of the lab with the first sentence of its comment.
fn lab_cases() -> Result<String> {
    let directory = root().join("tests/tests/lab");
    let mut rows = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).context("a name in UTF-8")?.to_owned();
        let text = fs::read_to_string(&path)?;
        let comment: Vec<_> = text.lines().map_while(|line| line.strip_prefix("//! ")).collect();
        let comment = comment.join(" ");
        let sentence = comment.split_once(". ").map_or(comment.as_str(), |(first, _)| first).trim_end_matches('.');
        ensure!(!sentence.is_empty(), "{name} does not say what it is: a `//!` line at its top");
        if text.contains("#[test]") {
            rows.push([format!("`{name}`"), sentence.to_owned()]);
        }
    }
    rows.sort_unstable();
    Ok(tables::table(["file in [tests/tests/lab](../tests/tests/lab)", "what holds"], rows.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_section() {
        let page = fs::read_to_string(root().join("docs/commands.md")).unwrap();
        for (name, _) in tables::tables().iter().filter(|(name, _)| name.starts_with("tracker ")) {
            assert!(page.contains(&format!("\n## `{name}`\n")), "docs/commands.md has no section on {name}");
        }
    }

    #[test]
    fn parts_are_filled_and_the_rest_stays() {
        let parts = [("one".to_owned(), "1\n".to_owned())];
        let text = "a\n<!-- generated: one -->\nold\n<!-- end -->\nb\n";
        let expected = "a\n<!-- generated: one -->\n\n1\n\n<!-- end -->\nb\n";
        let mut used = Vec::new();
        assert_eq!(filled(text, &parts, &mut used).unwrap(), expected);
        assert_eq!(filled(expected, &parts, &mut used).unwrap(), expected, "it stays so");
        assert_eq!(used, ["one", "one"]);
    }

    #[test]
    fn what_cannot_be_filled_is_named() {
        let parts = [("one".to_owned(), "1\n".to_owned())];
        let error = |text| filled(text, &parts, &mut Vec::new()).unwrap_err().to_string();
        assert!(error("<!-- generated: two -->\n<!-- end -->").contains("`two`"));
        assert!(error("<!-- generated: one -->\n").contains("no end"));
    }
}
