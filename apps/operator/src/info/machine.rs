//! Kernel, cores and NUMA nodes, from the kernel's files.

use std::{fs, path::Path};

use memwire_apps::lcore;
use providers::Sysfs;
use serde::Serialize;

/// What apps run on.
#[derive(Serialize)]
pub(crate) struct Machine {
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The processor's name, or empty.
    pub(crate) processor: String,
    /// Cores that are online, as a list.
    pub(crate) online: String,
    /// Cores that this process may use, as a list.
    pub(crate) allowed: String,
    /// Memory that can be had, in bytes.
    pub(crate) available: Option<u64>,
    pub(crate) nodes: Vec<Node>,
}

/// A NUMA node.
#[derive(Serialize)]
pub(crate) struct Node {
    pub(crate) node: u32,
    /// Its cores, as a list; empty where the kernel does not say.
    pub(crate) cores: String,
    /// Its memory in bytes.
    pub(crate) memory: Option<u64>,
    pub(crate) free: Option<u64>,
}

pub(super) fn read(root: &Path, sysfs: &Sysfs) -> Machine {
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let line = |path: &str| text(path).trim().to_owned();
    let processor = text("proc/cpuinfo");
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name"));
    let node = |node: u32| {
        let folder = format!("sys/devices/system/node/node{node}");
        let memory = text(&format!("{folder}/meminfo"));
        let cores = line(&format!("{folder}/cpulist"));
        Node { node, cores, memory: kib(&memory, "MemTotal:"), free: kib(&memory, "MemFree:") }
    };
    Machine {
        kernel: line("proc/sys/kernel/osrelease"),
        processor: processor
            .map(|rest| rest.trim_matches([':', ' ', '\t']).to_owned())
            .unwrap_or_default(),
        online: line("sys/devices/system/cpu/online"),
        // This process's, whatever tree is read.
        allowed: lcore::allowed().map(|cores| cores.to_string()).unwrap_or_default(),
        available: sysfs.available_memory(),
        nodes: sysfs.nodes().into_iter().map(node).collect(),
    }
}

/// Bytes of a line such as `Node 0 MemTotal:  1024 kB`.
fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.split_once(key))?.1;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_of_two_nodes_is_read() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("proc/sys/kernel/osrelease", "6.18.0\n");
        put("proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU\n");
        put("sys/devices/system/cpu/online", "0-3\n");
        put("sys/devices/system/node/has_memory", "0-1\n");
        put("sys/devices/system/node/node1/cpulist", "2-3\n");
        put(
            "sys/devices/system/node/node1/meminfo",
            "Node 1 MemTotal:  1024 kB\nNode 1 MemFree: 8 kB\n",
        );
        let machine = read(root.path(), &Sysfs::at(root.path()));
        assert_eq!((machine.kernel.as_str(), machine.processor.as_str()), ("6.18.0", "Some CPU"));
        assert_eq!(machine.online, "0-3");
        let node = &machine.nodes[1];
        assert_eq!(
            (node.cores.as_str(), node.memory, node.free),
            ("2-3", Some(1 << 20), Some(8192))
        );
        assert_eq!(machine.nodes[0].memory, None);
    }
}
