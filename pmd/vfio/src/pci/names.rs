//! What devices are called: the system's `pci.ids`, if it is there.

use std::fs;

use super::Sysfs;

/// Where distributions keep it.
const FILES: [&str; 3] =
    ["usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "var/lib/pciutils/pci.ids"];

/// The text of `pci.ids`; empty where there is none.
#[derive(Clone, Debug, Default)]
pub struct Names(String);

impl Names {
    /// The names that this machine knows.
    #[must_use]
    pub fn load(sysfs: &Sysfs) -> Self {
        let bytes = FILES.iter().find_map(|file| fs::read(sysfs.path(file)).ok());
        // Some releases hold a name that is not UTF-8.
        Self(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    }

    /// The device's name: below its vendor's line, by one tab.
    #[must_use]
    pub fn device(&self, vendor: u16, device: u16) -> Option<&str> {
        let (vendor, device) = (format!("{vendor:04x}  "), format!("\t{device:04x}  "));
        let mut lines = self.0.lines().skip_while(|line| !line.starts_with(&vendor)).skip(1);
        let mut below = lines.by_ref().take_while(|line| line.starts_with(['\t', '#']));
        below.find_map(|line| line.strip_prefix(&device)).map(str::trim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: &str = "# names\n1af3  Other\n\t1041  Not this\n1af4  Red Hat, Inc.\n\t1000  Old\n\
                       \t1041  Virtio 1.0 network device\n\t\t1af4 1041  A subsystem\n1af5  Next\n\
                       \t10d3  Beyond\n";

    #[test]
    fn names_are_those_of_the_right_vendor() {
        let names = Names(IDS.to_owned());
        assert_eq!(names.device(0x1af4, 0x1041), Some("Virtio 1.0 network device"));
        assert_eq!(names.device(0x1af4, 0x10d3), None);
        assert_eq!(names.device(0x8086, 0x10d3), None);
        assert_eq!(Names::default().device(0, 0), None);
    }

    #[test]
    fn names_are_found_where_a_distribution_keeps_them() {
        let root = tempfile::tempdir().expect("a folder");
        let sysfs = Sysfs::at(root.path());
        assert_eq!(Names::load(&sysfs).device(0x1af4, 0x1000), None);
        let file = root.path().join(FILES[1]);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(file, [IDS.as_bytes(), b"ffff  \xff\n"].concat()).expect("a file");
        assert_eq!(Names::load(&sysfs).device(0x1af4, 0x1000), Some("Old"));
    }
}
