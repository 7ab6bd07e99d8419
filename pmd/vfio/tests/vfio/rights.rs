//! Who may open what, and what they are told.

use std::{
    fs,
    os::unix::{fs::MetadataExt, fs::chown, process::CommandExt},
    path::PathBuf,
    process::Command,
};

use rustix::process::{Resource, Rlimit, setrlimit};
use vfio::{
    Device, Iommu, Kind,
    pci::{Address, Function, Sysfs},
};

use super::{
    MIB, map, memory,
    support::{E1000E, Sender, bench, kinds},
};

#[test]
fn a_function_of_another_driver_is_refused_with_the_command_that_helps() {
    let Some((_bench, _)) = bench("a_function_of_another_driver", &[E1000E]) else { return };
    let scan = Sysfs::system().scan().expect("the bus");
    assert!(scan.problems.is_empty(), "{:?}", scan.problems);
    let other = scan.functions.iter().find(|f| f.driver.is_some() && !f.is_on_vfio());
    let Some(other) = other else {
        println!("SKIP a_function_of_another_driver: every function is bound to vfio-pci");
        return;
    };
    let iommu = Iommu::new(Kind::Auto);
    let error = Device::open(&Sysfs::system(), other.address, &iommu).expect_err("not ours");
    let (address, driver) = (other.address, other.driver.as_deref().unwrap_or_default());
    assert_eq!(
        error.to_string(),
        format!(
            "{address}: bound to {driver}, not to vfio-pci: run `memwire bind {address}` as root"
        )
    );
}

#[test]
fn without_an_iommu_a_device_is_had_only_by_who_accepts_it_and_sees_physical_addresses() {
    let test = "without_an_iommu";
    let Some((_bench, found)) = bench(test, &[E1000E]) else { return };
    let switch = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
    let is_on = fs::read_to_string(switch).is_ok_and(|on| on.trim() == "Y");
    if !is_on {
        println!("SKIP {test}: this machine has an IOMMU, or {switch} is not Y");
        return;
    }
    let sysfs = Sysfs::system();
    for kind in [Kind::Auto, Kind::Type1, Kind::Iommufd] {
        let error = Device::open(&sysfs, found[0], &Iommu::new(kind)).expect_err("no IOMMU");
        assert!(error.to_string().contains("no IOMMU group"), "{kind:?}: {error}");
    }
    let accepted = Kind::NoIommu(vfio::UnsafeDmaAccepted::i_accept_unsafe_dma());
    let mut device = Device::open(&sysfs, found[0], &Iommu::new(accepted)).expect("accepted");
    let iommu = device.iommu().clone();
    assert_eq!((iommu.name(), iommu.is_unprotected()), ("none", true));
    let error = map(&iommu, memory(MIB), MIB).expect_err("ordinary pages").to_string();
    assert!(error.contains("not made of hugepages"), "{error}");
    let page = device.dma_block(2 * MIB).expect("a hugepage");
    assert!(page.iova() > 0 && page.iova().is_multiple_of(2 << 20), "{:#x}", page.iova());
    assert!(Sender::start(&mut device).send(page.iova(), 60), "the device reads it");
}

/// The node that opens a function, for a user who has no capability.
fn node(address: Address, kind: Kind) -> PathBuf {
    let function = Function::read(&Sysfs::system(), address).expect("there");
    if kind == Kind::Type1 {
        return format!("/dev/vfio/{}", function.iommu_group.expect("a group")).into();
    }
    let folder = Sysfs::system().function(address).join("vfio-dev");
    let name = fs::read_dir(folder).expect("devices").next().expect("one").expect("one");
    PathBuf::from("/dev/vfio/devices").join(name.file_name())
}

/// What the next test's child does: an ordinary user with 8 MiB to pin.
fn as_ordinary_user(address: Address, kind: Kind) {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    let limit = Rlimit { current: Some(8 * MIB as u64), maximum: Some(8 * MIB as u64) };
    setrlimit(Resource::Memlock, limit).expect("a limit");
    let mut device = match Device::open(&Sysfs::system(), address, &Iommu::new(kind)) {
        Ok(device) => device,
        Err(error) => return println!("ordinary user: {error}"),
    };
    let iommu = device.iommu().clone();
    let error = map(&iommu, memory(64 * MIB), 64 * MIB).expect_err("too much").to_string();
    assert!(error.starts_with("pin 64 MiB but RLIMIT_MEMLOCK 8 MiB"), "{error}");
    assert_eq!(iommu.mappings(), 0, "refused before the first map");
    let iova = map(&iommu, memory(MIB), MIB).expect("within the limit");
    assert!(Sender::start(&mut device).send(iova, 60), "and the device reads it");
    let error = map(&iommu, memory(8 * MIB), 8 * MIB).expect_err("too much together").to_string();
    assert!(error.starts_with("pin 8 MiB but RLIMIT_MEMLOCK 8 MiB, "), "{error}");
    println!("ordinary user: sent");
}

#[test]
fn an_ordinary_user_needs_the_node_and_no_capability_and_is_told_of_limits_first() {
    const CHILD: &str = "VFIO_ORDINARY_USER";
    let name =
        "rights::an_ordinary_user_needs_the_node_and_no_capability_and_is_told_of_limits_first";
    let Some((_bench, found)) = bench("an_ordinary_user", &[E1000E]) else { return };
    let kind_of = |text: &str| if text == "Type1" { Kind::Type1 } else { Kind::Iommufd };
    if let Ok(kind) = std::env::var(CHILD) {
        return as_ordinary_user(found[0], kind_of(&kind));
    }
    if !rustix::process::geteuid().is_root() {
        println!(
            "SKIP an_ordinary_user: only root can give the node away and become somebody else"
        );
        return;
    }
    for kind in kinds("an_ordinary_user") {
        let (node, iommufd) = (node(found[0], kind), PathBuf::from("/dev/iommu"));
        let mut nodes = vec![node.clone()];
        nodes.extend((kind == Kind::Iommufd).then_some(iommufd));
        let run = || {
            let mut child = Command::new(std::env::current_exe().expect("this test"));
            child.args([name, "--exact", "--nocapture"]).env(CHILD, format!("{kind:?}"));
            let out = child.uid(1000).gid(1000).output().expect("a child");
            String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
        };
        let refused = run();
        let wanted = format!(
            "ordinary user: {}: permission denied; chown it to uid 1000",
            nodes[nodes.len() - 1].display()
        );
        assert!(refused.contains(&wanted), "{kind:?}: no '{wanted}' in {refused}");
        let owners: Vec<u32> =
            nodes.iter().map(|n| fs::metadata(n).expect("there").uid()).collect();
        for node in &nodes {
            chown(node, Some(1000), None).expect("given away");
        }
        let sent = run();
        for (node, owner) in nodes.iter().zip(owners) {
            chown(node, Some(owner), None).expect("taken back");
        }
        assert!(sent.contains("ordinary user: sent"), "{kind:?}: {sent}");
    }
}
