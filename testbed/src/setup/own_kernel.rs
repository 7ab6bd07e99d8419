//! Our own kernel, built from Debian's source with the answers in `guest/kernel.config`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::apt::{Archive, Package};
use super::here;
use super::tool::Tool;
use crate::error::{At, Error, Result};
use crate::state::{KERNEL_CONFIG, hash};

const META: &str = "linux-source";
/// What the build needs, as Debian packages.
pub(super) const PACKAGES: [&str; 7] =
    ["build-essential", "bc", "bison", "flex", "libelf-dev", "libssl-dev", "xz-utils"];
/// How to see that a package is there.
const SIGNS: [(&str, &str); 6] = [
    ("make", "build-essential"),
    ("gcc", "build-essential"),
    ("bc", "bc"),
    ("bison", "bison"),
    ("flex", "flex"),
    ("xz", "xz-utils"),
];
const HEADERS: [(&str, &str); 2] =
    [("/usr/include/gelf.h", "libelf-dev"), ("/usr/include/openssl/evp.h", "libssl-dev")];

/// Builds the suite's kernel unless one with these answers is there.
pub(super) fn make(
    archive: &mut Archive,
    kernels: &Path,
    suite: &str,
    update: bool,
) -> Result<String> {
    if let (Some(name), false) = (existing(kernels, suite), update) {
        return Ok(here(&name));
    }
    require_tools()?;
    let packages = archive.missing_for(&[format!("{META}/{suite}")])?;
    let source = source_among(&packages)
        .ok_or_else(|| Error::Invalid(format!("{META} of {suite} has no source")))?;
    let name = format!("own-{}-{}", folder_word(&source.version), hash(KERNEL_CONFIG));
    let folder = kernels.join(&name);
    if folder.join("bzImage").is_file() {
        return Ok(here(&name));
    }
    let making = kernels.join("making-own");
    let _ = fs::remove_dir_all(&making);
    println!("our own kernel: {name} takes some 13 minutes of CPU, once");
    let tree = unpack(archive, source, &making)?;
    let image = build(&tree, &making)?;

    let made = making.join("made");
    fs::create_dir_all(&made).at("make", &made)?;
    fs::copy(&image, made.join("bzImage")).at("copy", &image)?;
    fs::copy(tree.join(".config"), made.join("config")).at("copy", &tree)?;
    fs::write(made.join("suite"), suite).at("write", &made)?;
    fs::rename(&made, &folder).at("rename", &made)?;
    fs::remove_dir_all(&making).at("remove", &making)?;
    Ok(name)
}

fn existing(kernels: &Path, suite: &str) -> Option<String> {
    let suffix = format!("-{}", hash(KERNEL_CONFIG));
    let mut names = fs::read_dir(kernels).ok()?.flatten().filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let made_from = fs::read_to_string(entry.path().join("suite")).unwrap_or_default();
        name.starts_with("own-") && name.ends_with(&suffix) && made_from == suite
    });
    names.next().map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// All that is missing at once: nobody wants to be told five times.
fn require_tools() -> Result<()> {
    let is_here = |program: &str| {
        let mut command = Command::new(program);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok()
    };
    let programs = SIGNS.iter().filter(|(program, _)| !is_here(program));
    let headers = HEADERS.iter().filter(|(header, _)| !Path::new(header).is_file());
    let mut missing: Vec<&str> = programs.chain(headers).map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let install = missing.join(" ");
    Err(Error::Invalid(format!("building a kernel needs more here: apt-get install {install}")))
}

/// The package with the source itself, `linux-source-7.3`.
fn source_among(packages: &[Package]) -> Option<&Package> {
    packages.iter().find(|package| {
        let version = package.name.strip_prefix("linux-source-");
        version.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
    })
}

/// A version without what a shell would have to quote.
fn folder_word(version: &str) -> String {
    version.replace([':', '~'], "-")
}

fn unpack(archive: &mut Archive, source: &Package, making: &Path) -> Result<PathBuf> {
    archive.unpack(std::slice::from_ref(source), making)?;
    let packed = making.join("usr/src").join(format!("{}.tar.xz", source.name));
    Tool::new("tar")
        .args(["--extract".as_ref(), "--file".as_ref(), packed.as_os_str()])
        .folder(making)
        .run()?;
    fs::remove_file(&packed).at("remove", &packed)?;
    Ok(making.join(&source.name))
}

fn build(tree: &Path, making: &Path) -> Result<PathBuf> {
    let answers = making.join("answers");
    fs::write(&answers, KERNEL_CONFIG).at("write", &answers)?;
    let make = || Tool::new("make").args(["-s"]).folder(tree);
    let answers = format!("KCONFIG_ALLCONFIG={}", answers.display());
    make().args(["allnoconfig".to_owned(), answers]).run()?;
    let config = tree.join(".config");
    let taken = fs::read_to_string(&config).at("read", &config)?;
    let lost = lost_answers(&taken);
    if !lost.is_empty() {
        return Err(Error::Invalid(format!(
            "this version of the kernel does not take these answers of guest/kernel.config: {}",
            lost.join(" ")
        )));
    }
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    make().args([format!("-j{jobs}"), "bzImage".to_owned()]).run()?;
    Ok(tree.join("arch/x86/boot/bzImage"))
}

/// Answers that were given and are not in the configuration: misspelt, renamed, or without what they
/// depend on.
fn lost_answers(taken: &str) -> Vec<&'static str> {
    let given = KERNEL_CONFIG.lines().filter(|line| line.starts_with("CONFIG_"));
    let wanted = given.filter(|line| !line.ends_with("=n"));
    wanted.filter(|answer| !taken.lines().any(|line| line == *answer)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_the_package_with_a_version_in_its_name() {
        let package = |name: &str| Package { name: name.to_owned(), version: String::new() };
        let packages =
            [package("linux-source"), package("linux-libc-dev"), package("linux-source-7.3")];
        assert_eq!(source_among(&packages).expect("there").name, "linux-source-7.3");
        assert!(source_among(&packages[..2]).is_none());
    }

    #[test]
    fn an_answer_that_was_not_taken_is_found() {
        let all: String = KERNEL_CONFIG.lines().map(|line| format!("{line}\n")).collect();
        assert!(lost_answers(&all).is_empty());
        assert_eq!(lost_answers(&all.replace("CONFIG_IOMMUFD=y\n", "")), ["CONFIG_IOMMUFD=y"]);
    }

    #[test]
    fn a_kernel_of_another_suite_is_not_the_one_that_is_wanted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let name = format!("own-7.3-{}", hash(KERNEL_CONFIG));
        fs::create_dir(folder.path().join(&name)).expect("made");
        fs::write(folder.path().join(&name).join("suite"), "trixie").expect("written");

        assert_eq!(existing(folder.path(), "trixie"), Some(name));
        assert_eq!(existing(folder.path(), "sid"), None);
    }
}
