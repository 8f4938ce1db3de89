//! The modules of a crate do not use each other in a circle.
//!
//! A child may use its parent's items; two siblings may not use each other, whether directly, through others, or by
//! what their parent re-exports. Code for tests is left out. `cargo modules dependencies --acyclic` is no substitute:
//! an edge to an item of a module is no edge to the module for it, so it misses most circles, and it builds all of
//! rust-analyzer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use anyhow::{Context as _, Result, anyhow};
use cargo_metadata::{MetadataCommand, TargetKind};
use petgraph::{algo::tarjan_scc, graphmap::DiGraphMap};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// How many imports may stand behind one another until a name is found.
const IMPORTS: u32 = 8;

/// The names from the crate's root to an item.
type Names = Vec<String>;

#[test]
fn no_crate_of_the_workspace_has_a_circle() {
    let workspace = MetadataCommand::new().no_deps().exec().unwrap();
    let mut circles = Vec::new();
    for package in workspace.workspace_packages() {
        let is_code = |kind: &TargetKind| matches!(kind, TargetKind::Lib | TargetKind::Bin | TargetKind::Test);
        for target in package.targets.iter().filter(|target| target.kind.iter().any(is_code)) {
            let found = Modules::read(target.src_path.as_std_path()).unwrap().circles();
            circles.extend(found.into_iter().map(|circle| format!("{}: {circle}", package.name)));
        }
    }
    let circles = circles.join("\n\n").replace(&format!("{}/", workspace.workspace_root), "");
    assert!(circles.is_empty(), "modules use each other in a circle: move what both need below both\n\n{circles}");
}

#[test]
fn the_command_line_and_the_views_know_no_kernel_side() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tracker-user/src/lib.rs");
    let modules = Modules::read(&root).unwrap();
    let (mut looked_at, mut wrong) = (0, Vec::new());
    for (name, module) in &modules.0 {
        let top = name.first().map_or("", String::as_str);
        let forbidden: &[&str] = match top {
            "kernel" => continue,
            "cli" | "view" => &["aya", "tracker_detect", "kernel"],
            _ => &["aya"],
        };
        for (path, line) in &module.paths {
            looked_at += 1;
            // One word alone that leads nowhere is a variable.
            let target = modules.resolve(name, path, IMPORTS).or_else(|| (path.len() > 1).then(|| path.clone()));
            if target.is_some_and(|target| target.first().is_some_and(|first| forbidden.contains(&first.as_str()))) {
                wrong.push(format!("{}:{line}: {}", module.file.display(), path.join("::")));
            }
        }
    }
    assert!(looked_at > 1_000 && wrong.is_empty(), "{looked_at} paths\n{}", wrong.join("\n"));
}

/// A module, as far as it was read.
#[derive(Default)]
struct Module {
    file: PathBuf,
    /// What a `use` line calls by another name than its own path.
    imports: BTreeMap<String, Names>,
    /// Every path that begins in this crate, with its line.
    paths: Vec<(Names, usize)>,
}

/// All modules of a crate.
#[derive(Default)]
struct Modules(BTreeMap<Names, Module>);

impl Modules {
    fn read(root: &Path) -> Result<Self> {
        let mut modules = Self::default();
        let directory = root.parent().context("a file without directory")?;
        modules.read_file(root, &Names::new(), directory)?;
        Ok(modules)
    }

    /// `directory` is where the files of its children are.
    fn read_file(&mut self, file: &Path, name: &Names, directory: &Path) -> Result<()> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let tokens = TokenStream::from_str(&text).map_err(|error| anyhow!("{}: {error}", file.display()))?;
        self.0.insert(name.clone(), Module { file: file.to_owned(), ..Module::default() });
        self.walk(tokens, name, directory)
    }

    fn walk(&mut self, tokens: TokenStream, name: &Names, directory: &Path) -> Result<()> {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let rest = &tokens[at..];
            at += match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' && is_for_tests(rest.get(1)) => item_length(rest),
                // A path from the root of all crates, or behind a type: no module of this crate.
                TokenTree::Punct(_) if is_separator(rest) => 3,
                TokenTree::Ident(word) if word == "mod" => self.walk_module(rest, name, directory)?,
                TokenTree::Ident(word) => {
                    let start = usize::from(word == "use");
                    let mut found = Vec::new();
                    let length = read_path(&rest[start..], &[], &mut found);
                    let module = self.0.get_mut(name).context("a module that was not read")?;
                    let line = word.span().start().line;
                    for (alias, path) in found {
                        if start == 1 {
                            module.imports.insert(alias, path.clone());
                        }
                        module.paths.push((path, line));
                    }
                    start + length
                }
                TokenTree::Group(group) => {
                    self.walk(group.stream(), name, directory)?;
                    1
                }
                _ => 1,
            };
        }
        Ok(())
    }

    /// A child, in a file of its own or here.
    fn walk_module(&mut self, tokens: &[TokenTree], parent: &Names, directory: &Path) -> Result<usize> {
        let Some(TokenTree::Ident(word)) = tokens.get(1) else { return Ok(1) };
        let word = word.to_string();
        let name = [parent.as_slice(), std::slice::from_ref(&word)].concat();
        let below = directory.join(&word);
        if let Some(TokenTree::Group(body)) = tokens.get(2) {
            let file = self.0[parent].file.clone();
            self.0.insert(name.clone(), Module { file, ..Module::default() });
            self.walk(body.stream(), &name, &below)?;
        } else {
            let files = [directory.join(format!("{word}.rs")), below.join("mod.rs")];
            let file = files.iter().find(|file| file.exists()).with_context(|| format!("no {}", files[0].display()))?;
            self.read_file(file, &name, &below)?;
        }
        Ok(3)
    }

    /// The module that a path leads to, seen from `module`; imports on the way are followed.
    fn resolve(&self, module: &[String], path: &[String], imports: u32) -> Option<Names> {
        let (mut at, mut rest) = (module.to_vec(), path);
        match path.first()?.as_str() {
            "crate" => (at, rest) = (Names::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    at.pop()?;
                    rest = &rest[1..];
                }
            }
            first if self.child(&at, first).is_some() || self.0[&at].imports.contains_key(first) => {}
            _ => return None,
        }
        while let Some(word) = rest.first() {
            if let Some(child) = self.child(&at, word) {
                (at, rest) = (child, &rest[1..]);
            } else if let Some(import) = self.0[&at].imports.get(word).filter(|_| imports > 0) {
                return self.resolve(&at, &[import, &rest[1..]].concat(), imports - 1).or(Some(at));
            } else {
                break;
            }
        }
        Some(at)
    }

    fn child(&self, module: &[String], word: &str) -> Option<Names> {
        let name = [module, &[word.to_owned()]].concat();
        self.0.contains_key(&name).then_some(name)
    }

    /// The circles, each with the lines that make it.
    fn circles(&self) -> Vec<String> {
        let mut uses: BTreeMap<(&Names, &Names), (&Path, usize)> = BTreeMap::new();
        for (name, module) in &self.0 {
            for (path, line) in &module.paths {
                let target = self.resolve(name, path, IMPORTS).and_then(|target| self.0.get_key_value(&target));
                if let Some((target, _)) = target.filter(|(target, _)| !name.starts_with(target)) {
                    uses.entry((name, target)).or_insert((&module.file, *line));
                }
            }
        }
        let graph: DiGraphMap<&Names, ()> = uses.keys().copied().collect();
        let circles = tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1);
        circles.map(|circle| describe(&circle.into_iter().collect(), &uses)).collect()
    }
}

fn describe(circle: &BTreeSet<&Names>, uses: &BTreeMap<(&Names, &Names), (&Path, usize)>) -> String {
    let names: Vec<_> = circle.iter().map(|name| name.join("::")).collect();
    let inside = uses.iter().filter(|((from, to), _)| circle.contains(from) && circle.contains(to));
    let lines = inside.map(|((from, to), (file, line))| {
        format!("  {} uses {}: {}:{line}", from.join("::"), to.join("::"), file.display())
    });
    [names.join(", ")].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

/// Whether the tokens begin with `::`.
fn is_separator(tokens: &[TokenTree]) -> bool {
    let is_colon = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':');
    tokens.len() > 1 && tokens[..2].iter().all(is_colon)
}

/// Whether what follows `#` is `[cfg(…test…)]`.
fn is_for_tests(attribute: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(attribute)) = attribute else { return false };
    let text = attribute.stream().to_string();
    text.starts_with("cfg") && text.contains("test") && !text.contains("not")
}

/// The tokens of an item, its attributes included: up to a semicolon or a body.
fn item_length(tokens: &[TokenTree]) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    tokens.iter().position(ends).map_or(tokens.len(), |last| last + 1)
}

/// Reads a path, or all paths of a `use` tree, behind `prefix`; each with the name that it gets. The answer is how many
/// tokens it has.
fn read_path(tokens: &[TokenTree], prefix: &[String], found: &mut Vec<(String, Names)>) -> usize {
    let (mut path, mut at) = (prefix.to_vec(), 0);
    loop {
        match tokens.get(at) {
            // Inside braces `self` is what stands before them.
            Some(TokenTree::Ident(word)) if *word == "self" && !path.is_empty() => {}
            Some(TokenTree::Ident(word)) => path.push(word.to_string()),
            Some(TokenTree::Group(group)) if !path.is_empty() && group.delimiter() == Delimiter::Brace => {
                let tokens: Vec<_> = group.stream().into_iter().collect();
                let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
                for part in tokens.split(is_comma) {
                    read_path(part, &path, found);
                }
                return at + 1;
            }
            _ => break,
        }
        at += 1;
        if !is_separator(&tokens[at..]) {
            break;
        }
        at += 2;
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if let [TokenTree::Ident(word), TokenTree::Ident(alias), ..] = &tokens[at.min(tokens.len())..]
        && word == "as"
    {
        name = alias.to_string();
        at += 2;
    }
    if !path.is_empty() {
        found.push((name, path));
    }
    at.max(1)
}

fn circles_of(text: &str) -> Vec<String> {
    let mut modules = Modules::default();
    modules.0.insert(Names::new(), Module::default());
    modules.walk(TokenStream::from_str(text).unwrap(), &Names::new(), Path::new("")).unwrap();
    let lines = modules.circles();
    lines.iter().map(|circle| circle.lines().next().unwrap().to_owned()).collect()
}

#[test]
fn siblings_that_use_each_other_are_a_circle() {
    let two = "mod a { use super::{b::B, c}; } mod b { fn f() { crate::a::g() } pub struct B; } mod c {}";
    assert_eq!(circles_of(two), ["a, b"]);
    let three =
        "mod a { use crate::b; mod x { use crate::c as d; } } mod b { use crate::a::x; } mod c { use crate::a; }";
    assert_eq!(circles_of(three), ["a, a::x, b, c"], "through a child");
    let renamed =
        "mod a { use super::b as c; fn f() { c::d::g() } } mod b { pub mod d { fn h() { json!(crate::a::i()) } } }";
    assert_eq!(circles_of(renamed), ["a, b::d"], "a macro");
}

#[test]
fn what_the_parent_imports_is_whose_it_is() {
    let text = "use b::B; mod a { use super::B; } mod b { use super::a; pub struct B; }";
    assert_eq!(circles_of(text), ["a, b"]);
}

#[test]
fn a_child_may_use_its_parent_and_tests_may_use_all() {
    let text = "mod a { mod b { use super::super::a::T; fn f() { crate::g(); super::h() } } use b::X; pub struct T; }";
    assert!(circles_of(text).is_empty());
    let tests =
        "mod a { #[cfg(test)] pub mod tests { use crate::b; } #[cfg(test)] use crate::b; } mod b { use crate::a; }";
    assert!(circles_of(tests).is_empty());
    assert!(circles_of("mod a { use ::b::c; fn f() { X::<T>::b() } } mod b { use crate::a; }").is_empty());
}
