//! The stages that are `cargo test` runs. Which tests exist is asked of cargo; the names `dpdk`, `soak`,
//! `netns`, `guest` and `loom` are conventions and mark the stage that a test file belongs to.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::child::Child;
use crate::digest::Digest;
use crate::tally::Counts;
use crate::testbed;
use crate::workspace::{PROGRAMS, Workspace, cargo, succeeds};

/// Test executables that a guest's tests run in the guest, as they are: the variable that names each to
/// them, its package and its test, and whether its speed matters.
const IN_GUESTS: [(&str, &str, &str, bool); 4] = [
    ("MEMWIRE_DMABUF_TEST", "memwire-providers", "dmabuf", false),
    ("MEMWIRE_PMD_TEST", "memwire-pmd", "vfio", true),
    ("MEMWIRE_MEMORY_TEST", "memwire-pmd", "memory", false),
    ("MEMWIRE_VFIO_TEST", "memwire-vfio", "vfio", false),
];
/// The one of ports of DPDK's, which is built with it.
const DPDK: (&str, &str, &str) = ("MEMWIRE_ETHDEV_TEST", "memwire-pmd", "ethdev");
/// Test files that have a stage of their own.
const OWN_STAGE: [&str; 6] = ["dpdk", "ethdev", "guest", "loom", "netns", "soak"];

/// A test executable that cargo built.
pub(super) struct TestExecutable {
    /// Its name.
    pub(super) target: String,
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its package's.
    pub(super) folder: PathBuf,
}

impl TestExecutable {
    /// Runs it by a command that does, where cargo would; what it prints goes to `digest`.
    pub(super) fn run(
        &self,
        command: Child,
        workspace: &Workspace,
        digest: &mut Digest,
    ) -> Result<Counts> {
        digest.begin(&self.target);
        let output = command
            .env("CARGO_MANIFEST_DIR", self.folder.as_os_str())
            .env("PATH", workspace.search_path())
            .folder(&self.folder)
            .digest(digest)?;
        Ok(Counts::of_tests(&output))
    }
}

/// The arguments that select everything the unit stage runs, doc tests left out.
pub(super) fn unit_selection(workspace: &Workspace) -> Vec<String> {
    let mut arguments = vec!["--workspace".to_owned(), "--lib".to_owned(), "--bins".to_owned()];
    for name in workspace.test_names().into_iter().filter(|name| !OWN_STAGE.contains(name)) {
        arguments.extend(["--test".to_owned(), name.to_owned()]);
    }
    arguments
}

/// Everything that plain `cargo test` runs, except the files with a stage of their own.
pub(super) fn unit(workspace: &Workspace, full: bool) -> Result<Counts> {
    let tests = cargo(&["test", "--no-fail-fast"])
        .args(unit_selection(workspace))
        .args(["--", "--show-output"]);
    let mut counts = tests_of("unit", tests, workspace, full)?;
    let documented = cargo(&["test", "--workspace", "--doc", "--no-fail-fast"]);
    counts += tests_of("doc", documented, workspace, full)?;
    Ok(counts)
}

/// The models, in a target folder of their own since the flag rebuilds everything.
pub(super) fn loom(workspace: &Workspace, full: bool) -> Result<Counts> {
    if !workspace.has_test("loom") {
        return Ok(Counts::skip("loom", "no crate has a tests/loom.rs"));
    }
    let target = workspace.target.join("loom");
    let models = cargo(&["test", "-p", "memwire-mempool", "--release", "--test", "loom"])
        .args(["--target-dir".into(), target.into_os_string()])
        .args(["--", "--show-output"])
        .env("RUSTFLAGS", "--cfg loom");
    tests_of("loom", models, workspace, full)
}

/// Long runs, at the speed that they are about.
pub(super) fn soak(workspace: &Workspace, full: bool) -> Result<Counts> {
    if !workspace.has_test("soak") {
        return Ok(Counts::skip("soak", "no crate has a tests/soak.rs"));
    }
    let runs = cargo(&["test", "--release", "--workspace", "--no-fail-fast", "--test", "soak"])
        .args(["--", "--show-output"]);
    tests_of("soak", runs, workspace, full)
}

/// Real traffic between namespaces, one test at a time since they share the machine.
pub(super) fn namespaces(workspace: &Workspace, full: bool) -> Result<Counts> {
    let mut counts = Counts::default();
    let binaries = cargo(&["build", "--release"]).args(PROGRAMS).stream()?;
    if !binaries.success {
        counts += Counts::failure();
    }
    if !workspace.has_test("netns") {
        counts += Counts::skip("namespaces", "no crate has a tests/netns.rs");
        return Ok(counts);
    }
    let runs = cargo(&["test", "--release", "--workspace", "--no-fail-fast", "--test", "netns"])
        .args(["--", "--test-threads=1", "--nocapture"]);
    counts += tests_of("namespaces", runs, workspace, full)?;
    Ok(counts)
}

/// Emulated NICs behind an IOMMU. What a guest is made of is made here if it is not there yet.
pub(super) fn guest(workspace: &Workspace, full: bool) -> Result<Counts> {
    if !workspace.has_test("guest") {
        return Ok(Counts::skip("guest", "no crate has a tests/guest.rs"));
    }
    let state = match testbed::set_up_for_tests(workspace) {
        Ok(state) => state,
        Err(error) => return Ok(Counts::skip("guest", &format!("{error:#}"))),
    };
    let mut counts = Counts::default();
    // Guests run the programs as users have them.
    let binaries = cargo(&["build", "--release"]).args(PROGRAMS).stream()?;
    if !binaries.success {
        counts += Counts::failure();
    }
    // The tests themselves only wait: as they were built for the other stages.
    let mut runs = cargo(&["test", "--workspace", "--no-fail-fast", "--test", "guest"])
        .args(["--", "--test-threads=1", "--nocapture"])
        .env(::testbed::VARIABLE, state.root());
    for (variable, package, test, is_fast) in IN_GUESTS {
        // Of the whole workspace, as other stages build it: with other features it would be built anew.
        match executable_of(workspace, (package, test), &["--workspace"], is_fast)? {
            Some(executable) => runs = runs.env(variable, executable),
            None => counts += Counts::failure(),
        }
    }
    // Where DPDK is not installed the test itself says that it is skipped.
    if succeeds("pkg-config", &["--exists", "libdpdk"]) {
        let what = ["--workspace", "--features", "memwire-pmd/dpdk"];
        match executable_of(workspace, (DPDK.1, DPDK.2), &what, true)? {
            Some(executable) => runs = runs.env(DPDK.0, executable),
            None => counts += Counts::failure(),
        }
    }
    counts += tests_of("guest", runs, workspace, full)?;
    Ok(counts)
}

/// A test's executable, built for release if that matters; none if it does not build.
fn executable_of(
    workspace: &Workspace,
    (package, test): (&str, &str),
    what: &[&str],
    is_fast: bool,
) -> Result<Option<PathBuf>> {
    let profile = is_fast.then_some("--release");
    let built = cargo(&["test", "--no-run", "--message-format=json", "--test", test]);
    let built = built.args(what.iter().copied()).args(profile);
    let built = built.output()?;
    if !built.success {
        eprintln!("{}", built.stderr);
        return Ok(None);
    }
    let folder = workspace.packages.iter().find(|known| known.name == package);
    let folder = folder.map(|known| workspace.root.join(&known.folder));
    for line in built.stdout.lines() {
        if let Some(found) = executable_in(line)?
            && folder.as_deref() == Some(found.folder.as_path())
        {
            return Ok(Some(found.path));
        }
    }
    Ok(None)
}

/// Runs tests with the tools that setup fetched, in the long form if asked. What they print goes to a
/// file of that name, and what matters of it to the terminal.
pub(super) fn tests_of(
    name: &str,
    tests: Child,
    workspace: &Workspace,
    full: bool,
) -> Result<Counts> {
    let tests = tests.env("PATH", workspace.search_path());
    let tests = if full { tests.env("MEMWIRE_FULL", "1") } else { tests };
    let mut digest = Digest::new(&workspace.test_log(name))?;
    let mut counts = Counts::of_tests(&tests.digest(&mut digest)?);
    counts.failing = digest.end();
    Ok(counts)
}

/// The executables of the unit stage, built if need be.
pub(super) fn executables(workspace: &Workspace) -> Result<Vec<TestExecutable>> {
    let built = cargo(&["test", "--no-run", "--message-format=json"])
        .args(unit_selection(workspace))
        .output()?;
    ensure!(built.success, "the tests do not build:\n{}", built.stderr);
    built.stdout.lines().filter_map(|line| executable_in(line).transpose()).collect()
}

/// The test executable that a line of cargo's messages announces, if it does.
fn executable_in(line: &str) -> Result<Option<TestExecutable>> {
    let message: Value = serde_json::from_str(line).context("a message of cargo")?;
    let is_test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
    let (Some(path), Some(target), Some(manifest)) = (
        message["executable"].as_str().filter(|_| is_test),
        message["target"]["name"].as_str(),
        message["manifest_path"].as_str(),
    ) else {
        return Ok(None);
    };
    let folder = Path::new(manifest).parent().context("a manifest has a folder")?;
    Ok(Some(TestExecutable {
        target: target.to_owned(),
        path: PathBuf::from(path),
        folder: folder.to_path_buf(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_executables_are_taken_from_cargos_messages() {
        let test = r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml",
            "target":{"name":"a"},"profile":{"test":true},"executable":"/w/target/a-1"}"#;
        let library = r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml",
            "target":{"name":"a"},"profile":{"test":false},"executable":null}"#;

        let found = executable_in(test).expect("JSON").expect("a test");

        assert_eq!((found.target.as_str(), found.folder.as_path()), ("a", Path::new("/w/a")));
        assert!(executable_in(library).expect("JSON").is_none());
        assert!(executable_in(r#"{"reason":"build-finished"}"#).expect("JSON").is_none());
    }
}
