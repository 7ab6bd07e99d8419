//! Machines made of text: a line a function, written as files where sysfs has them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use vfio::pci::{Address, Sysfs};

/// A tree of sysfs.
pub(crate) struct Tree(TempDir);

impl Tree {
    /// One line a function: its path from the host bridge down (`pci0000:00/00:01.0/01:00.0`), what it is, and
    /// what else is known of it:
    ///
    /// `host`, `port` (root port), `up` and `down` (of a switch), `dev`; `id=8086:29c0`, `acs=1d` (the control
    /// register; none without), `config=64` (bytes that can be read), `group=1`, `node=0`, `link=8.0x4`,
    /// `class=020000`, `driver=vfio-pci`, `bar2=64M` (MiB of prefetchable memory).
    pub(crate) fn of(lines: &str) -> Self {
        let tree = Self(tempfile::tempdir().expect("a folder"));
        fs::create_dir_all(tree.bus()).expect("a folder");
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            tree.function(line);
        }
        tree
    }

    pub(crate) fn sysfs(&self) -> Sysfs {
        Sysfs::at(self.0.path())
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    /// Where the links to all functions are.
    pub(crate) fn bus(&self) -> PathBuf {
        self.root().join("sys/bus/pci/devices")
    }

    /// Writes a file.
    pub(crate) fn put(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn function(&self, line: &str) {
        let mut words = line.split_whitespace();
        let path = words.next().expect("a path");
        let kind = words.next().expect("what it is");
        let option = |name: &str| {
            line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let (mut names, mut domain) = (Vec::new(), String::new());
        for part in path.split('/') {
            // A host bridge, which may stand below a function.
            if let Some(rest) = part.strip_prefix("pci") {
                rest.split(':').next().expect("a domain").clone_into(&mut domain);
                names.push(part.to_owned());
            } else {
                names.push(format!("{domain}:{part}"));
            }
        }
        let name = names.last().expect("a function");
        let folder = format!("sys/devices/{}", names.join("/"));
        let put =
            |file: &str, text: &str| self.put(&format!("{folder}/{file}"), format!("{text}\n"));

        let (vendor, device) = option("id").unwrap_or("8086:10d3").split_once(':').expect("an id");
        put("vendor", &format!("0x{vendor}"));
        put("device", &format!("0x{device}"));
        let class = option("class").unwrap_or(match kind {
            "host" => "060000",
            "port" | "up" | "down" => "060400",
            _ => "020000",
        });
        put("class", &format!("0x{class}"));
        let bar = |index: usize| match option(&format!("bar{index}")) {
            Some(size) => memory(size),
            None => "0x0 0x0 0x0".to_owned(),
        };
        put("resource", &(0..7).map(bar).collect::<Vec<_>>().join("\n"));
        put("numa_node", option("node").unwrap_or("-1"));
        if let Some((speed, width)) = option("link").and_then(|link| link.split_once('x')) {
            put("current_link_speed", &format!("{speed} GT/s PCIe"));
            put("current_link_width", width);
        }
        let mut config = config(kind, option("acs"));
        config.truncate(option("config").map_or(4096, |len| len.parse().expect("a number")));
        self.put(&format!("{folder}/config"), config);
        let link = |name: &str, to: String| {
            fs::create_dir_all(self.root().join(&to)).expect("a folder");
            symlink(self.root().join(to), self.root().join(&folder).join(name)).expect("a link");
        };
        if let Some(group) = option("group") {
            link("iommu_group", format!("sys/kernel/iommu_groups/{group}"));
        }
        if let Some(driver) = option("driver") {
            link("driver", format!("sys/bus/pci/drivers/{driver}"));
        }
        let to = format!("../../../devices/{}", names.join("/"));
        symlink(to, self.bus().join(name)).expect("a link");
    }
}

/// A BAR's line: MiB of memory, prefetchable.
fn memory(size: &str) -> String {
    let mib = size.strip_suffix('M').and_then(|mib| mib.parse::<u64>().ok()).expect("MiB");
    format!("0x{:x} 0x{:x} 0x{:x}", 1u64 << 36, (1u64 << 36) + (mib << 20) - 1, 0x2200)
}

/// A configuration space: the PCI Express capability with the port's type, and ACS behind error reporting.
fn config(kind: &str, acs: Option<&str>) -> Vec<u8> {
    let mut config = vec![0; 4096];
    config[..4].copy_from_slice(&[0x86, 0x80, 0xd3, 0x10]);
    config[0x06] = 0x10;
    config[0x34] = 0x40;
    let kind = match kind {
        "port" => 4,
        "up" => 5,
        "down" => 6,
        _ => 0,
    };
    config[0x40..0x44].copy_from_slice(&[0x10, 0, kind << 4 | 2, 0]);
    let next: u32 = if acs.is_some() { 0x148 } else { 0 };
    config[0x100..0x104].copy_from_slice(&(next << 20 | 2 << 16 | 1).to_le_bytes());
    if let Some(acs) = acs {
        let control = u16::from_str_radix(acs, 16).expect("hexadecimal");
        config[0x148..0x14c].copy_from_slice(&(1 << 16 | 0x0du32).to_le_bytes());
        config[0x14e..0x150].copy_from_slice(&control.to_le_bytes());
    }
    config
}

pub(crate) fn address(text: &str) -> Address {
    text.parse().expect("an address")
}
