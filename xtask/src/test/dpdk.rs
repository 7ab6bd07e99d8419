//! The `dpdk` stage: ports of DPDK's, which are a feature. The driver's own tests, with DPDK's testpmd at the
//! other end, and the apps over such ports.
//!
//! Built with the features that the whole workspace has, so that of what other stages built only what
//! depends on the feature is built anew. The apps that lie in the target folder afterwards are those with the
//! feature: other stages, which build them first, put theirs there again.

use anyhow::Result;

use super::cargo_tests::tests_of;
use crate::child::Child;
use crate::tally::Counts;
use crate::workspace::{Workspace, cargo, succeeds};

const FEATURE: [&str; 2] = ["--features", "memwire-pmd/dpdk"];
/// The apps that tests run.
const APPS: [&str; 4] = ["gpurx", "pktgen", "l2fwd", "capture"];
/// Test files: the driver's, and the apps'.
const TESTS: [&str; 2] = ["ethdev", "dpdk"];
/// How the bindings' build script begins what it says when something is not installed.
const MISSING: &str = "dpdk-sys: ";

/// Builds with the feature and runs the tests: at the speed that others have their tests at, or, in the long
/// form, at full speed.
pub(super) fn run(workspace: &Workspace, full: bool) -> Result<Counts> {
    const NAME: &str = "dpdk";
    if !succeeds("pkg-config", &["--atleast-version=22.11", "libdpdk"]) {
        return Ok(Counts::skip(NAME, "needs libdpdk 22.11 or newer (libdpdk-dev) and pkg-config"));
    }
    let (profile, folder) = if full { (Some("--release"), "release") } else { (None, "debug") };
    let with_feature =
        |command: &str| -> Child { cargo(&[command, "--workspace"]).args(FEATURE).args(profile) };
    let apps = APPS.iter().flat_map(|app| ["--bin", app]);
    // With the features that the tests ask for ([`PROGRAMS`]).
    let built = with_feature("build").args(apps).args(["--examples"]).stream()?;
    if !built.success {
        return Ok(match why_not(&built.stderr) {
            Some(why) => Counts::skip(NAME, why),
            None => Counts::failure(),
        });
    }
    let tests = TESTS.iter().flat_map(|test| ["--test", test]);
    // One at a time: they share the machine, and a peer's processors with it.
    let tests = with_feature("test")
        .args(["--no-fail-fast"])
        .args(tests)
        .args(["--", "--test-threads=1", "--nocapture"])
        .env("MEMWIRE_BIN_DIR", workspace.target.join(folder));
    let mut counts = tests_of(NAME, tests, workspace, full)?;
    // What the driver's modules check of themselves.
    let modules = cargo(&["test", "-p", "memwire-pmd", "--features", "dpdk", "--lib"]).args([
        "--",
        "--show-output",
        "ethdev::",
    ]);
    counts += tests_of("dpdk-modules", modules, workspace, full)?;
    Ok(counts)
}

/// What is missing, if that is why the build failed.
fn why_not(stderr: &str) -> Option<&str> {
    let said = stderr.lines().find_map(|line| line.split_once(MISSING).map(|(_, said)| said))?;
    said.contains(" needs ").then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_installed_is_told_from_what_does_not_build() {
        let said = "   Compiling dpdk-sys v0.1.0\nwarning: dpdk-sys@0.1.0: dpdk-sys: the feature 'dpdk' \
                    needs libclang, which is not here (x); install it\nerror: failed to run";
        assert!(
            why_not(said).is_some_and(|why| why.starts_with("the feature 'dpdk' needs libclang"))
        );
        let said =
            "warning: dpdk-sys@0.1.0: dpdk-sys: libdpdk's headers cannot be read: x\nerror: y";
        assert_eq!(why_not(said), None);
        assert_eq!(why_not("error[E0308]: mismatched types"), None);
    }
}
