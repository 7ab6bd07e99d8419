//! `memwire doctor` on machines made of text: what it prints, word for word, its JSON and its exit codes.
//! `MEMWIRE_BLESS=1` writes the texts anew.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use serde_json::Value;
use tree::Tree;

#[path = "../../../../pmd/vfio/tests/topology/tree.rs"]
#[expect(dead_code, reason = "shared with the tests of vfio::topology, which use all of it")]
mod tree;

/// A NIC and a device with memory on VFIO, a GPU, and a NIC of the kernel's, behind an Intel IOMMU; seen by a
/// user who owns one of two nodes.
fn workstation() -> Tree {
    let tree = Tree::of(
        "pci0000:00/00:00.0 host id=8086:2020
         pci0000:00/00:01.0 port acs=1d link=8.0x8
         pci0000:00/00:01.0/01:00.0 up link=8.0x8
         pci0000:00/00:01.0/01:00.0/02:00.0 down acs=1d
         pci0000:00/00:01.0/01:00.0/02:01.0 down acs=1d
         pci0000:00/00:01.0/01:00.0/02:00.0/03:00.0 dev id=8086:10c9 driver=vfio-pci group=5 node=0 link=2.5x4
         pci0000:00/00:01.0/01:00.0/02:01.0/04:00.0 dev id=1af4:1110 class=050000 driver=vfio-pci bar2=64M group=6 node=0
         pci0000:00/00:02.0 port acs=1d
         pci0000:00/00:02.0/05:00.0 dev id=10de:2230 class=030200 driver=nvidia bar1=256M group=7 node=0 link=16.0x16
         pci0000:00/00:02.0/05:00.1 dev id=10de:1aef class=040300 driver=snd_hda_intel group=7 node=0
         pci0000:80/80:00.0 host id=8086:2021
         pci0000:80/80:01.0 port
         pci0000:80/80:01.0/81:00.0 dev id=1af4:1041 driver=virtio-pci group=9 node=1",
    );
    for (path, text) in [
        ("proc/cpuinfo", "vendor_id\t: GenuineIntel\ncpu family\t: 6\n"),
        (
            "proc/self/status",
            "Uid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000002000\n",
        ),
        (
            "proc/self/limits",
            "Max locked memory         8388608              8388608              bytes\n",
        ),
        ("proc/self/cgroup", "0::/app\n"),
        (
            "proc/net/protocols",
            "protocol  size sockets\nXDP       1024      0\nUDP       1024      0\n",
        ),
        ("sys/devices/system/node/online", "0-1\n"),
        ("sys/devices/system/node/has_memory", "0-1\n"),
        ("sys/fs/cgroup/app/hugetlb.1GB.max", "1073741824\n"),
        ("sys/fs/cgroup/app/hugetlb.1GB.current", "0\n"),
        ("sys/class/iommu/dmar0/name", ""),
        ("sys/class/iommu/dmar1/name", ""),
        ("sys/class/net/lo/flags", "0x9\n"),
        ("sys/class/net/eth0/queues/rx-0/x", ""),
        ("sys/class/net/eth0/queues/rx-1/x", ""),
        ("sys/class/net/eth0/queues/tx-0/x", ""),
        ("sys/class/net/eth1/queues/rx-0/x", ""),
        ("dev/iommu", ""),
        ("dev/vfio/vfio", ""),
        ("dev/vfio/5", ""),
        ("dev/vfio/6", ""),
    ] {
        tree.put(path, text);
    }
    for (folder, pages) in [
        ("sys/kernel/mm/hugepages/hugepages-2048kB", (512, 500)),
        ("sys/devices/system/node/node0/hugepages/hugepages-2048kB", (256, 250)),
        ("sys/devices/system/node/node1/hugepages/hugepages-2048kB", (256, 250)),
        ("sys/kernel/mm/hugepages/hugepages-1048576kB", (2, 2)),
        ("sys/devices/system/node/node0/hugepages/hugepages-1048576kB", (2, 2)),
    ] {
        tree.put(&format!("{folder}/nr_hugepages"), format!("{}\n", pages.0));
        tree.put(&format!("{folder}/free_hugepages"), format!("{}\n", pages.1));
    }
    for (name, driver) in [("eth0", "virtio_net"), ("eth1", "e1000e")] {
        let device = tree.root().join("sys/class/net").join(name).join("device");
        fs::create_dir_all(&device).unwrap();
        symlink(format!("../../../../bus/drivers/{driver}"), device.join("driver")).unwrap();
    }
    // Whoever runs the tests owns them all: others have the same rights but for one.
    for (node, mode) in
        [("iommu", 0o666), ("vfio/vfio", 0o666), ("vfio/5", 0o666), ("vfio/6", 0o000)]
    {
        let path = tree.root().join("dev").join(node);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    tree
}

/// A machine without anything, and a NIC beside a disk with memory.
fn bare() -> Tree {
    let tree = Tree::of(
        "pci0000:00/00:00.0 host id=8086:29c0
         pci0000:00/00:01.0 port config=64
         pci0000:00/00:02.0 port config=64
         pci0000:00/00:01.0/01:00.0 dev id=8086:10d3 driver=e1000e config=64
         pci0000:00/00:02.0/02:00.0 dev id=1b36:0010 class=010802 driver=nvme config=64",
    );
    tree.put("sys/devices/pci0000:00/0000:00:02.0/0000:02:00.0/p2pmem/size", "67108864\n");
    tree
}

/// What it printed on stdout and stderr, and its exit code.
fn doctor(tree: &Tree, line: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memwire"));
    command.arg("doctor").args(line.split_whitespace()).arg("--sysfs").arg(tree.root());
    let output = command.output().unwrap();
    let root = tree.root().display().to_string();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&root, "");
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Holds what was printed against the file of that name.
fn golden(name: &str, printed: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/doctor").join(name);
    if std::env::var_os("MEMWIRE_BLESS").is_some() {
        fs::write(&path, printed).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(printed, known, "{name}: MEMWIRE_BLESS=1 takes what is printed now");
}

fn fits(json: &str) -> Value {
    let schema = include_str!("../../../../docs/schema/memwire-doctor.json");
    let value: Value = serde_json::from_str(json).unwrap();
    memwire_apps::schema::check(&serde_json::from_str(schema).unwrap(), &value).unwrap();
    value
}

#[test]
fn a_workstation_is_told_what_it_has_and_lacks() {
    let (code, text, _) = doctor(&workstation(), "");
    golden("workstation.txt", &text);
    assert_eq!(code, 0, "nothing was asked for");
}

#[test]
fn paths_between_devices_are_told_in_detail() {
    let (code, text, _) = doctor(&workstation(), "topo");
    golden("workstation-topo.txt", &text);
    assert_eq!(code, 0);
    let (_, text, _) = doctor(&bare(), "topo");
    golden("bare-topo.txt", &text);
}

#[test]
fn a_bare_machine_is_told_what_to_do() {
    let (code, text, _) = doctor(&bare(), "hugepages iommu vfio process xdp gpus");
    golden("bare.txt", &text);
    assert_eq!(code, 0);
}

#[test]
fn hugepages_that_are_all_in_use_or_were_never_set_aside_have_a_command() {
    let tree = Tree::of("");
    let folder = "sys/kernel/mm/hugepages/hugepages-2048kB";
    for (total, fix) in [
        (8, "as root: memwire hugepages set 1040M --size 2M"),
        (0, "as root: memwire hugepages set 1G"),
    ] {
        tree.put(&format!("{folder}/nr_hugepages"), format!("{total}\n"));
        tree.put(&format!("{folder}/free_hugepages"), "0\n");
        let (code, text, _) = doctor(&tree, "hugepages");
        assert_eq!(code, 0);
        assert!(text.contains(fix), "{text}");
        // To ask for them is another matter.
        assert_eq!(doctor(&tree, "--for hugepage:2M").0, 3);
    }
}

#[test]
fn the_table_of_importers_says_why_not() {
    let (code, text, _) = doctor(&bare(), "importers");
    assert_eq!(code, 0);
    for says in [
        "dma-buf from elsewhere",
        "type1 no, iommufd yes, none no",
        "type1: type1 takes neither a dma-buf nor its mapping",
    ] {
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn what_is_asked_for_fails_where_it_cannot_work_and_the_exit_code_says_so() {
    let tree = workstation();
    let direct = "--for gpurx,pci:0000:03:00.0,iommu=type1,p2p:0000:04:00.0/bar2";
    let (code, text, stderr) = doctor(&tree, direct);
    golden("asked.txt", &text);
    assert_eq!((code, stderr.as_str()), (3, "error: one thing fails\n"));
    // Its owner gives the node away: then all is well.
    let node = tree.root().join("dev/vfio/6");
    fs::set_permissions(node, fs::Permissions::from_mode(0o666)).unwrap();
    let (code, text, stderr) = doctor(&tree, direct);
    assert_eq!((code, stderr.as_str()), (0, ""), "{text}");
    for (asked, code, says) in [
        ("pci:81:00.0", 3, "none for 1af4:1041"),
        ("p2p:05:00.0/bar1", 3, "bound to nvidia, not to vfio-pci"),
        ("p2p:04:00.0/bar0", 3, "fix: p2p:0000:04:00.0/bar2 is memory"),
        ("p2p:09:00.0/bar0", 3, "no such PCI function here"),
        ("hugepage:2M,host,ring:a", 0, "500 to be had"),
        ("eth0", 0, "an interface of the kernel's"),
        ("eth7", 3, "no such interface, port or memory here"),
    ] {
        let (got, text, stderr) = doctor(&tree, &format!("--for {asked}"));
        assert_eq!(got, code, "{asked}: {text}{stderr}");
        assert!(text.contains(says), "{asked}: {text}");
    }
    let (code, text, stderr) = doctor(&tree, "--for cuda:0");
    assert_eq!((code, text.as_str()), (2, ""));
    assert!(stderr.contains("--for cuda:0"), "{stderr}");
}

#[test]
fn json_fits_its_schema_and_has_every_pair() {
    let report = fits(&doctor(&workstation(), "--json").1);
    assert_eq!((&report["schema"], &report["ok"]), (&"memwire/doctor/1".into(), &true.into()));
    assert_eq!(report["sections"].as_array().unwrap().len(), 8);
    let pairs = report["pairs"].as_array().unwrap();
    let of = |nic: &str, memory: &str| {
        let is_it = |pair: &&Value| pair["nic"] == nic && pair["memory"] == memory;
        pairs.iter().find(is_it).unwrap_or_else(|| panic!("{nic} {memory}: {pairs:?}"))
    };
    assert_eq!(pairs.len(), 4, "two NICs, two devices with memory");
    let near = of("0000:03:00.0", "0000:04:00.0");
    assert_eq!((&near["distance"], &near["letters"]), (&4.into(), &"PIX".into()));
    assert_eq!(near["redirects"], serde_json::json!(["0000:02:01.0", "0000:02:00.0"]));
    assert_eq!(near["narrowest_link"]["mbps"], 8000);
    assert_eq!((&near["kernel"], &near["vfio"]), (&"THRU_HOST_BRIDGE".into(), &"known".into()));
    let far = of("0000:81:00.0", "0000:05:00.0");
    assert_eq!((&far["letters"], &far["kernel"]), (&"SYS".into(), &"NOT_SUPPORTED".into()));
    let asked = fits(&doctor(&workstation(), "--for pci:81:00.0 --json").1);
    assert_eq!((&asked["ok"], asked["pairs"].as_array().unwrap().len()), (&false.into(), 0));
    fits(&doctor(&bare(), "--json").1);
}

#[test]
fn this_machine_can_be_looked_at_by_anybody() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_memwire")).args(["doctor", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report = fits(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(report["sections"].as_array().unwrap().len(), 8);
}

#[test]
fn a_folder_that_is_not_there_and_an_unknown_matter_are_usage() {
    for (line, says) in [
        ("doctor --sysfs /nowhere", "--root /nowhere: not a folder"),
        ("doctor toppo", "a similar value exists: 'topo'"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memwire"));
        let output = command.args(line.split_whitespace()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {stderr}");
        assert!(stderr.contains(says), "{line}: {stderr}");
    }
}
