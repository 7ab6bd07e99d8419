//! VFIO on real functions (an emulator's will do): those that `MEMWIRE_PCI` names, bound to vfio-pci,
//! as in `MEMWIRE_PCI=0000:01:00.0,0000:05:00.0`. Needs an 82574L and, for some, QEMU's ivshmem-plain.
#![allow(unsafe_code, reason = "memory is mapped for devices")]

mod support;

use std::{
    fs,
    num::NonZero,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::MetadataExt, fs::chown, process::CommandExt},
    },
    path::PathBuf,
    process::Command,
    ptr::{self, NonNull},
    sync::Arc,
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    mm::{MapFlags, ProtFlags},
    process::{Resource, Rlimit, setrlimit},
};
use support::{E1000E, IGB, IVSHMEM, Sender, bench, eventually, kinds, open, restart};
use vfio::{
    Access, Device, Error, Iommu, Kind,
    pci::{Address, Function, MsixTable, Sysfs, capabilities, extended_capabilities},
};

/// Device status (82574 datasheet §10.2.2.2).
const STATUS: u32 = 0x0008;
const MIB: usize = 1 << 20;

/// Memory of ours to be mapped, for as long as the process lives.
fn memory(len: usize) -> NonNull<u8> {
    let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new mapping, where the kernel likes.
    let base = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, rights, flags) };
    NonNull::new(base.expect("memory").cast()).expect("memory")
}

fn map(iommu: &Iommu, base: NonNull<u8>, len: usize) -> Result<u64, Error> {
    // SAFETY: memory that stays for the life of the process, and of which nobody holds a reference.
    unsafe { iommu.map(base, len, Access::ReadWrite) }
}

fn is_readable_soon(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
    poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready == 1)
}

#[test]
fn registers_are_read_and_bars_that_are_no_registers_are_refused() {
    let Some((_bench, found)) = bench("registers_are_read", &[E1000E]) else { return };
    for kind in kinds("registers_are_read") {
        let device = open(found[0], kind);
        let bar = device.bar(0).expect("BAR 0").at_least(128 << 10).expect("128 KiB");
        assert_ne!(bar.read32(STATUS), u32::MAX, "{kind:?}");
        assert_eq!(device.bar(0).expect("again").read32(STATUS), bar.read32(STATUS));
        let [low, high] = [0x5400, 0x5404].map(|register| bar.read32(register));
        assert!((low, high & 0xffff) != (0, 0), "a MAC address, in RAL0 and RAH0");
        let refusal = |index| device.bar(index).expect_err("no registers").to_string();
        let address = found[0];
        assert_eq!(refusal(2), format!("{address} BAR2: I/O-port BAR of 32 B, need a memory BAR"));
        assert!(refusal(4).starts_with(&format!("{address} BAR4: size 0, need a memory BAR")));
        assert!(refusal(6).ends_with("a function has 6, counted from 0"));
        let small = device.bar(3).expect("BAR 3").at_least(128 << 10).expect_err("16 KiB");
        assert!(small.to_string().starts_with(&format!("{address} BAR3: 16 KiB < 128 KiB: ")));
    }
}

#[test]
fn the_bar_with_the_table_of_interrupts_can_be_had() {
    let Some((_bench, found)) = bench("the_bar_with_the_table", &[E1000E]) else { return };
    for kind in kinds("the_bar_with_the_table") {
        let device = open(found[0], kind);
        let mut config = [0; 256];
        device.read_config(0, &mut config).expect("configuration space");
        let table = MsixTable::find(&config).expect("a sound list").expect("MSI-X");
        assert_eq!((table.vectors, table.bar), (5, 3));
        let bar = device.bar(table.bar).expect("BAR 3");
        // Vector control of entry 0: the mask bit is all there is.
        assert!(bar.read32(table.offset + 12) <= 1);
        assert_ne!(device.region(7).expect("configuration space").size, 0);
    }
}

#[test]
fn memory_behind_a_bar_keeps_what_is_written() {
    let Some((_bench, found)) = bench("memory_behind_a_bar", &[IVSHMEM]) else { return };
    for kind in kinds("memory_behind_a_bar") {
        let device = open(found[0], kind);
        let bar = device.bar(2).expect("BAR 2");
        let last = u32::try_from(bar.size() - 4).expect("less than 4 GiB");
        for offset in [0, 0x1000, (last / 2) & !3, last] {
            bar.write32(offset, offset ^ 0x5a5a_5a5a);
        }
        for offset in [0, 0x1000, (last / 2) & !3, last] {
            assert_eq!(bar.read32(offset), offset ^ 0x5a5a_5a5a, "at {offset:#x}");
        }
        let registers = device.bar(0).expect("BAR 0, of 256 bytes");
        assert_eq!(registers.size(), 256);
        let _ = registers.read32(0);
    }
}

#[test]
fn capabilities_of_a_real_configuration_space_are_walked() {
    let Some((_bench, found)) = bench("capabilities_of_a_real", &[E1000E]) else { return };
    let Some(&kind) = kinds("capabilities_of_a_real").first() else { return };
    let device = open(found[0], kind);
    // 256 bytes where the kernel has no way to the rest.
    let len = device.region(7).expect("configuration space").size;
    let mut config = vec![0; usize::try_from(len).expect("4096 at most")];
    device.read_config(0, &mut config).expect("configuration space");
    let ids: Vec<u8> = capabilities(&config).expect("sound").iter().map(|f| f.id).collect();
    for id in [0x01, 0x05, 0x10, 0x11] {
        assert!(ids.contains(&id), "capability {id:#x} in {ids:x?}");
    }
    let extended = extended_capabilities(&config).expect("sound");
    assert_eq!(extended.iter().any(|found| found.id == 1), len == 4096, "AER in {extended:x?}");
    let error = device.read_config(0xfff, &mut [0; 2]).expect_err("beyond the end").to_string();
    assert!(error.ends_with(&format!("of a configuration space of {len:#x}")), "{error}");
}

#[test]
fn a_region_is_one_mapping_however_often_it_is_mapped() {
    let Some((_bench, found)) = bench("a_region_is_one_mapping", &[E1000E]) else { return };
    for kind in kinds("a_region_is_one_mapping") {
        let device = open(found[0], kind);
        let (iommu, base) = (device.iommu(), memory(64 * MIB));
        let iova = map(iommu, base, 64 * MIB).expect("mapped");
        assert!(iova >= 1 << 32, "{iova:#x} is above 4 GiB");
        assert_eq!(map(iommu, base, 64 * MIB).expect("again"), iova);
        let inside = base.map_addr(|at| NonZero::new(at.get() + MIB).expect("not 0"));
        assert_eq!(map(iommu, inside, MIB).expect("inside"), iova + MIB as u64);
        assert_eq!(iommu.mappings(), 1);
        for (at, len) in [(iova, 64 * MIB), (iova + MIB as u64, MIB), (iova, 64 * MIB)] {
            iommu.unmap(at, len).expect("unmapped");
        }
        assert_eq!(iommu.mappings(), 0);
        assert!(iommu.unmap(iova, 64 * MIB).is_err(), "{kind:?}: nothing is left");
        assert!(matches!(map(iommu, base, 100), Err(Error::Misaligned { .. })));
        let far = 1 << 50;
        assert!(matches!(map(iommu, base, far), Err(Error::NoIova { .. })), "{kind:?}");
    }
}

/// A limit of the kernel's, as it was once this is dropped.
struct EntryLimit(String);

impl EntryLimit {
    const FILE: &str = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit";

    fn set(limit: usize) -> Option<Self> {
        let before = fs::read_to_string(Self::FILE).ok()?;
        fs::write(Self::FILE, limit.to_string()).ok()?;
        Some(Self(before))
    }
}

impl Drop for EntryLimit {
    fn drop(&mut self) {
        fs::write(Self::FILE, &self.0).expect("as it was");
    }
}

#[test]
fn the_kernels_limit_of_mappings_is_told_before_it_is_hit() {
    let test = "the_kernels_limit_of_mappings";
    let Some((_bench, found)) = bench(test, &[E1000E]) else { return };
    if !kinds(test).contains(&Kind::Type1) {
        return;
    }
    let Some(_limit) = EntryLimit::set(3) else {
        println!("SKIP {test}: {} cannot be written", EntryLimit::FILE);
        return;
    };
    let device = open(found[0], Kind::Type1);
    for _ in 0..3 {
        map(device.iommu(), memory(4096), 4096).expect("within the limit");
    }
    let error = map(device.iommu(), memory(4096), 4096).expect_err("one too many").to_string();
    assert!(error.starts_with("3 maps reached, the kernel allows no more"), "{error}");
    assert_eq!(device.iommu().mappings(), 3);
}

#[test]
fn files_are_mapped_by_iommufd_and_refused_by_type1_with_the_reason() {
    let Some((_bench, found)) = bench("files_are_mapped", &[E1000E]) else { return };
    for kind in kinds("files_are_mapped") {
        let device = open(found[0], kind);
        let file = rustix::fs::memfd_create("frames", rustix::fs::MemfdFlags::CLOEXEC);
        let file = file.expect("a memfd");
        rustix::fs::ftruncate(&file, 4 * MIB as u64).expect("room");
        let mapped = device.iommu().map_file(file.as_fd(), MIB as u64, 2 * MIB, Access::Read);
        match kind {
            Kind::Iommufd => {
                let iova = mapped.expect("mapped");
                assert_eq!(device.iommu().mappings(), 1);
                device.iommu().unmap(iova, 2 * MIB).expect("unmapped");
            }
            _ => {
                let error = mapped.expect_err("no files").to_string();
                assert!(error.contains("map it here first, or use iommufd"), "{error}");
            }
        }
    }
}

#[test]
fn a_device_reads_and_writes_what_is_mapped_and_nothing_else() {
    let Some((_bench, found)) = bench("a_device_reads_and_writes", &[E1000E]) else { return };
    for kind in kinds("a_device_reads_and_writes") {
        let mut device = open(found[0], kind);
        let iommu = device.iommu().clone();
        let (base, len) = (memory(MIB), MIB);
        let iova = map(&iommu, base, len).expect("mapped");
        let mut sender = Sender::start(&mut device);
        assert!(sender.send(iova, 60), "{kind:?}: a frame of mapped memory is sent");
        device.set_bus_master(false).expect("off");
        sender.post(iova, 60);
        assert!(!sender.is_done(), "who may not master the bus writes no status");
        iommu.unmap(iova, len).expect("unmapped");
    }
}

#[test]
fn mappings_outlive_the_device_and_are_there_for_the_next() {
    let Some((_bench, found)) = bench("mappings_outlive", &[E1000E]) else { return };
    for kind in kinds("mappings_outlive") {
        let iommu = Iommu::new(kind);
        let sysfs = Sysfs::system();
        let first = Device::open(&sysfs, found[0], &iommu).expect("opened");
        let base = memory(4 * MIB);
        let iova = map(&iommu, base, 4 * MIB).expect("mapped");
        drop(first);
        assert_eq!(iommu.mappings(), 1);
        let mut second = Device::open(&sysfs, found[0], &iommu).expect("opened again");
        let mut sender = Sender::start(&mut second);
        assert!(sender.send(iova + MIB as u64, 60), "{kind:?}: still mapped");
        drop(second);
        iommu.unmap(iova, 4 * MIB).expect("unmapped without a device");
        assert_eq!(iommu.mappings(), 1, "the ring of the sender");
        drop(sender);
        assert_eq!(iommu.mappings(), 0);
    }
}

#[test]
fn two_devices_share_one_address_space() {
    let Some((_bench, found)) = bench("two_devices_share", &[E1000E, IVSHMEM]) else { return };
    for kind in kinds("two_devices_share") {
        let (iommu, sysfs) = (Iommu::new(kind), Sysfs::system());
        let mut nic = Device::open(&sysfs, found[0], &iommu).expect("the NIC");
        let other = Device::open(&sysfs, found[1], &iommu).expect("the memory");
        let base = memory(MIB);
        let iova = map(&iommu, base, MIB).expect("mapped");
        drop(other);
        assert!(Sender::start(&mut nic).send(iova, 60), "{kind:?}: one goes, the other sends");
    }
}

#[test]
fn a_device_is_opened_once_and_again_when_it_was_closed() {
    let Some((_bench, found)) = bench("a_device_is_opened_once", &[E1000E]) else { return };
    for kind in kinds("a_device_is_opened_once") {
        let device = open(found[0], kind);
        let error =
            Device::open(&Sysfs::system(), found[0], &Iommu::new(kind)).expect_err("in use");
        assert!(
            error.to_string().ends_with("in use by another process: stop that first"),
            "{error}"
        );
        let bar = device.bar(0).expect("registers");
        assert_ne!(bar.read32(STATUS), u32::MAX);
        drop(device);
        assert_eq!((bar.read32(STATUS), bar.is_gone()), (u32::MAX, true), "{kind:?}");
        bar.write32(STATUS, 0);
        let again = open(found[0], kind);
        assert_ne!(again.bar(0).expect("registers").read32(STATUS), u32::MAX);
        assert_eq!(bar.read32(STATUS), u32::MAX, "the old handle stays dead");
    }
}

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
fn a_reset_stops_the_device_and_leaves_it_usable() {
    let Some((_bench, found)) = bench("a_reset_stops", &[E1000E]) else { return };
    for kind in kinds("a_reset_stops") {
        let mut device = open(found[0], kind);
        let registers = device.bar(0).expect("registers");
        let iova = map(device.iommu(), memory(MIB), MIB).expect("mapped");
        let mappings = device.iommu().mappings();
        for _ in 0..5 {
            assert!(Sender::start(&mut device).send(iova, 60), "before");
            match device.reset() {
                Ok(()) => assert_ne!(registers.read32(STATUS), u32::MAX, "it came back"),
                Err(Error::CannotReset(address)) => {
                    println!("SKIP a_reset_stops over {kind:?}: {address} has no reset of its own");
                    return;
                }
                Err(error) => panic!("{kind:?}: {error}"),
            }
            let mut command = [0; 2];
            device.read_config(4, &mut command).expect("command register");
            assert_eq!(command[0] & 6, 2, "memory on, bus master off");
        }
        assert_eq!(device.iommu().mappings(), mappings);
    }
}

#[test]
fn a_function_level_reset_clears_registers() {
    let Some((_bench, found)) = bench("a_function_level_reset", &[IGB]) else { return };
    for kind in kinds("a_function_level_reset") {
        let mut device = open(found[0], kind);
        let registers = device.bar(0).expect("registers");
        // A word of the multicast table (82576 datasheet §8.10.15).
        registers.write32(0x5214, 0xdead_beef);
        assert_eq!(registers.read32(0x5214), 0xdead_beef);
        device.reset().expect("an 82576 has FLR");
        assert_eq!(registers.read32(0x5214), 0, "{kind:?}");
    }
}

#[test]
fn an_interrupt_makes_its_eventfd_readable() {
    let Some((_bench, found)) = bench("an_interrupt_makes", &[E1000E]) else { return };
    for kind in kinds("an_interrupt_makes") {
        let mut device = open(found[0], kind);
        let error = device.enable_msix(64).expect_err("too many").to_string();
        assert_eq!(
            error,
            format!("{}: 64 interrupt vectors asked for, the function has 5", found[0])
        );
        let fds: Vec<Arc<OwnedFd>> = device.enable_msix(3).expect("three");
        device.set_bus_master(true).expect("an interrupt is a write");
        let registers = device.bar(0).expect("registers");
        restart(&registers);
        // IVAR (§10.2.4.9): "other" causes to vector 2; IMS, ICS: raise one.
        registers.write32(0x00e4, 0x000a_0000);
        registers.write32(0x00d0, 1 << 24);
        registers.write32(0x00c8, 1 << 24);
        assert!(is_readable_soon(&fds[2]), "{kind:?}: vector 2");
        device.disable_interrupts().expect("off");
        assert_eq!(device.enable_interrupts(1).expect("one").len(), 1);
    }
}

#[test]
fn memory_decode_that_goes_off_makes_registers_read_as_all_ones() {
    let Some((_bench, found)) = bench("memory_decode_that_goes_off", &[E1000E]) else { return };
    for kind in kinds("memory_decode_that_goes_off") {
        let mut device = open(found[0], kind);
        let bar = device.bar(0).expect("registers");
        assert_ne!(bar.read32(STATUS), u32::MAX);
        let mut command = [0; 2];
        device.read_config(4, &mut command).expect("command register");
        device.write_config(4, &[command[0] & !2, command[1]]).expect("memory decode off");
        bar.write32(0x0100, 0);
        assert_eq!(bar.read32(STATUS), u32::MAX, "{kind:?}");
        assert!(bar.is_gone());
        drop((device, bar));
        assert_ne!(open(found[0], kind).bar(0).expect("again").read32(STATUS), u32::MAX);
    }
}

#[test]
fn whoever_wants_the_device_back_gets_it_once_it_is_closed() {
    let Some((_bench, found)) = bench("whoever_wants", &[E1000E]) else { return };
    let address = found[0];
    for kind in kinds("whoever_wants") {
        let device = open(address, kind);
        let bar = device.bar(0).expect("registers");
        assert_eq!(device.notices(), vfio::Notices::default());
        let unbind = thread::spawn(move || {
            fs::write("/sys/bus/pci/drivers/vfio-pci/unbind", address.to_string())
        });
        let heard = eventually(|| device.notices().removal);
        drop(device);
        unbind.join().expect("no panic").expect("unbound");
        assert!(heard, "{kind:?}: a notice that it is wanted back");
        assert_eq!(bar.read32(STATUS), u32::MAX);
        let function = Function::read(&Sysfs::system(), address).expect("still there");
        assert_eq!(function.driver, None);
        fs::write("/sys/bus/pci/drivers/vfio-pci/bind", address.to_string()).expect("bound again");
    }
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
    let name = "an_ordinary_user_needs_the_node_and_no_capability_and_is_told_of_limits_first";
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
