//! virtio and vhost-user, against DPDK's own application: as the side that makes the socket (net_vhost), and
//! as the one that connects to it (net_virtio_user).

use std::path::Path;

use dpdk_sys as sys;
use pmd::Config;

use crate::{
    alone::{again_and_again, alone},
    peer::{echo, flood, flood_count, is_home, kills},
    rig::{Rig, becomes, open, pool},
    testpmd::{Testpmd, is_here},
};

pub(crate) fn vhost(number: u32, socket: &Path) -> String {
    format!("net_vhost{number},iface={},queues=1", socket.display())
}

pub(crate) fn virtio(number: u32, socket: &Path) -> String {
    format!("net_virtio_user{number},path={},queues=1,queue_size=1024", socket.display())
}

#[test]
fn every_frame_over_vhost_is_accounted_for() {
    if is_here("every_frame_over_vhost_is_accounted_for") {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vhost");
        let rig = Rig::start(&vhost(30, &socket), 4096);
        flood(rig, Testpmd::start(&virtio(0, &socket)), flood_count());
    }
}

#[test]
fn every_frame_over_virtio_user_is_accounted_for() {
    if is_here("every_frame_over_virtio_user_is_accounted_for") {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vhost");
        let peer = Testpmd::start(&vhost(0, &socket));
        flood(Rig::start(&virtio(31, &socket), 4096), peer, flood_count());
    }
}

#[test]
fn virtio_user_is_given_dpdks_own_memory_and_no_other() {
    if is_here("virtio_user_is_given_dpdks_own_memory_and_no_other") {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vhost");
        let _peer = Testpmd::start(&vhost(0, &socket));
        let error = open(&format!("{},buffers=pool", virtio(32, &socket))).err().unwrap();
        let error = error.to_string();
        assert!(error.contains("net_virtio_user does not take foreign memory"), "{error}");
        assert!(error.contains("file descriptors") && error.contains("buffers=copy"), "{error}");
        let device = open(&virtio(32, &socket)).unwrap();
        assert!(device.info().capabilities.copies, "and the port says that it copies");
    }
}

/// DPDK's driver tells its peer of all memory that DPDK knows, and gives up if some of it has no file.
#[test]
fn virtio_user_moves_frames_beside_a_port_that_has_memory_of_ours() {
    if is_here("virtio_user_moves_frames_beside_a_port_that_has_memory_of_ours") {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vhost");
        let beside = Rig::start("net_null36", 2048);
        let _peer = Testpmd::start(&vhost(0, &socket));
        let mut rig = Rig::start(&virtio(36, &socket), 2048);
        assert!(becomes(&*rig.device, true), "no link to testpmd");
        echo(&mut rig, 2000);
        is_home(rig);
        is_home(beside);
    }
}

#[test]
fn a_vhost_port_goes_on_by_itself_each_time_its_killed_peer_comes_again() {
    let test = "a_vhost_port_goes_on_by_itself_each_time_its_killed_peer_comes_again";
    if is_here(test) {
        alone(&format!("vhost::{test}"), || {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("vhost");
            let mut rig = Rig::start(&vhost(33, &socket), 2048);
            again_and_again(kills(), |_| {
                let peer = Testpmd::start(&virtio(0, &socket));
                assert!(becomes(&*rig.device, true), "no link to testpmd");
                echo(&mut rig, 2000);
                peer.kill();
                assert!(becomes(&*rig.device, false), "the link outlives its peer");
                0
            });
            is_home(rig);
        });
    }
}

#[test]
fn a_virtio_user_port_whose_peer_was_killed_is_opened_anew() {
    let test = "a_virtio_user_port_whose_peer_was_killed_is_opened_anew";
    if is_here(test) {
        alone(&format!("vhost::{test}"), || {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("vhost");
            again_and_again(kills(), |_| {
                let _ = std::fs::remove_file(&socket);
                let peer = Testpmd::start(&vhost(0, &socket));
                let mut rig = Rig::start(&virtio(34, &socket), 2048);
                assert!(becomes(&*rig.device, true), "no link to testpmd");
                echo(&mut rig, 2000);
                peer.kill();
                assert!(becomes(&*rig.device, false), "the link outlives its peer");
                is_home(rig);
                0
            });
        });
    }
}

/// As a port of hardware's pool would be. The other way round: `split`.
#[test]
fn virtio_user_is_refused_beside_memory_that_it_cannot_share() {
    let test = "virtio_user_is_refused_beside_memory_that_it_cannot_share";
    if is_here(test) {
        // Others would find that memory, too.
        alone(&format!("vhost::{test}"), || {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("vhost");
            let _peer = Testpmd::start(&vhost(0, &socket));
            let (mut device, pool) = (open(&virtio(37, &socket)).unwrap(), pool(1024));
            let foreign = Foreign::new();
            let error = device.start(Config::one_queue(&pool)).err().unwrap().to_string();
            let why = "net_virtio_user's peer cannot reach DPDK's memory: DPDK knows memory in this process \
                       that has no file descriptor (a pool's, of a port of hardware)";
            assert!(error.contains(why), "{error}");
            assert!(error.contains("add buffers=copy to the port of hardware"), "{error}");
            drop(foreign);
            device.start(Config::one_queue(&pool)).unwrap();
        });
    }
}

/// Memory that other code of this process tells DPDK of.
struct Foreign(&'static mut [Page]);

#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u8; 4096]);

#[expect(unsafe_code, reason = "plays other code that uses DPDK")]
impl Foreign {
    fn new() -> Self {
        let pages = vec![Page([0; 4096]); 512].leak();
        let (base, len) = (pages.as_mut_ptr(), size_of_val(pages));
        // SAFETY: leaked pages.
        let failed =
            unsafe { sys::rte_extmem_register(base.cast(), len, std::ptr::null_mut(), 512, 4096) };
        assert_eq!(failed, 0);
        Self(pages)
    }
}

#[expect(unsafe_code, reason = "plays other code that uses DPDK")]
impl Drop for Foreign {
    fn drop(&mut self) {
        let (base, len) = (self.0.as_mut_ptr(), size_of_val(self.0));
        // SAFETY: registered so.
        assert_eq!(unsafe { sys::rte_extmem_unregister(base.cast(), len) }, 0);
    }
}

#[test]
fn what_would_wait_for_its_peer_without_end_is_refused_and_so_is_a_peer_that_is_not_there() {
    let error = open("net_virtio_user35,path=/tmp/s,server=1").err().unwrap().to_string();
    assert!(error.contains("option server: DPDK would wait"), "{error}");
    let error = open("net_virtio_user35,path=/nowhere/vhost").err().unwrap().to_string();
    assert!(error.contains("DPDK cannot attach 'net_virtio_user35'"), "{error}");
    // And others can be opened.
    open("net_null35").unwrap();
}
