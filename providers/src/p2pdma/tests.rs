//! What is refused, before anything is held, and in which words: on synthetic trees of sysfs. And BARs by their
//! files, which need no device.

use std::{
    fs,
    os::unix::fs::{FileExt, symlink},
    path::PathBuf,
};

use mempool::{Backing, Device, Pool};
use vfio::Kind;

use super::*;

const ADDRESS: &str = "0000:05:00.0";
/// `IORESOURCE_IO`, `IORESOURCE_MEM`, `IORESOURCE_PREFETCH` of `<linux/ioport.h>`.
const IO: u64 = 0x100;
const MEM: u64 = 0x200;
const PREFETCH: u64 = 0x2000;
const MIB: u64 = 1 << 20;
const BAR2: u64 = 0xfe00_0000;

/// A function with registers (BAR 0), I/O ports (BAR 1), memory (BAR 2, 1 MiB), and a small one (BAR 4).
struct Tree {
    root: tempfile::TempDir,
}

impl Tree {
    fn new(driver: Option<&str>) -> Self {
        let tree = Self { root: tempfile::tempdir().unwrap() };
        let folder = tree.folder();
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in
            [("vendor", "0x1af4\n"), ("device", "0x1110\n"), ("class", "0x050000\n")]
        {
            fs::write(folder.join(name), text).unwrap();
        }
        let bars = [
            (0xfd00_0000, 4096, MEM),
            (0xc000, 32, IO),
            (BAR2, MIB, MEM | PREFETCH),
            (0, 0, 0),
            (0xfd10_0000, 256, MEM | PREFETCH),
            (0, 0, 0),
        ];
        let line = |(start, size, flags): (u64, u64, u64)| {
            let end = if size == 0 { 0 } else { start + size - 1 };
            format!("{start:#018x} {end:#018x} {flags:#018x}\n")
        };
        fs::write(folder.join("resource"), bars.map(line).concat()).unwrap();
        fs::write(folder.join("resource2"), vec![0; 1 << 20]).unwrap();
        tree.write_config(0x0002);
        if let Some(driver) = driver {
            symlink(format!("../../bus/pci/drivers/{driver}"), folder.join("driver")).unwrap();
        }
        tree
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("sys/bus/pci/devices").join(ADDRESS)
    }

    /// A header with MSI-X: the table at 0x1000 of BAR 2, pending bits at 0x3000.
    fn write_config(&self, command: u16) {
        let mut config = [0; 256];
        config[..4].copy_from_slice(&[0xf4, 0x1a, 0x10, 0x11]);
        config[4..6].copy_from_slice(&command.to_le_bytes());
        config[6] = 0x10;
        config[0x18..0x1c].copy_from_slice(&u32::try_from(BAR2 | 0xc).unwrap().to_le_bytes());
        config[0x34] = 0x40;
        config[0x40..0x4c].copy_from_slice(&[0x11, 0, 7, 0, 2, 0x10, 0, 0, 2, 0x30, 0, 0]);
        fs::write(self.folder().join("config"), config).unwrap();
    }

    fn sysfs(&self) -> Sysfs {
        Sysfs::at(self.root.path())
    }

    fn by_sysfs(&self, bar: u8, options: BarOptions) -> Result<P2pDma, ProviderError> {
        P2pDma::sysfs(&self.sysfs(), ADDRESS.parse().unwrap(), bar, options)
    }

    fn by_vfio(&self, bar: u8, options: BarOptions) -> Result<P2pDma, ProviderError> {
        let iommu = Iommu::new(Kind::Type1);
        P2pDma::vfio(&self.sysfs(), ADDRESS.parse().unwrap(), bar, &iommu, options)
    }
}

/// Behind the tables.
const BEHIND: BarOptions =
    BarOptions { offset: 0x4000, len: None, allow_non_prefetchable: false, without_cpu: false };

fn bad(refused: Result<P2pDma, ProviderError>) -> String {
    match refused {
        Err(error @ ProviderError::BadRequest { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn request(len: u64) -> RegionRequest {
    RegionRequest { name: "rx".into(), len: usize::try_from(len).unwrap(), align: 4096 }
}

#[test]
fn a_bar_that_is_no_memory_to_be_shared_says_what_it_is_and_what_there_is() {
    let tree = Tree::new(Some("vfio-pci"));
    let has = "the function has BAR0 (4 KiB, not prefetchable), BAR2 (1 MiB, prefetchable), BAR4 (256 B, \
               prefetchable)";
    for (bar, why) in [
        (1, format!("I/O-port BAR of 32 B, need a memory BAR; {has}")),
        (
            3,
            format!(
                "size 0: there is no such BAR, or it is the upper half of the one before; {has}"
            ),
        ),
        (6, "a function has 6 BARs, from 0 on".to_owned()),
        (4, "256 B, less than a page of 4096: too small to be shared".to_owned()),
    ] {
        let expected = format!("p2p:{ADDRESS}/bar{bar}: {why}");
        assert_eq!(bad(tree.by_vfio(bar, BarOptions::default())), expected);
        assert_eq!(bad(tree.by_sysfs(bar, BarOptions::default())), expected);
    }
}

#[test]
fn a_bar_that_is_not_prefetchable_needs_the_users_word() {
    let tree = Tree::new(None);
    fs::write(tree.folder().join("resource0"), [0; 4096]).unwrap();
    let error = bad(tree.by_sysfs(0, BarOptions::default()));
    assert!(error.contains("bar0: not prefetchable: its bytes may be registers"), "{error}");
    assert!(error.ends_with("add allow-nonpref if it is memory all the same"), "{error}");
    let allowed = BarOptions { allow_non_prefetchable: true, ..BarOptions::default() };
    assert_eq!(tree.by_sysfs(0, allowed).unwrap().usage().capacity, 4096);
}

#[test]
fn a_function_that_is_not_there_is_said_to_be_missing() {
    let (root, address) = (tempfile::tempdir().unwrap(), ADDRESS.parse().unwrap());
    let sysfs = Sysfs::at(root.path());
    for refused in [
        P2pDma::sysfs(&sysfs, address, 2, BarOptions::default()),
        P2pDma::vfio(&sysfs, address, 2, &Iommu::new(Kind::Type1), BarOptions::default()),
    ] {
        let error = bad(refused);
        assert!(error.contains("0000:05:00.0: no such PCI function here"), "{error}");
    }
}

#[test]
fn a_part_must_be_whole_pages_within_the_bar() {
    let tree = Tree::new(None);
    for (offset, len, why) in [
        (0, Some(2 * MIB), "2 MiB at offset 0x0 are asked for, and the BAR has 1 MiB"),
        (2 * MIB, None, "0 B at offset 0x200000 are asked for, and the BAR has 1 MiB"),
        (0x4000, Some(u64::MAX), "at offset 0x4000 are asked for, and the BAR has 1 MiB"),
        (0x4001, None, "offset 0x4001 is no multiple of 4096"),
        (0x4000, Some(0), "less than a page of 4096 is asked for: too small to be shared"),
    ] {
        let error = bad(tree.by_sysfs(2, BarOptions { offset, len, ..BarOptions::default() }));
        assert!(error.ends_with(why), "{error}");
    }
}

#[test]
fn the_interrupt_table_is_never_handed_out() {
    let tree = Tree::new(Some("vfio-pci"));
    let part = |offset, len| BarOptions { offset, len: Some(len), ..BarOptions::default() };
    for (options, why) in [
        (
            BarOptions::default(),
            "bytes 0x1000..0x1080 hold its interrupt table (MSI-X), and 0x0..0x100000 are",
        ),
        (
            part(0x3000, 0x1000),
            "bytes 0x3000..0x3008 hold its pending interrupts (MSI-X), and 0x3000..0x4000",
        ),
    ] {
        for error in [bad(tree.by_vfio(2, options)), bad(tree.by_sysfs(2, options))] {
            assert!(error.contains(why), "{error}");
            assert!(error.ends_with("ask for a part without those (offset=, len=)"), "{error}");
        }
    }
    assert!(tree.by_sysfs(2, part(0x2000, 0x1000)).is_ok(), "between them");
}

#[test]
fn a_function_that_somebody_owns_is_left_to_them() {
    for (driver, vfio, sysfs) in [
        (
            Some("nvme"),
            "owned by the kernel's driver nvme: run `memwire bind",
            "run `memwire unbind",
        ),
        (None, "bound to no driver: run `memwire bind 0000:05:00.0` as root", ""),
    ] {
        let tree = Tree::new(driver);
        let error = bad(tree.by_vfio(2, BEHIND));
        assert!(error.contains(vfio), "{error}");
        match sysfs {
            "" => assert!(tree.by_sysfs(2, BEHIND).is_ok()),
            words => assert!(bad(tree.by_sysfs(2, BEHIND)).contains(words)),
        }
    }
    assert!(Tree::new(Some("vfio-pci")).by_sysfs(2, BEHIND).is_ok());
}

#[test]
fn a_function_that_sleeps_or_decodes_no_memory_is_not_mapped() {
    let tree = Tree::new(None);
    tree.write_config(0x0004);
    let error = bad(tree.by_sysfs(2, BEHIND));
    assert!(error.contains("memory decode is off (command register 0x0004)"), "{error}");
    assert!(error.contains("write 1 to ") && error.ends_with("/0000:05:00.0/enable"), "{error}");
    tree.write_config(0x0002);
    fs::write(tree.folder().join("power_state"), "D3hot\n").unwrap();
    let error = bad(tree.by_sysfs(2, BEHIND));
    assert!(error.contains("asleep (D3hot)") && error.ends_with("power/control"), "{error}");
    fs::write(tree.folder().join("power_state"), "D0\n").unwrap();
    assert!(tree.by_sysfs(2, BEHIND).is_ok());
}

#[test]
fn several_pools_share_one_bar_and_what_they_give_back_can_be_had_again() {
    let tree = Tree::new(None);
    let bar = tree.by_sysfs(2, BEHIND).unwrap();
    let capacity = MIB - 0x4000;
    assert_eq!(bar.usage(), Usage { capacity, used: 0, largest: capacity, regions: 0 });
    let pool = |slots: usize| -> Pool<Device> {
        Pool::builder().slots(slots).stride(2048).memory(&bar).build().unwrap()
    };
    let (one, two) = (pool(64), pool(128));
    let offsets: Vec<(u64, u64)> = [&one, &two]
        .map(|pool| match pool.areas()[0].region.backing() {
            Backing::Bar { offset, bus_address, index: 2, export: None, .. } => {
                (offset, bus_address)
            }
            other => panic!("{other:?}"),
        })
        .into();
    assert_eq!(offsets, [(0x4000, BAR2 + 0x4000), (0x2_4000, BAR2 + 0x2_4000)]);
    let usage = bar.usage();
    assert_eq!((usage.used, usage.regions), (192 * 2048, 2));
    assert_eq!(usage.to_string(), "384 KiB of 1008 KiB in 2 regions, 624 KiB in one piece left");
    let error = bar.alloc(&request(MIB)).unwrap_err().to_string();
    assert_eq!(
        error,
        "p2p:0000:05:00.0/bar2: needs 1 MiB, but only 624 KiB can be had; ask for fewer or smaller \
         buffers, or take a larger BAR"
    );
    drop(one);
    assert_eq!((bar.used(), bar.live()), (128 * 2048, 1));
    drop(two);
    assert_eq!(bar.usage().largest, capacity);
}

#[test]
fn what_is_written_through_the_window_is_in_the_bar_and_stale_bytes_stay() {
    let tree = Tree::new(None);
    let bar = tree.by_sysfs(2, BEHIND).unwrap();
    let mut region = bar.alloc(&request(8192)).unwrap();
    region.write(4096, b"payload").unwrap();
    let file = fs::read(tree.folder().join("resource2")).unwrap();
    assert_eq!(&file[0x5000..0x5007], b"payload");
    drop(region);
    let (again, mut seen) = (bar.alloc(&request(8192)).unwrap(), [0; 7]);
    again.read(4096, &mut seen).unwrap();
    assert_eq!(&seen, b"payload", "device memory arrives as it is");
}

#[test]
fn a_bar_whose_decode_goes_off_is_revoked_once_and_closed_with_its_last_region() {
    let tree = Tree::new(None);
    let bar = tree.by_sysfs(2, BEHIND).unwrap();
    let (one, two) = (bar.alloc(&request(4096)).unwrap(), bar.alloc(&request(4096)).unwrap());
    assert_eq!((bar.check(), bar.cause()), (None, None));
    tree.write_config(0x0000);
    let cause = bar.check();
    assert_eq!(cause, Some(Cause::DecodeOff { command: 0 }));
    assert!(one.handle().is_revoked() && two.handle().is_revoked());
    tree.write_config(0x0002);
    assert_eq!((bar.check(), bar.cause()), (cause, cause), "it stays so");
    assert!(matches!(bar.alloc(&request(4096)), Err(ProviderError::Revoked { .. })));
    let short = Duration::from_millis(5);
    drop(one);
    let error = bar.wait_released(short).unwrap_err().to_string();
    assert!(
        error.starts_with("p2p:0000:05:00.0/bar2: still in use after 5 ms by 1 of its regions"),
        "{error}"
    );
    let waiter = std::thread::spawn(move || {
        bar.wait_released(Duration::from_secs(60)).map(|()| bar.usage())
    });
    drop(two);
    assert_eq!(waiter.join().unwrap(), Ok(Usage::default()));
}

#[test]
fn who_resumes_after_a_revocation_need_not_wait_for_the_regions_of_before() {
    let tree = Tree::new(None);
    let bar = tree.by_sysfs(2, BEHIND).unwrap();
    let old = bar.alloc(&request(4096)).unwrap();
    assert_eq!((bar.revoke(), bar.revoke()), (1, 0));
    assert_eq!(bar.cause(), Some(Cause::Asked));
    let next = bar.again().unwrap();
    let new = next.alloc(&request(4096)).unwrap();
    assert!(old.handle().is_revoked() && !new.handle().is_revoked());
    assert_eq!((next.usage().regions, next.live(), next.check()), (2, 1, None));
    // What befalls the device befalls all, and nobody resumes.
    tree.write_config(0x0000);
    let cause = next.check().unwrap();
    assert!(new.handle().is_revoked() && next.again().is_err(), "{cause}");
    drop((old, new));
    bar.wait_released(Duration::ZERO).unwrap();
    assert!(bar.again().is_err());
}

#[test]
fn a_bar_that_moves_or_vanishes_is_revoked_too() {
    for (bytes, at) in [(&[0x0c, 0, 0, 0xfd], 0x18), (&[0xff; 4], 0)] {
        let tree = Tree::new(None);
        let bar = tree.by_sysfs(2, BEHIND).unwrap();
        let config = fs::OpenOptions::new().write(true).open(tree.folder().join("config")).unwrap();
        config.write_all_at(bytes, at).unwrap();
        let cause = bar.check().unwrap();
        assert!(matches!(cause, Cause::Moved { .. } | Cause::Gone), "{cause}");
        bar.wait_released(Duration::ZERO).unwrap();
    }
    let tree = Tree::new(None);
    let bar = tree.by_sysfs(2, BEHIND).unwrap();
    let (region, mut seen) = (bar.alloc(&request(4096)).unwrap(), [0; 4]);
    let file = fs::OpenOptions::new().write(true).open(tree.folder().join("resource2"));
    file.unwrap().set_len(0).unwrap();
    region.read(0, &mut seen).unwrap();
    assert_eq!((seen, bar.check()), ([0xff; 4], Some(Cause::Vanished)));
}

#[test]
fn p2pmem_is_zeroed_memory_for_the_cpu_and_says_what_is_left() {
    let tree = Tree::new(Some("nvme"));
    let address = ADDRESS.parse().unwrap();
    let new = || P2pMem::new(&tree.sysfs(), address);
    let error = new().unwrap_err().to_string();
    assert!(error.contains("the function's driver (nvme) gives no memory away"), "{error}");
    let folder = tree.folder().join("p2pmem");
    fs::create_dir(&folder).unwrap();
    let error = new().unwrap_err().to_string();
    assert!(error.ends_with("(Linux before 6.2)"), "{error}");
    fs::write(folder.join("allocate"), vec![0xa5; 1 << 20]).unwrap();
    fs::write(folder.join("size"), "1048576\n").unwrap();
    fs::write(folder.join("available"), "65536\n").unwrap();
    let memory = new().unwrap();
    assert_eq!(memory.usage(), Some((MIB, 65536)));
    let (region, mut seen) = (memory.alloc(&request(8192)).unwrap(), [1; 8192]);
    region.read(0, &mut seen).unwrap();
    assert_eq!(seen, [0; 8192]);
    assert!(matches!(region.backing(), Backing::P2pMem { address } if address == ADDRESS));
    let error = memory.alloc(&request(MIB)).unwrap_err().to_string();
    assert!(error.contains("needs 1 MiB, but only 64 KiB can be had"), "{error}");
    assert!(memory.check());
    fs::remove_file(folder.join("allocate")).unwrap();
    assert!(!memory.check() && region.handle().is_revoked());
}
