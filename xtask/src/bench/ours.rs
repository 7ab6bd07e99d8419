//! Our own programs: the bars, and beside them the apps that cases run, as the workspace builds them; and for ports of
//! DPDK's the same with the feature `dpdk`, in a folder of their own.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::peer;
use crate::workspace::{PROGRAMS, Workspace, cargo};

/// The program of our bars.
const BARS: &str = "bars";
/// What cases over ports of DPDK's run: the bars, and the app that they start.
const OVER_DPDK: [&str; 2] = [BARS, "l2fwd"];
/// Where these go, beside the others.
const FOLDER: &str = "release/over-dpdk";

/// Builds the bars and the apps. The whole workspace, so that nothing is built twice with other features where the tests
/// have built it already.
pub(super) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let built = cargo(&["build", "--release"]).args(PROGRAMS).stream()?;
    ensure!(built.success, "the workspace does not build");
    let program = workspace.target.join("release").join(BARS);
    ensure!(program.is_file(), "memwire-benches built no program `{BARS}`");
    Ok(program)
}

/// Builds the bars and the app with ports of DPDK's, and sets them aside; none where libdpdk cannot be built against.
/// Leaves `target/release` with programs that [`build`] must replace.
pub(super) fn build_over_dpdk(workspace: &Workspace) -> Result<Option<PathBuf>> {
    if !peer::is_here() {
        return Ok(None);
    }
    let whole = ["build", "--release", "--workspace", "--examples"];
    let features = ["--features", "memwire-benches/dpdk,l2fwd/dpdk"];
    let programs = OVER_DPDK.iter().flat_map(|program| ["--bin", *program]);
    let line: Vec<&str> = whole.into_iter().chain(features).chain(programs).collect();
    if !cargo(&line).stream()?.success {
        eprintln!("SKIP suite dpdk: ours does not build with libdpdk here (see above)");
        return Ok(None);
    }
    let folder = workspace.target.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for program in OVER_DPDK {
        let (from, to) = (workspace.target.join("release").join(program), folder.join(program));
        // Not over a file that may be mapped.
        let _ = fs::remove_file(&to);
        fs::copy(&from, &to).with_context(|| to.display().to_string())?;
    }
    Ok(Some(folder.join(BARS)))
}
