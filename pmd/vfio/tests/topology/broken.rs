//! Trees that lie, end early, or change while they are read.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use vfio::topology::{Verdict, between};

use crate::tree::{Tree, address};

const SWITCH: &str = "pci0000:00/00:01.0 port
    pci0000:00/00:01.0/01:00.0 up
    pci0000:00/00:01.0/01:00.0/02:00.0 down
    pci0000:00/00:01.0/01:00.0/02:01.0 down
    pci0000:00/00:01.0/01:00.0/02:00.0/03:00.0 dev group=5
    pci0000:00/00:01.0/01:00.0/02:01.0/04:00.0 dev group=5";

fn refusal(tree: &Tree) -> String {
    let refused = between(&tree.sysfs(), address("03:00.0"), address("04:00.0"));
    let root = tree.root().display().to_string();
    refused.expect_err("no path").to_string().replace(&root, "")
}

#[test]
fn a_function_that_is_not_there_any_more_is_named() {
    let tree = Tree::of(SWITCH);
    fs::remove_file(tree.bus().join("0000:04:00.0")).expect("a link");
    assert!(refusal(&tree).starts_with("0000:04:00.0: no such PCI function here"));
    let tree = Tree::of(SWITCH);
    // Its folder goes, and the link on the bus leads nowhere.
    let below = "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:00.0/0000:03:00.0";
    fs::remove_dir_all(tree.root().join(below)).expect("a folder");
    assert!(refusal(&tree).starts_with("0000:03:00.0: no such PCI function here"));
}

#[test]
fn a_bridge_whose_files_vanish_leaves_its_redirection_unknown() {
    let tree = Tree::of(SWITCH);
    let port = "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0";
    fs::remove_file(tree.root().join(port).join("config")).expect("a file");
    let path = between(&tree.sysfs(), address("03:00.0"), address("04:00.0")).expect("a path");
    assert_eq!((path.distance, path.kernel()), (4, Verdict::Unknown));
    assert_eq!(path.unread, [address("02:01.0")]);
}

#[test]
fn links_that_loop_end_in_an_error() {
    let tree = Tree::of(SWITCH);
    let link = tree.bus().join("0000:03:00.0");
    fs::remove_file(&link).expect("a link");
    symlink("0000:03:00.0", &link).expect("a link");
    let said = refusal(&tree);
    assert!(said.starts_with("/sys/bus/pci/devices/0000:03:00.0: "), "{said}");
    assert!(said.contains("symbolic link"), "{said}");
}

#[test]
fn a_link_out_of_the_tree_is_not_followed() {
    let tree = Tree::of(SWITCH);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let link = tree.bus().join("0000:03:00.0");
    fs::remove_file(&link).expect("a link");
    symlink(elsewhere.path(), &link).expect("a link");
    assert!(refusal(&tree).contains("out of the tree"));
}

#[test]
fn a_link_to_what_is_no_place_on_a_bus_is_refused() {
    for (to, why) in [
        ("sys/devices/platform/0000:03:00.0", "expected a link to a folder below a host bridge"),
        ("sys/devices/pci0000:00/widget/0000:03:00.0", "'widget' above it is no function"),
        ("sys/devices/pci0000:00/0000:00:01.0/0000:07:00.0", "another function"),
        ("sys/devices/pci0000:00", "another function"),
    ] {
        let tree = Tree::of(SWITCH);
        fs::create_dir_all(tree.root().join(to)).expect("a folder");
        let link = tree.bus().join("0000:03:00.0");
        fs::remove_file(&link).expect("a link");
        symlink(tree.root().join(to), &link).expect("a link");
        let said = refusal(&tree);
        assert!(said.contains(why), "{to}: {said}");
    }
}

#[test]
fn a_configuration_space_that_must_not_be_read_is_unknown() {
    let tree = Tree::of(SWITCH);
    let config = tree.root().join("sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/config");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o000)).expect("a file");
    if fs::read(&config).is_ok() {
        println!(
            "SKIP a_configuration_space_that_must_not_be_read_is_unknown: root reads everything"
        );
        return;
    }
    let path = between(&tree.sysfs(), address("03:00.0"), address("04:00.0")).expect("a path");
    assert_eq!(path.unread, [address("01:00.0")]);
}

#[test]
fn a_broken_list_of_capabilities_is_unknown_and_ends() {
    let tree = Tree::of(SWITCH);
    let port = "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:00.0/config";
    let mut config = fs::read(tree.root().join(port)).expect("a file");
    config[0x100..0x104].copy_from_slice(&(0x100u32 << 20 | 2 << 16 | 1).to_le_bytes());
    tree.put(port, config);
    let path = between(&tree.sysfs(), address("03:00.0"), address("04:00.0")).expect("a path");
    assert_eq!(path.unread, [address("02:00.0")]);
    assert_eq!(path.kernel(), Verdict::Unknown);
}
