//! Binding, against a kernel made of a folder: what is written to its files has the effect it should.

use std::os::unix::fs::symlink;

use super::*;

const ADDRESS: &str = "0000:01:00.0";

/// A kernel with one NIC, `eth0` on e1000e.
struct Kernel {
    root: tempfile::TempDir,
    /// What probing binds it to if nobody wishes otherwise.
    native: Option<&'static str>,
    /// A driver that takes no device.
    broken: &'static str,
    /// Whether modprobe finds vfio-pci.
    has_module: bool,
    addresses: Vec<String>,
    writes: Vec<String>,
}

impl Kernel {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let kernel = Self {
            root,
            native: Some("e1000e"),
            broken: "",
            has_module: true,
            addresses: Vec::new(),
            writes: Vec::new(),
        };
        let zeroes = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n".repeat(7);
        for (name, text) in [
            ("vendor", "0x8086\n"),
            ("device", "0x10d3\n"),
            ("class", "0x020000\n"),
            ("resource", &zeroes),
            ("driver_override", "(null)\n"),
            ("net/eth0/address", ""),
        ] {
            kernel.put(&format!("sys/bus/pci/devices/{ADDRESS}/{name}"), text);
        }
        kernel.put("sys/class/net/eth0/flags", "0x1003\n");
        kernel.driver("e1000e");
        kernel.driver("vfio-pci");
        kernel.bind_to("e1000e");
        kernel
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn driver(&self, name: &str) {
        let folder = self.root.path().join("sys/bus/pci/drivers").join(name);
        fs::create_dir_all(folder).expect("a driver");
    }

    fn link(&self) -> PathBuf {
        self.root.path().join(format!("sys/bus/pci/devices/{ADDRESS}/driver"))
    }

    fn bind_to(&self, driver: &str) {
        symlink(Path::new("../../drivers").join(driver), self.link()).expect("a link");
    }

    fn sysfs(&self) -> Sysfs {
        Sysfs::at(self.root.path())
    }

    fn bind(&mut self, force: bool) -> Result<Rebound> {
        let (sysfs, address) = (self.sysfs(), ADDRESS.parse().expect("an address"));
        Binder { sysfs: &sysfs, address, system: self }.bind("vfio-pci", force)
    }

    fn unbind(&mut self) -> Result<Rebound> {
        let (sysfs, address) = (self.sysfs(), ADDRESS.parse().expect("an address"));
        Binder { sysfs: &sysfs, address, system: self }.unbind()
    }

    fn now(&self) -> Option<String> {
        link(&self.link()).expect("a link")
    }

    fn wish(&self) -> String {
        let file = format!("sys/bus/pci/devices/{ADDRESS}/driver_override");
        fs::read_to_string(self.root.path().join(file)).expect("a wish").trim().to_owned()
    }
}

impl System for Kernel {
    fn write(&mut self, file: &Path, text: &str) -> io::Result<()> {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        self.writes.push(format!("{name}={}", text.trim()));
        match name.as_str() {
            "driver_override" => fs::write(file, text),
            "unbind" => fs::remove_file(self.link()),
            "drivers_probe" => {
                let wish = self.wish();
                let wish = match wish.as_str() {
                    "" | "(null)" => self.native,
                    wish => Some(wish).filter(|wish| *wish != self.broken),
                };
                if let Some(driver) = wish {
                    self.bind_to(driver);
                }
                Ok(())
            }
            other => panic!("an unexpected write to {other}"),
        }
    }

    fn load(&mut self, module: &str) -> io::Result<()> {
        self.writes.push(format!("modprobe={module}"));
        if !self.has_module {
            return Err(io::Error::other("modprobe: FATAL: Module vfio-pci not found."));
        }
        self.driver(module);
        Ok(())
    }

    fn addresses(&mut self, _interface: &str) -> Vec<String> {
        self.addresses.clone()
    }
}

fn driver(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn a_function_goes_to_vfio_and_back() {
    let mut kernel = Kernel::new();
    let bound = kernel.bind(false).expect("bound");
    assert_eq!(bound, Rebound { from: driver("e1000e"), to: driver("vfio-pci") });
    assert_eq!(kernel.now(), driver("vfio-pci"));
    assert_eq!(
        kernel.writes,
        ["driver_override=vfio-pci", "unbind=0000:01:00.0", "drivers_probe=0000:01:00.0"]
    );
    let back = kernel.unbind().expect("given back");
    assert_eq!(back, Rebound { from: driver("vfio-pci"), to: driver("e1000e") });
    assert_eq!((kernel.now(), kernel.wish()), (driver("e1000e"), String::new()));
}

#[test]
fn what_is_so_already_is_left_alone() {
    let mut kernel = Kernel::new();
    assert_eq!(kernel.unbind().expect("is so").to, driver("e1000e"));
    kernel.bind(false).expect("bound");
    kernel.writes.clear();
    assert_eq!(kernel.bind(false).expect("is so").to, driver("vfio-pci"));
    assert_eq!(kernel.writes, Vec::<String>::new());
}

#[test]
fn a_module_that_is_not_loaded_is() {
    let mut kernel = Kernel::new();
    fs::remove_dir(kernel.root.path().join("sys/bus/pci/drivers/vfio-pci")).expect("unloaded");
    kernel.bind(false).expect("bound");
    assert_eq!(kernel.writes[0], "modprobe=vfio-pci");
}

#[test]
fn a_module_that_is_nowhere_leaves_the_function_where_it_is() {
    let mut kernel = Kernel::new();
    fs::remove_dir(kernel.root.path().join("sys/bus/pci/drivers/vfio-pci")).expect("unloaded");
    kernel.has_module = false;
    assert_eq!(
        kernel.bind(false).expect_err("no driver").to_string(),
        "0000:01:00.0: no driver vfio-pci here: modprobe vfio-pci did not bring it (modprobe: FATAL: \
         Module vfio-pci not found.)"
    );
    assert_eq!(kernel.now(), driver("e1000e"));
}

#[test]
fn a_driver_that_does_not_take_it_is_undone() {
    let mut kernel = Kernel::new();
    kernel.broken = "vfio-pci";
    assert_eq!(
        kernel.bind(false).expect_err("broken").to_string(),
        "0000:01:00.0: vfio-pci did not take it, nobody has it: see dmesg; it is on e1000e"
    );
    assert_eq!((kernel.now(), kernel.wish()), (driver("e1000e"), String::new()));
}

#[test]
fn an_interface_in_use_is_not_taken_away() {
    let mut kernel = Kernel::new();
    kernel.addresses = vec!["192.0.2.1".to_owned()];
    let refusal = kernel.bind(false).expect_err("has an address");
    assert!(matches!(refusal, Error::Binding { is_refusal: true, .. }));
    assert!(refusal.to_string().starts_with("0000:01:00.0: eth0 has the address 192.0.2.1: "));
    assert_eq!(kernel.writes, Vec::<String>::new());
    kernel.put(
        "proc/net/route",
        "Iface\n\neth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
    );
    let refusal = kernel.bind(true).expect_err("has a default route").to_string();
    assert!(refusal.contains("not even --force"), "{refusal}");
    fs::remove_file(kernel.root.path().join("proc/net/route")).expect("the route");
    kernel.bind(true).expect("forced");
}

#[test]
fn a_bridge_and_a_driver_with_an_odd_name_are_refused() {
    let mut kernel = Kernel::new();
    let (sysfs, address) = (kernel.sysfs(), ADDRESS.parse().expect("an address"));
    let mut binder = Binder { sysfs: &sysfs, address, system: &mut kernel };
    let error = binder.bind("../x", false).expect_err("no name").to_string();
    assert_eq!(error, "0000:01:00.0: '../x' is no driver's name");
    kernel.put(&format!("sys/bus/pci/devices/{ADDRESS}/class"), "0x060400\n");
    assert!(kernel.bind(true).expect_err("a bridge").to_string().contains("a bridge"));
}

#[test]
fn a_function_that_a_process_has_is_not_taken_from_it() {
    let mut kernel = Kernel::new();
    kernel.bind(false).expect("bound");
    let folder = kernel.root.path().join("sys/bus/pci/devices").join(ADDRESS);
    symlink("../../../../kernel/iommu_groups/26", folder.join("iommu_group")).expect("a group");
    kernel.put("proc/1234/comm", "gpurx\n");
    let fds = kernel.root.path().join("proc/1234/fd");
    fs::create_dir_all(&fds).expect("a folder");
    symlink("/dev/null", fds.join("0")).expect("a file");
    symlink("/dev/vfio/26", fds.join("7")).expect("a file");
    assert_eq!(
        kernel.unbind().expect_err("in use").to_string(),
        "0000:01:00.0: in use by gpurx (pid 1234): stop that first"
    );
    assert_eq!(kernel.now(), driver("vfio-pci"));
    fs::remove_file(fds.join("7")).expect("closed");
    kernel.unbind().expect("given back");
}

#[test]
fn a_function_that_no_driver_of_the_kernels_takes_is_left_without() {
    let mut kernel = Kernel::new();
    kernel.bind(false).expect("bound");
    kernel.native = None;
    assert_eq!(kernel.unbind().expect("given back").to, None);
    assert_eq!(kernel.now(), None);
}

#[test]
fn a_function_that_comes_back_to_vfio_is_told_why() {
    let mut kernel = Kernel::new();
    kernel.bind(false).expect("bound");
    kernel.native = Some("vfio-pci");
    let error = kernel.unbind().expect_err("new_id").to_string();
    assert!(error.contains("/sys/bus/pci/drivers/vfio-pci/remove_id"), "{error}");
}

#[test]
fn the_real_system_writes_to_files_that_are_there_and_to_no_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("drivers_probe");
    assert!(Linux.write(&file, "x").is_err());
    fs::write(&file, "").expect("a file");
    Linux.write(&file, "x").expect("written");
    assert_eq!(fs::read_to_string(&file).expect("a file"), "x");
}
