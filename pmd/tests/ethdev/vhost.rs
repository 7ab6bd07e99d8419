//! virtio and vhost-user, against DPDK's own application: as the side that makes the socket (net_vhost), and
//! as the one that connects to it (net_virtio_user).

use std::path::Path;

use crate::{
    peer::{echo, flood, flood_count, is_home, kills},
    rig::{Rig, becomes, open},
    testpmd::{Testpmd, is_here},
};

fn vhost(number: u32, socket: &Path) -> String {
    format!("net_vhost{number},iface={},queues=1", socket.display())
}

fn virtio(number: u32, socket: &Path) -> String {
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
    if is_here("a_vhost_port_goes_on_by_itself_each_time_its_killed_peer_comes_again") {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vhost");
        let mut rig = Rig::start(&vhost(33, &socket), 2048);
        for _ in 0..kills() {
            let peer = Testpmd::start(&virtio(0, &socket));
            assert!(becomes(&*rig.device, true), "no link to testpmd");
            echo(&mut rig, 2000);
            peer.kill();
            assert!(becomes(&*rig.device, false), "the link outlives its peer");
        }
        is_home(rig);
    }
}

#[test]
fn a_virtio_user_port_whose_peer_was_killed_is_opened_anew() {
    if is_here("a_virtio_user_port_whose_peer_was_killed_is_opened_anew") {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vhost");
        for _ in 0..kills() {
            let _ = std::fs::remove_file(&socket);
            let peer = Testpmd::start(&vhost(0, &socket));
            let mut rig = Rig::start(&virtio(34, &socket), 2048);
            assert!(becomes(&*rig.device, true), "no link to testpmd");
            echo(&mut rig, 2000);
            peer.kill();
            assert!(becomes(&*rig.device, false), "the link outlives its peer");
            is_home(rig);
        }
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
