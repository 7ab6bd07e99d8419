//! The `setup` stage: programs that other stages use, and hugepages. Only root can change either;
//! anyone else is told what is missing, and the tests that need it skip. Restores nothing.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::child::Child;
use crate::packages;
use crate::tally::Counts;
use crate::workspace::{Workspace, is_root, succeeds};

/// Debian packages: what makes, carries and reads real traffic, a terminal (`script`), a formatter of
/// manuals, DPDK and XDP to compare with, and a checker of memory.
const PACKAGES: [&str; 17] = [
    "tcpdump",
    "tcpreplay",
    "iperf3",
    "ffmpeg",
    "iproute2",
    "ethtool",
    "iputils-ping",
    "tshark",
    "bsdutils",
    "groff-base",
    "libdpdk-dev",
    "libclang-dev",
    "dpdk-dev",
    "xdp-tools",
    "valgrind",
    "pkg-config",
    "gcc",
];

const HUGE_2M: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const HUGE_1G: &str = "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages";
/// 1 GiB in all.
const HUGE_2M_WANTED: u64 = 512;

/// Installs and reserves what is missing; never a failure, since the tests then say SKIP.
pub(super) fn run(workspace: &Workspace) -> Result<Counts> {
    let mut counts = packages::install(&PACKAGES)?;
    counts += promtool(workspace)?;
    counts += hugepages();
    Ok(counts)
}

/// Prometheus' own checker of metrics, out of the package of a daemon that nobody wants started: it is
/// unpacked into the target folder, and not installed.
fn promtool(workspace: &Workspace) -> Result<Counts> {
    let tools = workspace.tools();
    let program = tools.join("promtool");
    if program.is_file() || succeeds("promtool", &["--version"]) {
        println!("promtool: is here");
        return Ok(Counts::check(true));
    }
    if !succeeds("apt-get", &["--version"]) || !succeeds("dpkg-deb", &["--version"]) {
        return Ok(Counts::skip("promtool", "this is not Debian, and promtool is not installed"));
    }
    let folder = tools.join("unpacked");
    fs::create_dir_all(&folder)?;
    unpack(&folder, "prometheus")?;
    let unpacked = folder.join("usr/bin/promtool");
    let found = unpacked.is_file();
    if found {
        fs::rename(unpacked, &program)?;
    }
    fs::remove_dir_all(&folder)?;
    if found {
        return Ok(Counts::check(true));
    }
    Ok(Counts::skip("promtool", "the package prometheus cannot be fetched (apt-get download)"))
}

/// Fetches a package and unpacks it. That it failed is seen by what is missing afterwards.
fn unpack(folder: &Path, package: &str) -> Result<()> {
    let fetch = || {
        let child = Child::new("apt-get").args(["download", package]).folder(folder);
        child.time_limit(packages::LIMIT).stream()
    };
    if !fetch()?.success && is_root() {
        packages::apt(&["update"])?;
        fetch()?;
    }
    for entry in fs::read_dir(folder)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            Child::new("dpkg-deb")
                .args(["--extract".as_ref(), file.as_os_str(), folder.as_os_str()])
                .stream()?;
        }
    }
    Ok(())
}

fn hugepages() -> Counts {
    let Some(had) = read_count(HUGE_2M) else {
        return Counts::skip("hugepages", "the kernel has none of 2 MiB");
    };
    // Leave a small machine the memory to build with.
    let affordable = available_kib().map_or(0, |kib| kib / 4 / 2048);
    let wanted = HUGE_2M_WANTED.min(had + affordable);
    let got_2m = raise(HUGE_2M, had, wanted);
    let had_1g = read_count(HUGE_1G).unwrap_or(0);
    // Four are what the provider's conformance suite takes; a quarter of the memory at most.
    let affords_1g = available_kib().map_or(0, |kib| (kib >> 20) / 4).min(4);
    let got_1g = raise(HUGE_1G, had_1g, affords_1g);
    println!("hugepages: {got_2m} of 2 MiB (wanted {HUGE_2M_WANTED}), {got_1g} of 1 GiB");
    if got_2m == 0 {
        let reason = format!("none of 2 MiB; as root: echo {HUGE_2M_WANTED} > {HUGE_2M}");
        return Counts::skip("hugepages", &reason);
    }
    Counts::check(true)
}

/// Writes the wanted count unless there are as many already; says how many there are then.
fn raise(path: &str, had: u64, wanted: u64) -> u64 {
    if wanted <= had {
        return had;
    }
    // Refusal (not root, memory too fragmented) shows in the count.
    let _ = fs::write(path, wanted.to_string());
    read_count(path).unwrap_or(had)
}

fn read_count(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn available_kib() -> Option<u64> {
    let memory = fs::read_to_string("/proc/meminfo").ok()?;
    let line = memory.lines().find(|line| line.starts_with("MemAvailable:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_count_is_never_lowered() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("nr_hugepages");
        let path = path.to_str().expect("a plain name");
        fs::write(path, "700\n").expect("writable");

        assert_eq!(raise(path, 700, 512), 700);
        assert_eq!(fs::read_to_string(path).expect("readable"), "700\n");
        assert_eq!(raise(path, 700, 800), 800);
    }

    #[test]
    fn a_count_that_cannot_be_written_stays() {
        assert_eq!(raise("/proc/version", 3, 9), 3);
    }
}
