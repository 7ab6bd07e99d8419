//! QEMU, its firmware, the libraries that it needs and this machine lacks, and a static busybox, unpacked
//! side by side.

use std::fs;
use std::path::Path;

use super::apt::Archive;
use super::here;
use super::tool::Tool;
use crate::error::{At, Error, Result};
use crate::state::libraries;

const FROM_SUITE: [&str; 4] =
    ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];
/// From whichever release has it.
const FROM_ANY: [&str; 2] = ["ipxe-qemu", "busybox-static"];
/// What this file unpacks, in a word: a folder that says another is made anew.
const RECIPE: &str = "recipe";

/// Makes the folder unless it is as it would be made.
pub(super) fn make(
    archive: &mut Archive,
    folder: &Path,
    suite: &str,
    update: bool,
) -> Result<String> {
    let recipe = format!("{suite} {} {}", FROM_SUITE.join(" "), FROM_ANY.join(" "));
    let done = folder.join(RECIPE);
    let is_made = fs::read_to_string(&done).is_ok_and(|made| made == recipe);
    if is_made && !update {
        return Ok(here(&version(folder)?));
    }
    let from_suite = FROM_SUITE.iter().map(|package| format!("{package}/{suite}"));
    let wanted: Vec<_> =
        from_suite.chain(FROM_ANY.iter().map(|package| (*package).to_owned())).collect();
    let packages = archive.missing_for(&wanted)?;
    if packages.iter().any(|package| package.name == "libc6") {
        return Err(Error::Invalid(format!(
            "QEMU of {suite} needs a newer C library than this machine has: \
             choose an older release with --qemu-suite"
        )));
    }
    let making = folder.with_extension("making");
    let _ = fs::remove_dir_all(&making);
    archive.unpack(&packages, &making)?;
    check(&making)?;
    let version = version(&making)?;
    fs::write(making.join(RECIPE), recipe).at("write", &making.join(RECIPE))?;
    // A guest that runs keeps what it has open.
    let _ = fs::remove_dir_all(folder);
    fs::rename(&making, folder).at("rename", &making)?;
    Ok(format!("{version}, {} packages unpacked", packages.len()))
}

fn qemu(folder: &Path) -> Tool {
    let program = folder.join("usr/bin/qemu-system-x86_64");
    Tool::new(&program.to_string_lossy())
        .env("LD_LIBRARY_PATH", libraries(folder))
        .env("QEMU_MODULE_DIR", libraries(folder).join("qemu"))
}

/// Whether it starts, and has the NICs that this is about.
fn check(folder: &Path) -> Result<()> {
    let devices = qemu(folder).args(["-device", "help"]).run()?;
    for nic in ["e1000e", "igb"] {
        if !devices.contains(&format!("name \"{nic}\"")) {
            return Err(Error::Invalid(format!(
                "this QEMU has no {nic}: choose a newer release with --qemu-suite"
            )));
        }
    }
    Ok(())
}

fn version(folder: &Path) -> Result<String> {
    let text = qemu(folder).args(["--version"]).run()?;
    let version = text.lines().next().and_then(|line| line.split(" version ").nth(1));
    Ok(version.and_then(|rest| rest.split(' ').next()).unwrap_or("unknown version").to_owned())
}
