//! A BAR by its file in sysfs, for functions that no driver has, and machines without an IOMMU. Opens no
//! device and asks VFIO nothing; whether the function decodes memory is for others to look at.

use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use crate::{
    Bar, Error, Result,
    abi::RegionInfo,
    iommu::page_size,
    pci::{Address, Sysfs},
};

impl Bar {
    /// Maps `resourceN_wc` (writes are combined) where the kernel has it, or `resourceN`. It reads as all ones
    /// once the function is gone.
    ///
    /// # Errors
    /// Not there, not permitted (root's alone), or the kernel keeps it for a driver.
    pub fn of_resource(sysfs: &Sysfs, address: Address, index: u8) -> Result<Self> {
        let folder = sysfs.function(address);
        let combining = folder.join(format!("resource{index}_wc"));
        let path = match combining.exists() {
            true => combining,
            false => folder.join(format!("resource{index}")),
        };
        let shown = path.display().to_string();
        let file = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let file = Arc::new(file.map_err(Error::system(&shown))?);
        let stat = rustix::fs::fstat(&*file).map_err(Error::system(&shown))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size == 0 {
            return Err(Error::Malformed { path: shown, problem: "0 bytes".to_owned() });
        }
        let info = RegionInfo { size, ..RegionInfo::default() };
        let all = 0..size.next_multiple_of(page_size());
        Self::map((address, index), &file, &info, &[all])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_mapped_whole_and_the_combining_one_is_preferred() {
        let root = tempfile::tempdir().expect("a folder");
        let (sysfs, address) = (Sysfs::at(root.path()), "0000:05:00.0".parse().expect("address"));
        let folder = sysfs.function(address);
        std::fs::create_dir_all(&folder).expect("a folder");
        let error = Bar::of_resource(&sysfs, address, 2).expect_err("not there").to_string();
        assert!(error.contains("resource2: No such file"), "{error}");
        std::fs::write(folder.join("resource2"), [1; 8192]).expect("a file");
        std::fs::write(folder.join("resource2_wc"), [2; 8192]).expect("a file");
        let bar = Bar::of_resource(&sysfs, address, 2).expect("mapped");
        assert_eq!((bar.size(), bar.read32(4096)), (8192, 0x0202_0202));
        bar.write32(0, 7);
        assert_eq!(std::fs::read(folder.join("resource2_wc")).expect("read")[..4], [7, 0, 0, 0]);
        assert!(bar.window(0, 8192).is_some() && bar.window(4096, 8192).is_none());
        std::fs::write(folder.join("resource1"), []).expect("a file");
        assert!(Bar::of_resource(&sysfs, address, 1).is_err());
    }
}
