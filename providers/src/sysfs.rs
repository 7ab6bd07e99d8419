//! What the kernel says of memory, read from its files below a root that tests replace.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{PageSize, cgroup};

/// The kernel's files about memory: `/sys`, `/proc/meminfo` and the control groups.
#[derive(Clone, Debug)]
pub struct Sysfs {
    root: PathBuf,
}

/// Hugepages of one size, as the kernel counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HugepageCounts {
    /// Pages there are.
    pub total: u64,
    /// Of which in nobody's use.
    pub free: u64,
    /// Of the free ones, those that are promised to a mapping.
    pub reserved: u64,
    /// Pages that may be made on demand beyond the pool.
    pub overcommit: u64,
    /// Of which exist now.
    pub surplus: u64,
}

impl HugepageCounts {
    /// Pages a newcomer can have: free and not promised, and those that may be made on demand.
    #[must_use]
    pub const fn available(&self) -> u64 {
        self.free.saturating_sub(self.reserved) + self.overcommit.saturating_sub(self.surplus)
    }
}

impl Sysfs {
    /// This machine's.
    #[must_use]
    pub fn system() -> Self {
        Self::at("/")
    }

    /// A copy below `root`, for tests.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Hugepages of `size`, of the whole machine or of one node. `None` where the kernel has none of
    /// that size, or no such node.
    #[must_use]
    pub fn hugepages(&self, size: PageSize, node: Option<u32>) -> Option<HugepageCounts> {
        let folder = self.hugepage_folder(size, node);
        let count = |name| number(&folder.join(name));
        Some(HugepageCounts {
            total: count("nr_hugepages")?,
            free: count("free_hugepages")?,
            // The kernel counts promises and overcommit for the machine, not per node.
            reserved: count("resv_hugepages").unwrap_or(0),
            overcommit: count("nr_overcommit_hugepages").unwrap_or(0),
            surplus: count("surplus_hugepages").unwrap_or(0),
        })
    }

    /// Bytes of hugepages that this process's control groups still allow, and the file that sets the limit;
    /// `None` without one.
    #[must_use]
    pub fn hugepage_limit(&self, size: PageSize) -> Option<(u64, PathBuf)> {
        cgroup::hugepages(&self.root, size).map(|limit| (limit.left, limit.file))
    }

    /// The file that says, and sets, how many hugepages of `size` there are.
    #[must_use]
    pub fn hugepage_file(&self, size: PageSize, node: Option<u32>) -> PathBuf {
        self.hugepage_folder(size, node).join("nr_hugepages")
    }

    fn hugepage_folder(&self, size: PageSize, node: Option<u32>) -> PathBuf {
        self.root.join(match node {
            None => format!("sys/kernel/mm/hugepages/{}", size.sysfs_name()),
            Some(node) => {
                format!("sys/devices/system/node/node{node}/hugepages/{}", size.sysfs_name())
            }
        })
    }

    /// Hugepages of `size` that an allocation on `node` (or anywhere) can have.
    #[must_use]
    pub fn available_hugepages(&self, size: PageSize, node: Option<u32>) -> Option<u64> {
        let machine = self.hugepages(size, None)?;
        let Some(node) = node else {
            return Some(machine.available());
        };
        let here = self.hugepages(size, Some(node))?;
        let on_demand = machine.overcommit.saturating_sub(machine.surplus);
        Some(machine.available().min(here.free + on_demand))
    }

    /// Bytes of the hugepages that a mapping gets when it names no size.
    #[must_use]
    pub fn default_hugepage(&self) -> Option<u64> {
        self.meminfo("Hugepagesize:")
    }

    /// Bytes of ordinary memory that can be had without pushing something out: the kernel's own
    /// estimate, or less where a control group allows less.
    #[must_use]
    pub fn available_memory(&self) -> Option<u64> {
        let machine = self.meminfo("MemAvailable:")?;
        let group = cgroup::memory(&self.root).map_or(u64::MAX, |limit| limit.left);
        Some(machine.min(group))
    }

    /// NUMA nodes that have memory. A kernel without NUMA has node 0.
    #[must_use]
    pub fn nodes(&self) -> Vec<u32> {
        let folder = self.root.join("sys/devices/system/node");
        let list = |name| fs::read_to_string(folder.join(name)).ok();
        let text = list("has_memory").or_else(|| list("online")).unwrap_or_else(|| "0".into());
        parse_list(&text)
    }

    fn meminfo(&self, key: &str) -> Option<u64> {
        let text = fs::read_to_string(self.root.join("proc/meminfo")).ok()?;
        let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    }
}

/// The number in a file of one number.
pub(crate) fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The kernel's list format: `0,2-3`.
fn parse_list(text: &str) -> Vec<u32> {
    let mut list = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            list.extend((first..=last).take(1024));
        }
    }
    list
}

#[cfg(test)]
pub(crate) mod fixture {
    use std::{fs, path::Path};

    use super::Sysfs;

    /// A fake tree: paths below the root, and what they hold.
    pub(crate) fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Sysfs) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
            fs::write(path, text).unwrap();
        }
        let sysfs = Sysfs::at(root.path());
        (root, sysfs)
    }
}

#[cfg(test)]
mod tests {
    use super::{fixture::tree, *};

    const MACHINE: &str = "sys/kernel/mm/hugepages/hugepages-2048kB";
    const NODE: &str = "sys/devices/system/node/node1/hugepages/hugepages-2048kB";

    #[test]
    fn promised_pages_are_not_available() {
        let (_root, sysfs) = tree(&[
            (&format!("{MACHINE}/nr_hugepages"), "512\n"),
            (&format!("{MACHINE}/free_hugepages"), "100\n"),
            (&format!("{MACHINE}/resv_hugepages"), "97\n"),
            (&format!("{NODE}/nr_hugepages"), "8\n"),
            (&format!("{NODE}/free_hugepages"), "2\n"),
        ]);
        assert_eq!(sysfs.available_hugepages(PageSize::TwoMiB, None), Some(3));
        assert_eq!(sysfs.available_hugepages(PageSize::TwoMiB, Some(1)), Some(2));
        assert_eq!(sysfs.available_hugepages(PageSize::TwoMiB, Some(0)), None);
        assert_eq!(sysfs.available_hugepages(PageSize::OneGiB, None), None);
    }

    #[test]
    fn pages_made_on_demand_count_until_they_exist() {
        let counts = HugepageCounts { overcommit: 10, surplus: 4, free: 1, ..Default::default() };
        assert_eq!(counts.available(), 7);
    }

    #[test]
    fn lists_of_nodes_are_read() {
        assert_eq!(parse_list("0,2-4\n"), [0, 2, 3, 4]);
        assert_eq!(parse_list("\n"), [0u32; 0]);
        let (_root, sysfs) = tree(&[("sys/devices/system/node/has_memory", "0-1\n")]);
        assert_eq!(sysfs.nodes(), [0, 1]);
        let (_root, bare) = tree(&[]);
        assert_eq!(bare.nodes(), [0]);
    }

    #[test]
    fn available_memory_is_the_smaller_of_machine_and_group() {
        let meminfo = ("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    4096 kB\n");
        let (_root, sysfs) = tree(&[meminfo]);
        assert_eq!(sysfs.available_memory(), Some(4 << 20));
        let (_root, sysfs) = tree(&[
            meminfo,
            ("proc/self/cgroup", "0::/app\n"),
            ("sys/fs/cgroup/app/memory.max", "3145728\n"),
            ("sys/fs/cgroup/app/memory.current", "2097152\n"),
            ("sys/fs/cgroup/app/memory.stat", "anon 1\ninactive_file 1048576\n"),
        ]);
        assert_eq!(sysfs.available_memory(), Some(2 << 20));
    }
}
