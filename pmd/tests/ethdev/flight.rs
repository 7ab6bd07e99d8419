//! A peer that is killed while frames are on their way, both ways.
//!
//! In a process of its own for each round: DPDK's drivers unmap what they share with a peer on their
//! interrupt thread, whether or not a queue is being used.

use std::{
    env,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
};

use crate::{
    peer::{Traffic, kills},
    rig::{Patience, Rig, becomes},
    testpmd::{Testpmd, is_here},
};

/// Set in a process that floods: the kind of port.
const CHILD: &str = "MEMWIRE_TEST_FLIGHT";

/// Floods its peer, kills it in the midst of that, goes on for a while, and stops the port.
fn round(kind: &str) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let (ours, its) = if kind == "vhost" {
        let ours = format!("net_vhost50,iface={},queues=1", socket.display());
        (ours, format!("net_virtio_user0,path={},queues=1,queue_size=1024", socket.display()))
    } else {
        let place = format!("socket={},socket-abstract=no", socket.display());
        (format!("net_memif50,role=server,{place}"), format!("net_memif0,role=client,{place}"))
    };
    let mut rig = Rig::start(&ours, 4096);
    let mut peer = Some(Testpmd::start(&its));
    assert!(becomes(&*rig.device, true), "no link to testpmd");
    let mut traffic = Traffic::new(&rig);
    let patience = Patience::new();
    // Until the peer is gone and the link with it.
    while rig.device.link().is_up {
        for _ in 0..64 {
            traffic.turn(&mut rig, u64::MAX);
        }
        if traffic.came() > 10_000
            && let Some(peer) = peer.take()
        {
            std::thread::spawn(|| peer.kill());
        }
        assert!(!patience.is_over(), "{} frames came", traffic.came());
    }
    drop(traffic);
    let audit = rig.stop().audit();
    assert!(audit.is_home(), "{audit}");
}

fn survives(test: &str, kind: &str) {
    if let Some(kind) = env::var_os(CHILD) {
        round(&kind.to_string_lossy());
        return;
    }
    if !is_here(test) {
        return;
    }
    let mut crashed = 0;
    for _ in 0..kills() {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", &format!("flight::{test}"), "--nocapture"])
            .env(CHILD, kind)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        match child.status.signal() {
            Some(_) => crashed += 1,
            None => assert!(
                child.status.success(),
                "{}\n{}",
                String::from_utf8_lossy(&child.stdout),
                String::from_utf8_lossy(&child.stderr)
            ),
        }
    }
    println!("{test}: {crashed} of {} rounds ended by a signal", kills());
    assert_eq!(crashed, 0);
}

#[test]
fn a_memif_peer_may_be_killed_in_full_flight() {
    survives("a_memif_peer_may_be_killed_in_full_flight", "memif");
}

#[test]
fn a_virtio_peer_may_be_killed_in_full_flight() {
    survives("a_virtio_peer_may_be_killed_in_full_flight", "vhost");
}
