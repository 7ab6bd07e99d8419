//! Debian packages: installed by root, named to anyone else.

use std::time::Duration;

use anyhow::Result;

use crate::child::Child;
use crate::tally::Counts;
use crate::workspace::{is_root, succeeds};

/// How long fetching and installing may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Installs those that are missing; never a failure, since whoever needs them says SKIP.
pub(crate) fn install(packages: &[&str]) -> Result<Counts> {
    if !succeeds("dpkg-query", &["--version"]) {
        return Ok(Counts::skip("packages", "this is not Debian (no dpkg-query)"));
    }
    let missing = missing_of(packages);
    if missing.is_empty() {
        println!("packages: all installed");
        return Ok(Counts::check(true));
    }
    let line = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !is_root() {
        let reason = format!("not root, and some are missing; run: {line}");
        return Ok(Counts::skip("packages", &reason));
    }
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], missing.as_slice()].concat())?;
    let missing = missing_of(packages);
    if missing.is_empty() {
        return Ok(Counts::check(true));
    }
    Ok(Counts::skip("packages", &format!("not installed: {}", missing.join(" "))))
}

/// Runs apt-get without questions. That it fails is seen by what is missing afterwards.
pub(crate) fn apt(arguments: &[&str]) -> Result<()> {
    Child::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .time_limit(LIMIT)
        .stream()?;
    Ok(())
}

fn missing_of<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    packages.iter().copied().filter(|package| !is_installed(package)).collect()
}

fn is_installed(package: &str) -> bool {
    std::process::Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .output()
        .is_ok_and(|output| output.status.success() && output.stdout == b"installed")
}
