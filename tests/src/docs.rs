//! The generated parts of docs/*.md. A part stands between two lines, `<!-- generated: NAME -->` and `<!-- end -->`, and is
//! what the generator of that name returns. A new part is these two lines and a line in [`GENERATORS`].

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

/// Returns a part, without a newline at its end.
type Generator = fn() -> Result<String>;

/// All of them. Each is used on some page.
const GENERATORS: [(&str, Generator); 1] = [("lab cases", lab_cases)];

/// Fills all parts of all pages; with `check` only says which differ.
pub fn fill(check: bool) -> Result<()> {
    let mut pages: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(root().join("docs"))? {
        pages.push(entry?.path());
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    let (mut old, mut used) = (Vec::new(), Vec::new());
    for page in pages {
        let text = fs::read_to_string(&page)?;
        let filled = filled(&text, &GENERATORS, &mut used).with_context(|| page.display().to_string())?;
        if filled != text && check {
            old.push(page.display().to_string());
        } else if filled != text {
            fs::write(&page, filled).with_context(|| format!("write {}", page.display()))?;
        }
    }
    let unused: Vec<_> = GENERATORS.iter().map(|(name, _)| *name).filter(|name| !used.contains(name)).collect();
    ensure!(unused.is_empty(), "no page has a part `<!-- generated: … -->` for {}", unused.join(", "));
    ensure!(old.is_empty(), "not what the code says, run `cargo xtask docs`: {}", old.join(", "));
    Ok(())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is around this crate")
}

/// The text with its parts filled.
fn filled<'a>(text: &str, generators: &[(&'a str, Generator)], used: &mut Vec<&'a str>) -> Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<!-- generated: ") {
        let (name, after) = after.split_once(" -->\n").context("a part without name")?;
        let known = generators.iter().find(|(known, _)| *known == name);
        let (name, generate) = known.with_context(|| format!("there is no generator `{name}`"))?;
        let (_, after) = after.split_once("<!-- end -->").with_context(|| format!("`{name}` has no end"))?;
        let part = generate().with_context(|| format!("generate `{name}`"))?;
        filled += &format!("{before}<!-- generated: {name} -->\n\n{part}\n\n<!-- end -->");
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
            rows.push(format!("| `{name}` | {sentence} |"));
        }
    }
    rows.sort_unstable();
    Ok(["| file in [tests/tests/lab](../tests/tests/lab) | what holds |", "| --- | --- |"]
        .into_iter()
        .map(str::to_owned)
        .chain(rows)
        .collect::<Vec<_>>()
        .join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENERATORS: [(&str, Generator); 1] = [("one", || Ok("1".to_owned()))];

    #[test]
    fn parts_are_filled_and_the_rest_stays() {
        let text = "a\n<!-- generated: one -->\nold\n<!-- end -->\nb\n";
        let expected = "a\n<!-- generated: one -->\n\n1\n\n<!-- end -->\nb\n";
        let mut used = Vec::new();
        assert_eq!(filled(text, &GENERATORS, &mut used).unwrap(), expected);
        assert_eq!(filled(expected, &GENERATORS, &mut used).unwrap(), expected, "it stays so");
        assert_eq!(used, ["one", "one"]);
    }

    #[test]
    fn what_cannot_be_filled_is_named() {
        let error = |text| filled(text, &GENERATORS, &mut Vec::new()).unwrap_err().to_string();
        assert!(error("<!-- generated: two -->\n<!-- end -->").contains("`two`"));
        assert!(error("<!-- generated: one -->\n").contains("no end"));
    }
}
