//! Functions as trees of files show them: sound ones, broken ones, and ones that vanish.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use tempfile::TempDir;
use vfio::{
    Error,
    pci::{Class, Function, Sysfs},
};

const ADDRESS: &str = "0000:01:00.0";
const RESOURCE: &str = "\
0x00000000febc0000 0x00000000febdffff 0x0000000000040200
0x00000000feba0000 0x00000000febbffff 0x0000000000040200
0x000000000000c000 0x000000000000c01f 0x0000000000040101
0x00000000febe0000 0x00000000febe3fff 0x0000000000040200
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000000feb80000 0x00000000feb9ffff 0x0000000000046200
";

/// A machine with one 82574L on vfio-pci.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().expect("a folder"));
        for (name, text) in [
            ("vendor", "0x8086\n"),
            ("device", "0x10d3\n"),
            ("subsystem_vendor", "0x8086\n"),
            ("subsystem_device", "0xa01f\n"),
            ("class", "0x020000\n"),
            ("revision", "0x02\n"),
            ("numa_node", "-1\n"),
            ("resource", RESOURCE),
        ] {
            machine.put(name, text);
        }
        machine.link("driver", "../../../../bus/pci/drivers/vfio-pci");
        machine.link("iommu_group", "../../../kernel/iommu_groups/26");
        machine
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("sys/bus/pci/devices").join(ADDRESS)
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.folder().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn link(&self, name: &str, to: &str) {
        let path = self.folder().join(name);
        let _ = fs::remove_file(&path);
        symlink(to, path).expect("a link");
    }

    fn sysfs(&self) -> Sysfs {
        Sysfs::at(self.0.path())
    }

    fn read(&self) -> Result<Function, Error> {
        Function::read(&self.sysfs(), ADDRESS.parse().expect("an address"))
    }

    /// What is said of a file with this text.
    fn refusal(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let sound = fs::read(self.folder().join(name)).expect("there");
        self.put(name, text);
        let error = self.read().expect_err(name).to_string();
        self.put(name, sound);
        let folder = format!("{}/", self.folder().display());
        error.strip_prefix(&folder).unwrap_or_else(|| panic!("no path in {error}")).to_owned()
    }
}

#[test]
fn a_function_is_what_its_files_say() {
    let machine = Machine::new();
    machine.put("net/eth1/address", "");
    machine.put("virtio0/net/eth0/address", "");
    let function = machine.read().expect("sound");
    assert_eq!(function.address.to_string(), ADDRESS);
    assert_eq!(function.id(), "8086:10d3");
    assert_eq!(function.subsystem, (0x8086, 0xa01f));
    assert_eq!((function.class, function.revision), (Class(0x02_0000), 2));
    assert!(function.class.is_network() && function.is_on_vfio());
    assert_eq!((function.numa_node, function.iommu_group), (None, Some(26)));
    assert_eq!(function.driver.as_deref(), Some("vfio-pci"));
    assert_eq!(function.interfaces, ["eth0", "eth1"]);
    let sizes: Vec<u64> = function.resources.iter().map(|resource| resource.size()).collect();
    assert_eq!(sizes, [128 << 10, 128 << 10, 32, 16 << 10, 0, 0, 128 << 10]);
    assert!(function.resources[0].is_memory() && !function.resources[2].is_memory());
}

#[test]
fn what_old_kernels_do_not_say_is_unknown_and_no_error() {
    let machine = Machine::new();
    for name in ["numa_node", "iommu_group", "driver", "revision", "subsystem_vendor"] {
        fs::remove_file(machine.folder().join(name)).expect("there");
    }
    let function = machine.read().expect("sound");
    assert_eq!((function.numa_node, function.iommu_group, function.driver), (None, None, None));
    machine.put("numa_node", "3\n");
    assert_eq!(machine.read().expect("sound").numa_node, Some(3));
}

#[test]
fn files_that_say_something_else_are_named_with_the_place_and_what_was_expected() {
    let machine = Machine::new();
    let line = |at: usize, text: &str| {
        let mut lines: Vec<&str> = RESOURCE.lines().collect();
        lines[at - 1] = text;
        lines.join("\n")
    };
    for (name, text, said) in [
        ("resource", line(3, "zz 0x0 0x0"), "resource line 3: expected 3 hex fields, got 'zz'"),
        ("resource", line(1, "0x0 0x0"), "resource line 1: expected 3 hex fields, got '0x0 0x0'"),
        (
            "resource",
            line(2, "0x0 0x0 0x0 0x0"),
            "resource line 2: expected 3 hex fields, got '0x0 0x0 0x0 0x0'",
        ),
        (
            "resource",
            line(2, "0x9 0x8 0x200"),
            "resource line 2: ends before it starts: '0x9 0x8 0x200'",
        ),
        (
            "resource",
            line(7, "0x10000000000000000 0x0 0x0"),
            "resource line 7: expected 3 hex fields, got '0x10000000000000000'",
        ),
        (
            "resource",
            RESOURCE.lines().take(5).collect::<Vec<_>>().join("\n"),
            "resource: expected 6 to 32 lines, got 5",
        ),
        ("resource", RESOURCE.repeat(5), "resource: expected 6 to 32 lines, got 35"),
        ("vendor", "8086\n".to_owned(), "vendor: expected 0x and digits, got '8086'"),
        ("vendor", "0x18086\n".to_owned(), "vendor: '0x18086' has too many digits"),
        ("vendor", String::new(), "vendor: expected 0x and digits, got ''"),
        ("device", "0x+1\n".to_owned(), "device: expected 0x and digits, got '0x+1'"),
        ("numa_node", "many\n".to_owned(), "numa_node: expected a number, got 'many'"),
        ("class", "0x".to_owned() + &"0".repeat(5000), "class: longer than 4096 bytes"),
    ] {
        assert_eq!(machine.refusal(name, text), said);
    }
    assert_eq!(machine.refusal("vendor", b"0x80\xff6"), "vendor: not UTF-8");
    machine.link("iommu_group", "../nowhere");
    let error = machine.read().expect_err("no number").to_string();
    assert!(error.ends_with("iommu_group: expected a number, got 'nowhere'"), "{error}");
    assert_eq!(machine.sysfs().scan().expect("a bus").problems.len(), 1);
}

#[test]
fn twenty_lines_of_windows_are_fine() {
    let machine = Machine::new();
    machine.put("resource", RESOURCE.lines().cycle().take(20).collect::<Vec<_>>().join("\n"));
    assert_eq!(machine.read().expect("sound").resources.len(), 20);
}

#[test]
fn a_link_that_leads_to_itself_is_an_error_and_not_a_loop() {
    let machine = Machine::new();
    fs::remove_file(machine.folder().join("vendor")).expect("there");
    machine.link("vendor", "vendor");
    let error = machine.read().expect_err("a loop").to_string();
    assert!(error.contains("vendor: Too many levels of symbolic links"), "{error}");
}

#[test]
fn a_function_that_vanishes_while_it_is_read_is_left_out() {
    let machine = Machine::new();
    fs::remove_file(machine.folder().join("resource")).expect("there");
    assert!(matches!(machine.read(), Err(Error::NoFunction(_))));
    let scan = machine.sysfs().scan().expect("a bus");
    assert!(scan.functions.is_empty() && scan.problems.is_empty());
    // The folder is there, and leads nowhere any more.
    fs::remove_dir_all(machine.folder()).expect("there");
    symlink("../../../devices/gone", machine.folder()).expect("a link");
    let scan = machine.sysfs().scan().expect("a bus");
    assert!(scan.functions.is_empty() && scan.problems.is_empty());
}

#[test]
fn a_scan_lists_functions_by_address_and_a_machine_without_pci_has_none() {
    assert!(Sysfs::at("/nowhere").scan().expect("empty").functions.is_empty());
    let machine = Machine::new();
    let bus = machine.folder();
    let bus = bus.parent().expect("the bus");
    for other in ["10000:00:00.0", "0000:00:1f.3"] {
        copy(&machine.folder(), &bus.join(other));
    }
    let scan = machine.sysfs().scan().expect("a bus");
    let found: Vec<String> = scan.functions.iter().map(|f| f.address.to_string()).collect();
    assert_eq!(found, ["0000:00:1f.3", ADDRESS, "10000:00:00.0"]);
    fs::create_dir(bus.join("odd")).expect("a folder");
    let problems = machine.sysfs().scan().expect("a bus").problems;
    assert!(problems[0].to_string().starts_with("'odd' is no PCI address"), "{problems:?}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("there") {
        let entry = entry.expect("there");
        let to = to.join(entry.file_name());
        match fs::read_link(entry.path()) {
            Ok(link) => symlink(link, to).expect("a link"),
            Err(_) => drop(fs::copy(entry.path(), to).expect("a copy")),
        }
    }
}

/// The machine that this runs on, whatever it is.
#[test]
fn this_machines_bus_can_be_read() {
    let scan = Sysfs::system().scan().expect("a bus");
    assert!(scan.problems.is_empty(), "{:?}", scan.problems);
    for function in scan.functions {
        assert_eq!(Function::read(&Sysfs::system(), function.address).ok(), Some(function));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Sound lines come back as they are; whatever else is there is an error and no panic.
    #[test]
    fn any_text_is_read_or_refused(
        windows in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 6..20),
        noise in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let machine = Machine::new();
        let ordered = windows.iter().map(|&(a, b, flags)| (a.min(b), a.max(b), flags));
        let text: String =
            ordered.clone().map(|(a, b, flags)| format!("{a:#018x} {b:#018x} {flags:#018x}\n")).collect();
        machine.put("resource", &text);
        let read = machine.read().expect("sound").resources;
        let read: Vec<_> = read.iter().map(|r| (r.start, r.end, r.flags)).collect();
        prop_assert_eq!(read, ordered.collect::<Vec<_>>());
        let mut bytes = text.into_bytes();
        for (at, byte) in noise {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        machine.put("resource", bytes);
        let _ = machine.read();
    }
}
