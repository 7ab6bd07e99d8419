//! The machine that is looked at: a root with the kernel's files, and what this process may do there. All that
//! the doctor says follows from these files.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use memwire_apps::AppError;
use vfio::pci::{Function, Sysfs};

/// Capabilities by their numbers in `<linux/capability.h>`.
pub(super) const DAC_OVERRIDE: u32 = 1;
pub(super) const NET_ADMIN: u32 = 12;
pub(super) const NET_RAW: u32 = 13;
pub(super) const IPC_LOCK: u32 = 14;
pub(super) const SYS_ADMIN: u32 = 21;
pub(super) const BPF: u32 = 39;

/// Those that anything here asks for, by name.
pub(super) const CAPABILITIES: [(u32, &str); 5] = [
    (NET_ADMIN, "CAP_NET_ADMIN"),
    (NET_RAW, "CAP_NET_RAW"),
    (IPC_LOCK, "CAP_IPC_LOCK"),
    (SYS_ADMIN, "CAP_SYS_ADMIN"),
    (BPF, "CAP_BPF"),
];

/// What is looked at.
pub(super) struct Machine {
    pub(super) root: PathBuf,
    pub(super) pci: Sysfs,
    /// Every function on the bus, by address.
    pub(super) functions: Vec<Function>,
    /// What could not be read of the bus.
    pub(super) problems: Vec<String>,
    /// None where the tree has no process.
    pub(super) process: Option<Process>,
}

/// What `/proc/self` says of this process.
pub(super) struct Process {
    uid: u32,
    groups: Vec<u32>,
    capabilities: u64,
    /// Bytes that may be locked; none without a limit.
    memlock: Option<u64>,
}

impl Machine {
    pub(super) fn read(root: &Path) -> Result<Self, AppError> {
        if !root.is_dir() {
            return Err(AppError::usage(format!("--root {}: not a folder", root.display())));
        }
        let pci = Sysfs::at(root);
        let scan = pci.scan().map_err(|error| AppError::missing(error.to_string()))?;
        let problems = scan.problems.iter().map(ToString::to_string).collect();
        let process = Process::read(root);
        Ok(Self { root: root.to_owned(), pci, functions: scan.functions, problems, process })
    }

    /// The text of a file below the root, without spaces around; none where it cannot be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        Some(fs::read_to_string(self.root.join(path)).ok()?.trim().to_owned())
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Names in a folder, sorted; none if it cannot be read.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path)).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// As it is called on the machine itself.
    pub(super) fn shown(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        format!("/{}", below.display())
    }

    /// Whether this process may read and write a node: by its owner and mode.
    pub(super) fn may_open(&self, path: &Path) -> bool {
        let Ok(node) = fs::metadata(path) else { return false };
        let Some(process) = &self.process else { return false };
        let mode = node.mode();
        let both = |shift: u32| mode >> shift & 6 == 6;
        if process.can(DAC_OVERRIDE) {
            true
        } else if node.uid() == process.uid {
            both(6)
        } else if process.groups.contains(&node.gid()) {
            both(3)
        } else {
            both(0)
        }
    }

    pub(super) fn can(&self, capability: u32) -> bool {
        self.process.as_ref().is_some_and(|process| process.can(capability))
    }

    /// What to do about a node that may not be opened.
    pub(super) fn give(&self, path: &Path) -> String {
        let uid = self.process.as_ref().map_or(0, |process| process.uid);
        format!("as root: chown {uid} {}", self.shown(path))
    }

    /// The function at an address, if it is there.
    pub(super) fn function(&self, address: vfio::pci::Address) -> Option<&Function> {
        self.functions.iter().find(|function| function.address == address)
    }

    /// Functions by IOMMU group, but for bridges.
    pub(super) fn groups(&self) -> BTreeMap<u32, Vec<&Function>> {
        let mut groups: BTreeMap<u32, Vec<&Function>> = BTreeMap::new();
        for function in self.functions.iter().filter(|function| !function.class.is_bridge()) {
            if let Some(group) = function.iommu_group {
                groups.entry(group).or_default().push(function);
            }
        }
        groups
    }
}

impl Process {
    fn read(root: &Path) -> Option<Self> {
        let status = fs::read_to_string(root.join("proc/self/status")).ok()?;
        let limits = fs::read_to_string(root.join("proc/self/limits")).unwrap_or_default();
        Self::of(&status, &limits)
    }

    fn of(status: &str, limits: &str) -> Option<Self> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let numbers = |name: &str| -> Vec<u32> {
            let words = field(name).unwrap_or_default().split_whitespace();
            words.filter_map(|word| word.parse().ok()).collect()
        };
        let memlock = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
        let memlock = memlock.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        let mut groups = numbers("Groups:");
        // Real, effective, saved and for files: the second counts here.
        groups.extend(numbers("Gid:").get(1));
        Some(Self {
            uid: *numbers("Uid:").get(1)?,
            groups,
            capabilities: u64::from_str_radix(field("CapEff:")?.trim(), 16).ok()?,
            memlock,
        })
    }

    pub(super) fn can(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// Bytes that this process may pin; none without a limit for it.
    pub(super) fn pinnable(&self) -> Option<u64> {
        self.memlock.filter(|_| !self.can(IPC_LOCK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nUid:\t1000\t1001\t1000\t1000\nGid:\t5\t6\t5\t5\nGroups:\t27 44 \n\
                          CapEff:\t0000000000003000\n";
    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units\n\
        Max locked memory         8388608              unlimited            bytes\n";

    #[test]
    fn a_process_is_read_by_its_effective_ids_and_its_soft_limit() {
        let process = Process::of(STATUS, LIMITS).unwrap();
        assert_eq!((process.uid, process.groups.as_slice()), (1001, [27, 44, 6].as_slice()));
        assert!(process.can(NET_RAW) && process.can(NET_ADMIN) && !process.can(IPC_LOCK));
        assert_eq!(process.pinnable(), Some(8 << 20));
        let free = Process::of(&STATUS.replace("3000", "4000"), LIMITS).unwrap();
        assert_eq!(free.pinnable(), None, "CAP_IPC_LOCK knows no limit");
        let unlimited = LIMITS.replace("8388608  ", "unlimited");
        assert_eq!(Process::of(STATUS, &unlimited).unwrap().pinnable(), None);
        assert!(Process::of("", "").is_none());
    }
}
