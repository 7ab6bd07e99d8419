//! The list of files that hold `unsafe`: checked in, so that a new one is seen in review.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::rust_words::words;

/// Where the list is kept.
const LIST: &str = "docs/unsafe-files.txt";
/// Folders that hold no source of ours.
const NOT_OURS: [&str; 2] = ["target", "corpus"];
/// Folders of files that are meant not to compile, whose errors are compared line by line.
const MEANT_TO_FAIL: [&str; 2] = ["compile_fail", "ui"];

/// What differs from the list, and which file does not say why it needs unsafe. `bless` rewrites
/// the list first.
pub(super) fn problems(root: &Path, bless: bool) -> Result<Vec<String>> {
    let mut sources = Vec::new();
    collect(root, Path::new(""), &mut sources)?;
    let mut files = BTreeSet::new();
    let mut problems = Vec::new();
    for path in sources {
        let source = fs::read_to_string(root.join(&path)).with_context(|| path.clone())?;
        let words = words(&source);
        if !words.iter().any(|word| word == "unsafe") {
            continue;
        }
        if !is_meant_to_fail(&path) && !gives_a_reason(&words) {
            problems.push(format!(
                "{path}: unsafe without `#![allow(unsafe_code, reason = \"…\")]` in this file"
            ));
        }
        files.insert(path);
    }
    if bless {
        write_list(root, &files)?;
    }
    problems.extend(differences(&read_list(root), &files));
    Ok(problems)
}

fn differences(listed: &BTreeSet<String>, found: &BTreeSet<String>) -> Vec<String> {
    let new = found.difference(listed).map(|path| format!("+ {path}: unsafe, and not in {LIST}"));
    let gone = listed.difference(found).map(|path| format!("- {path}: in {LIST}, and has none"));
    let mut lines: Vec<String> = new.chain(gone).collect();
    if !lines.is_empty() {
        lines.push("if that is meant: cargo xtask lint --bless".to_owned());
    }
    lines
}

fn read_list(root: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(root.join(LIST)).unwrap_or_default();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn write_list(root: &Path, files: &BTreeSet<String>) -> Result<()> {
    let path = root.join(LIST);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text: String = files.iter().map(|file| format!("{file}\n")).collect();
    fs::write(&path, text).with_context(|| format!("cannot write {LIST}"))
}

/// Paths of all Rust files below a folder, relative to the root.
fn collect(root: &Path, folder: &Path, sources: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = folder.join(&name);
        let kind = entry.file_type()?;
        if kind.is_dir() && !name.starts_with('.') && !NOT_OURS.contains(&name.as_str()) {
            collect(root, &path, sources)?;
        } else if kind.is_file() && name.ends_with(".rs") {
            sources.push(path.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

fn is_meant_to_fail(path: &str) -> bool {
    Path::new(path).iter().any(|part| MEANT_TO_FAIL.iter().any(|folder| part == *folder))
}

/// Whether the words of an `allow(unsafe_code, reason …)` or `expect(…)` are there, in a row.
fn gives_a_reason(words: &[String]) -> bool {
    words.windows(3).any(|window| {
        (window[0] == "allow" || window[0] == "expect")
            && window[1] == "unsafe_code"
            && window[2] == "reason"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        root
    }

    const REASONED: &str = "#![allow(unsafe_code, reason = \"maps memory\")]\nfn f() { unsafe {} }";

    #[test]
    fn a_listed_file_with_a_reason_is_fine() {
        let root = checkout(&[("a/src/map.rs", REASONED), (LIST, "a/src/map.rs\n")]);
        assert!(problems(root.path(), false).expect("readable").is_empty());
    }

    #[test]
    fn new_and_removed_files_are_named() {
        let root = checkout(&[
            ("a/new.rs", REASONED),
            ("a/calm.rs", "// unsafe\n"),
            (LIST, "a/calm.rs\n"),
        ]);

        let problems = problems(root.path(), false).expect("readable");

        assert!(problems[0].starts_with("+ a/new.rs"), "{problems:?}");
        assert!(problems[1].starts_with("- a/calm.rs"), "{problems:?}");
    }

    #[test]
    fn unsafe_without_a_reason_is_named_and_cannot_be_blessed() {
        let root = checkout(&[("a.rs", "fn f() { unsafe {} }")]);

        let problems = problems(root.path(), true).expect("readable");

        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("a.rs: unsafe without"), "{problems:?}");
    }

    #[test]
    fn blessing_writes_the_list_that_then_holds() {
        let root = checkout(&[("b.rs", REASONED), ("a.rs", REASONED), ("target/c.rs", REASONED)]);

        assert!(problems(root.path(), true).expect("readable").is_empty());

        let list = fs::read_to_string(root.path().join(LIST)).expect("written");
        assert_eq!(list, "a.rs\nb.rs\n");
    }
}
