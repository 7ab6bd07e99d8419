//! DPDK's side: our C bars built against the installed libdpdk, by shared and by static libraries.
//! Which of the two is faster differs from case to case, so both run and the better one counts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::child::Child;
use crate::workspace::{Workspace, succeeds};

/// Where the source is.
const SOURCE: &str = "benches/peer/dpdk_bars.c";
/// What the bars link when static; those that a release does not have are left out. The list of
/// pkg-config names every driver and every library that any of them wants.
const STATIC_LIBRARIES: [&str; 17] = [
    "eal",
    "kvargs",
    "telemetry",
    "log",
    "argparse",
    "ring",
    "mempool",
    "mbuf",
    "net",
    "meter",
    "ethdev",
    "rcu",
    "bus_vdev",
    "mempool_ring",
    "net_null",
    "net_pcap",
    "net_ring",
];
const SYSTEM_LIBRARIES: [&str; 6] = ["-lpcap", "-lnuma", "-lbsd", "-ldl", "-lm", "-lpthread"];

/// The peer's programs, and what they are in words.
pub(super) struct Peers {
    pub(super) programs: Vec<PathBuf>,
    pub(super) description: String,
}

/// Builds what can be built here; no program, and the reason, where DPDK is not installed.
pub(super) fn build(workspace: &Workspace) -> Result<Peers> {
    let none = |reason: &str| Peers {
        programs: Vec::new(),
        description: format!("DPDK column: SKIP {reason}"),
    };
    if !succeeds("pkg-config", &["--version"]) {
        return Ok(none("pkg-config is not installed"));
    }
    if !succeeds("pkg-config", &["--exists", "libdpdk"]) {
        return Ok(none("libdpdk-dev is not installed"));
    }
    if !succeeds("cc", &["--version"]) {
        return Ok(none("there is no C compiler (cc)"));
    }
    let folder = workspace.target.join("peer");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let source = workspace.root.join(SOURCE);
    let version = pkg_config(&["--modversion"])?.join(" ");
    let flags = pkg_config(&["--cflags"])?;

    let shared = folder.join("dpdk-bars");
    let built = compile(&source, &shared, &flags, &pkg_config(&["--libs"])?)?;
    ensure!(built.is_none(), "{SOURCE} does not build:\n{}", built.unwrap_or_default());
    let mut programs = vec![shared];
    let mut builds = "shared".to_owned();

    let by_archives = folder.join("dpdk-bars-static");
    match static_link()? {
        Some(link) if compile(&source, &by_archives, &flags, &link)?.is_none() => {
            programs.insert(0, by_archives);
            builds.push_str(" and static, the better of the two");
        }
        _ => eprintln!("no static libdpdk to link: the shared one only"),
    }
    let description = format!("DPDK column: libdpdk {version}, {builds}, -O3 -march=native");
    Ok(Peers { programs, description })
}

/// Whether libdpdk can be built against.
pub(super) fn is_here() -> bool {
    succeeds("pkg-config", &["--exists", "libdpdk"])
}

/// Of the peer's builds, the one by shared libraries: the last.
pub(super) fn shared(programs: &[PathBuf]) -> &[PathBuf] {
    &programs[programs.len().saturating_sub(1)..]
}

/// Compiles; what the compiler said if it failed.
fn compile(source: &Path, to: &Path, flags: &[String], link: &[String]) -> Result<Option<String>> {
    let output = Child::new("cc")
        .args(["-std=gnu11", "-Wall", "-Wextra", "-O3"])
        .args(flags)
        // After pkg-config's flags, which name an old processor.
        .args(["-march=native"])
        .args([source.as_os_str()])
        .args(["-o".as_ref(), to.as_os_str()])
        .args(link)
        .output()?;
    Ok((!output.success).then_some(output.stderr))
}

/// Linker arguments for the archives; none where the package brings no archives.
fn static_link() -> Result<Option<Vec<String>>> {
    let folder = pkg_config(&["--variable=libdir"])?.join(" ");
    let archives: Vec<String> = STATIC_LIBRARIES
        .iter()
        .map(|library| format!("librte_{library}.a"))
        .filter(|file| Path::new(&folder).join(file).is_file())
        .map(|file| format!("-l:{file}"))
        .collect();
    if archives.is_empty() {
        return Ok(None);
    }
    let mut link = vec![format!("-L{folder}"), "-Wl,--whole-archive".to_owned()];
    link.extend(archives);
    link.extend(["-Wl,--no-whole-archive", "-Wl,--as-needed"].map(str::to_owned));
    link.extend(SYSTEM_LIBRARIES.map(str::to_owned));
    Ok(Some(link))
}

fn pkg_config(arguments: &[&str]) -> Result<Vec<String>> {
    let output = Child::new("pkg-config").args(arguments).args(["libdpdk"]).output()?;
    ensure!(output.success, "pkg-config libdpdk: {}", output.stderr);
    Ok(output.stdout.split_whitespace().map(str::to_owned).collect())
}
