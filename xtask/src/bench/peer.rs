//! The peers in C: our bars built against the installed libdpdk, by shared and by static libraries, and plain
//! sockets. Which build of DPDK's is faster differs from case to case, so both run and the better one counts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::targets::{Case, DPDK_SHARED, SOCKETS, Suite, XDP};
use crate::child::Child;
use crate::workspace::{Workspace, succeeds};

/// Where the sources are.
const SOURCE: &str = "benches/peer/dpdk_bars.c";
const AF_PACKET: &str = "benches/peer/dpdk_af_packet.c";
const PLAIN_SOCKETS: &str = "benches/peer/sockets.c";
const XDP_DROP: &str = "benches/peer/xdp.c";
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

/// The programs of peers.
pub(super) struct Peers {
    /// DPDK's, one a build; none where it is not installed.
    pub(super) dpdk: Vec<PathBuf>,
    /// DPDK's over packet sockets.
    dpdk_af_packet: Option<PathBuf>,
    /// Plain sockets, and those before XDP, where there is a C compiler.
    sockets: Option<PathBuf>,
    xdp: Option<PathBuf>,
    /// What DPDK's are in words, or why there are none.
    pub(super) about: String,
}

impl Peers {
    /// A peer's builds for that case.
    pub(super) fn of(&self, name: &str, case: &Case) -> Vec<&Path> {
        match (name, case.suite) {
            (SOCKETS, _) => self.sockets.iter().map(PathBuf::as_path).collect(),
            (XDP, _) => self.xdp.iter().map(PathBuf::as_path).collect(),
            (_, Suite::AfPacket) => self.dpdk_af_packet.iter().map(PathBuf::as_path).collect(),
            // The last is the one by shared libraries.
            (DPDK_SHARED, _) => self.dpdk.last().map(PathBuf::as_path).into_iter().collect(),
            // Across cores the ring is all inline, so one build is as good as another.
            _ if case.two_cores => self.dpdk.iter().take(1).map(PathBuf::as_path).collect(),
            _ => self.dpdk.iter().map(PathBuf::as_path).collect(),
        }
    }
}

/// Builds what can be built here; no program, and the reason, where DPDK is not installed.
pub(super) fn build(workspace: &Workspace) -> Result<Peers> {
    let none = |sockets: Option<PathBuf>, xdp: Option<PathBuf>, reason: &str| Peers {
        dpdk: Vec::new(),
        dpdk_af_packet: None,
        sockets,
        xdp,
        about: format!("SKIP {reason}"),
    };
    if !succeeds("cc", &["--version"]) {
        return Ok(none(None, None, "there is no C compiler (cc): apt-get install gcc"));
    }
    let folder = workspace.target.join("peer");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let (no_flags, at): ([String; 0], _) = ([], |path: &str| workspace.root.join(path));
    let plain = |source: &str, name: &str| -> Result<Option<PathBuf>> {
        let program = folder.join(name);
        must_build(source, compile(&at(source), &program, &no_flags, &no_flags)?)?;
        Ok(Some(program))
    };
    let (sockets, xdp) = (plain(PLAIN_SOCKETS, "sockets")?, plain(XDP_DROP, "xdp")?);
    if !succeeds("pkg-config", &["--version"]) {
        return Ok(none(sockets, xdp, "pkg-config is not installed: apt-get install pkg-config"));
    }
    if !succeeds("pkg-config", &["--exists", "libdpdk"]) {
        return Ok(none(sockets, xdp, "libdpdk-dev is not installed: apt-get install libdpdk-dev"));
    }
    let source = at(SOURCE);
    let version = pkg_config(&["--modversion"])?.join(" ");
    let flags = pkg_config(&["--cflags"])?;

    let shared = folder.join("dpdk-bars");
    let libraries = pkg_config(&["--libs"])?;
    must_build(SOURCE, compile(&source, &shared, &flags, &libraries)?)?;
    // What the kernel does is the same by any build.
    let af_packet = folder.join("dpdk-af-packet");
    must_build(AF_PACKET, compile(&at(AF_PACKET), &af_packet, &flags, &libraries)?)?;
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
    let about = format!("libdpdk {version}, {builds}, -O3 -march=native");
    Ok(Peers { dpdk: programs, dpdk_af_packet: Some(af_packet), sockets, xdp, about })
}

fn must_build(source: &str, failure: Option<String>) -> Result<()> {
    ensure!(failure.is_none(), "{source} does not build:\n{}", failure.unwrap_or_default());
    Ok(())
}

/// Whether libdpdk can be built against.
pub(super) fn is_here() -> bool {
    succeeds("pkg-config", &["--exists", "libdpdk"])
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
