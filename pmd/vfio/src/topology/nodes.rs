//! The device nodes by which a process gets a function: which there are, not whether they open.

use std::path::PathBuf;

use crate::{
    iommu::{iommufd::character_device, is_noiommu},
    pci::{Function, Sysfs},
};

/// A function's nodes below `/dev`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// Its group's, for type1: `/dev/vfio/26`, or `/dev/vfio/noiommu-0`.
    pub group: Option<PathBuf>,
    /// Its own, for iommufd: `/dev/vfio/devices/vfio0`.
    pub character: Option<PathBuf>,
    /// Whether an IOMMU stands before it.
    pub is_protected: bool,
}

impl Nodes {
    /// Those of a function that is bound to vfio-pci; none of one that is not.
    #[must_use]
    pub fn of(sysfs: &Sysfs, function: &Function) -> Self {
        let is_protected = function.iommu_group.is_some() && !is_noiommu(sysfs, function);
        let prefix = if is_protected { "" } else { "noiommu-" };
        let group =
            function.iommu_group.map(|group| sysfs.path(format!("dev/vfio/{prefix}{group}")));
        Self {
            group: group.filter(|path| path.exists()),
            character: character_device(sysfs, function.address),
            is_protected,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::pci::tests::function;

    #[test]
    fn a_function_has_the_nodes_that_are_there() {
        let root = tempfile::tempdir().expect("a folder");
        let sysfs = Sysfs::at(root.path());
        let mut nic = function("0000:01:00.0");
        assert_eq!(Nodes::of(&sysfs, &nic), Nodes::default());
        nic.iommu_group = Some(26);
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        put("dev/vfio/26", "");
        put("sys/bus/pci/devices/0000:01:00.0/vfio-dev/vfio3/dev", "");
        let nodes = Nodes::of(&sysfs, &nic);
        assert_eq!((nodes.group, nodes.character), (Some(sysfs.path("dev/vfio/26")), None));
        assert!(nodes.is_protected);
        put("dev/vfio/devices/vfio3", "");
        let character = Nodes::of(&sysfs, &nic).character;
        assert_eq!(character, Some(sysfs.path("dev/vfio/devices/vfio3")));
        put("sys/kernel/iommu_groups/26/name", "vfio-noiommu\n");
        put("dev/vfio/noiommu-26", "");
        let nodes = Nodes::of(&sysfs, &nic);
        assert_eq!(nodes.group, Some(sysfs.path("dev/vfio/noiommu-26")));
        assert!(!nodes.is_protected);
    }
}
