//! What is said when something is not there, or is refused.

use dpdk_sys as sys;
use pmd::{Config, Health, Registry};

use crate::rig::{Rig, open, pool};

fn refusal(device: &str) -> String {
    match open(device) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{device} was opened"),
    }
}

#[test]
fn a_device_that_no_driver_knows_is_named_with_what_could_be() {
    let error = refusal("net_nul0");
    assert!(error.contains("DPDK cannot attach 'net_nul0'"), "{error}");
    assert!(error.contains("no driver has that name: a virtual device is named by"), "{error}");
    let error = refusal("net_af_packet0,iface=memwire-none");
    assert!(error.contains("DPDK cannot attach 'net_af_packet0'"), "{error}");
    let error = refusal("0000:ff:1f.6");
    assert!(error.contains("0000:ff:1f.6") && error.contains("memwire status"), "{error}");
}

#[test]
fn an_argument_that_a_driver_does_not_take_is_refused_in_its_own_words() {
    for (device, why) in [
        ("net_memif9,role=nonsense", "memif_set_role(): Unknown role: nonsense."),
        (
            "net_memif9,zero-copy=yes",
            "memif_set_zc(): Zero-copy doesn't support multi-file segments.",
        ),
        ("net_null9,bogus=1", "its driver refuses 'net_null9,bogus=1', and does not say why"),
        (
            "net_ring9,nodeaction=nonsense",
            "its driver refuses 'net_ring9,nodeaction=nonsense', and does not say why",
        ),
        ("net_vhost9", "its driver refuses 'net_vhost9', and does not say why"),
    ] {
        let error = refusal(device);
        let name = device.split(',').next().unwrap();
        let said = format!("DPDK cannot attach '{name}': {why}; see what arguments");
        assert!(error.contains(&said), "{error}");
    }
}

#[test]
fn a_name_that_dpdk_has_already_is_refused() {
    let _first = open("net_null7").unwrap();
    let error = refusal("net_null7");
    assert!(error.contains("already open; DPDK has a device of that name"), "{error}");
}

#[test]
fn dpdk_is_initialised_once_and_other_settings_are_refused() {
    let _first = open("net_null8").unwrap();
    let error = Registry::new().open("dpdk:net_null9,eal-mem=77").err().unwrap().to_string();
    assert!(
        error.contains("runs in this process with other settings (eal-mem=512, eal-no-huge)"),
        "{error}"
    );
}

#[test]
fn a_port_says_whether_frames_are_copied() {
    let direct = open("net_null12").unwrap();
    assert!(!direct.info().capabilities.copies);
    let copied = open("net_null13,buffers=copy").unwrap();
    assert!(copied.info().capabilities.copies);
}

#[test]
fn a_port_that_vanished_is_removed_and_does_no_harm() {
    let mut rig = Rig::start("net_null10", 256);
    assert_eq!(rig.device.health(), Health::Good);
    let frames = rig.frames(1, 60);
    drop(frames);
    remove(c"net_null10");
    let Health::Removed(why) = rig.device.health() else { panic!("{:?}", rig.device.health()) };
    assert_eq!(why, "'net_null10' was removed from DPDK by other code of this process");
    assert!(!rig.device.link().is_up);
    let mut burst = mempool::Burst::new(&rig.pool);
    assert_eq!(rig.rx.recv(&mut rig.cache, &mut burst), 0);
    let _pool = rig.stop();
    // Its name is free, and its number the next port's.
    let mut rig = Rig::start("net_ring50", 256);
    let mut frames = rig.frames(20, 60);
    assert_eq!(rig.tx.send(&mut rig.cache, &mut frames), 20);
    let mut burst = mempool::Burst::new(&rig.pool);
    assert_eq!(rig.rx.recv(&mut rig.cache, &mut burst), 20);
    burst.recycle(&mut rig.cache);
    assert!(rig.stop().audit().is_home());
    drop(open("net_null10").unwrap());
}

#[test]
fn more_than_a_device_can_do_is_refused_before_it_is_touched() {
    let (mut device, pool) = (open("net_null11").unwrap(), pool(64));
    let mut config = Config::one_queue(&pool);
    config.rx = vec![config.rx[0].clone(); 2000];
    let error = device.start(config).err().unwrap().to_string();
    assert!(error.contains("2000 receive queues asked, it has"), "{error}");
    let error = device.start(Config::one_queue(&pool).rings(100)).err().unwrap().to_string();
    assert!(error.contains("must be a power of two"), "{error}");
    device.start(Config::one_queue(&pool)).unwrap();
}

/// As other code of this process could.
#[expect(unsafe_code, reason = "plays other code that uses DPDK")]
fn remove(name: &std::ffi::CStr) {
    // SAFETY: two strings.
    let failed = unsafe { sys::rte_eal_hotplug_remove(c"vdev".as_ptr(), name.as_ptr()) };
    assert_eq!(failed, 0);
}
