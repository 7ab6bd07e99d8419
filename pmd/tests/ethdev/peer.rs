//! DPDK's own application at the other end of a port: every frame is accounted for, on both sides, and a
//! peer that is killed does no harm and may come again.

use std::{path::Path, time::Instant};

use mempool::Burst;

use crate::{
    alone::{again_and_again, alone},
    rig::{Patience, Rig, becomes, is_full},
    testpmd::{Testpmd, is_here},
};

/// A frame's length, by its number.
fn len_of(number: u64) -> usize {
    60 + usize::try_from(number % 1400).expect("small")
}

/// Sends and receives numbered frames.
pub(crate) struct Traffic {
    out: Burst<mempool::Cpu>,
    back: Burst<mempool::Cpu>,
    /// Frames made.
    made: u64,
    /// Frames that came back.
    came: u64,
    /// The number that a frame must have at least.
    next: u64,
}

impl Traffic {
    pub(crate) fn new(rig: &Rig) -> Self {
        let (out, back) = (Burst::new(&rig.pool), Burst::new(&rig.pool));
        Self { out, back, made: 0, came: 0, next: 0 }
    }

    /// Frames that came back.
    pub(crate) fn came(&self) -> u64 {
        self.came
    }

    /// Makes frames up to `limit` in all, sends what the port takes, and receives what is there.
    pub(crate) fn turn(&mut self, rig: &mut Rig, limit: u64) {
        while self.out.room() > 0 && self.made < limit {
            let Some(mut frame) = rig.cache.take_one() else { break };
            let number = self.made;
            let mut bytes = vec![number.to_le_bytes()[0]; len_of(number)];
            bytes[14..22].copy_from_slice(&number.to_le_bytes());
            assert!(frame.frame_mut().append(&bytes));
            self.out.push(frame);
            self.made += 1;
        }
        rig.tx.send(&mut rig.cache, &mut self.out);
        self.receive(rig);
    }

    /// Receives what is there: whole, in order, and nothing twice.
    fn receive(&mut self, rig: &mut Rig) -> usize {
        let count = rig.rx.recv(&mut rig.cache, &mut self.back);
        for frame in self.back.iter() {
            let bytes = frame.bytes();
            let number = u64::from_le_bytes(bytes[14..22].try_into().expect("eight bytes"));
            assert!(number >= self.next && number < self.made, "{number} after {}", self.next);
            assert_eq!(bytes.len(), len_of(number), "frame {number}");
            assert!(bytes[22..].iter().all(|byte| *byte == number.to_le_bytes()[0]));
            (self.came, self.next) = (self.came + 1, number + 1);
        }
        self.back.recycle(&mut rig.cache);
        count
    }
}

/// Has `count` frames echoed, few at a time. Those before the first that comes back are lost if the peer's
/// other direction was not there yet (vhost-user says so queue by queue).
pub(crate) fn echo(rig: &mut Rig, count: u64) {
    let mut traffic = Traffic::new(rig);
    let patience = Patience::new();
    while traffic.came == 0 {
        traffic.turn(rig, traffic.made + 1);
        let a_while = Patience::short();
        while traffic.came == 0 && !a_while.is_over() {
            traffic.receive(rig);
        }
        assert!(!patience.is_over(), "nothing comes back of {} frames", traffic.made);
    }
    let lost = traffic.made - traffic.came;
    while traffic.came < count {
        let limit = lost + count.min(traffic.came + 128);
        traffic.turn(rig, limit);
        let Traffic { made, came, .. } = traffic;
        assert!(
            !patience.is_over(),
            "{came} of {count} frames came, {made} were made, {lost} lost"
        );
    }
}

/// Sends `count` frames as fast as they go, to a peer that echoes them as it can; then all books agree.
pub(crate) fn flood(mut rig: Rig, peer: Testpmd, count: u64) {
    assert!(becomes(&*rig.device, true), "no link to testpmd");
    let mut traffic = Traffic::new(&rig);
    let begin = Instant::now();
    while traffic.made < count || !traffic.out.is_empty() {
        traffic.turn(&mut rig, count);
        assert!(
            begin.elapsed().as_secs() < if is_full() { 500 } else { 60 },
            "{} of {count} frames were sent",
            traffic.made
        );
    }
    // Until nothing comes any more: testpmd has then forwarded all that it received.
    let mut patience = Patience::short();
    while !patience.is_over() {
        if traffic.receive(&mut rig) > 0 {
            patience = Patience::short();
        }
    }
    let books = peer.finish();
    let (tx, rx) = (rig.tx.counters().snapshot(), rig.rx.counters().snapshot());
    println!(
        "{count} frames in {:?}: sent {tx:?}, testpmd {books:?}, came {rx:?}",
        begin.elapsed()
    );
    assert_eq!(tx.delivered + tx.drops.total(), count);
    assert_eq!(books.received + books.missed, tx.delivered, "{books:?}");
    assert_eq!(books.sent + books.unsent, books.received, "{books:?}");
    assert_eq!(rx.delivered + rx.drops.total(), books.sent, "{books:?}");
    assert_eq!(traffic.came, rx.delivered);
    assert!(traffic.came > count / 100, "hardly anything came back: {}", traffic.came);
    drop(traffic);
    is_home(rig);
}

/// Frames of a run that counts every one.
pub(crate) fn flood_count() -> u64 {
    if is_full() { 10_000_000 } else { 200_000 }
}

/// How often a peer is killed.
pub(crate) fn kills() -> usize {
    if is_full() { 50 } else { 5 }
}

pub(crate) fn is_home(rig: Rig) {
    let audit = rig.stop().audit();
    assert!(audit.is_home(), "{audit}");
}

/// Arguments of both sides of a memif connection.
fn memif(folder: &Path, ours: &str, role: &str) -> (String, String) {
    let place = format!("socket={},socket-abstract=no", folder.join("memif").display());
    let other = if role == "server" { "client" } else { "server" };
    (format!("{ours},role={role},{place}"), format!("net_memif0,role={other},{place}"))
}

/// Echoes, until the peer is killed.
fn until_it_goes(rig: &mut Rig, peer: Testpmd) {
    assert!(becomes(&*rig.device, true), "no link to testpmd");
    echo(rig, 2000);
    peer.kill();
    assert!(becomes(&*rig.device, false), "the link outlives its peer");
    // Nobody is there: nothing arrives, nothing hangs.
    let mut back = Burst::new(&rig.pool);
    assert_eq!(rig.rx.recv(&mut rig.cache, &mut back), 0);
}

#[test]
fn every_frame_over_memif_is_accounted_for_as_server() {
    let test = "every_frame_over_memif_is_accounted_for_as_server";
    if is_here(test) {
        let dir = tempfile::tempdir().unwrap();
        let (ours, its) = memif(dir.path(), "net_memif30", "server");
        let rig = Rig::start(&ours, 4096);
        flood(rig, Testpmd::start(&its), flood_count());
    }
}

#[test]
fn every_frame_over_memif_is_accounted_for_as_client() {
    let test = "every_frame_over_memif_is_accounted_for_as_client";
    if is_here(test) {
        let dir = tempfile::tempdir().unwrap();
        let (ours, its) = memif(dir.path(), "net_memif31", "client");
        let peer = Testpmd::start(&its);
        flood(Rig::start(&ours, 4096), peer, flood_count());
    }
}

#[test]
fn a_memif_server_goes_on_by_itself_each_time_its_killed_peer_comes_again() {
    let test = "a_memif_server_goes_on_by_itself_each_time_its_killed_peer_comes_again";
    if is_here(test) {
        alone(&format!("peer::{test}"), || {
            let dir = tempfile::tempdir().unwrap();
            let (ours, its) = memif(dir.path(), "net_memif32", "server");
            let mut rig = Rig::start(&ours, 2048);
            again_and_again(kills(), |_| {
                until_it_goes(&mut rig, Testpmd::start(&its));
                0
            });
            assert_eq!(rig.tx.counters().snapshot().drops.total(), 0);
            is_home(rig);
        });
    }
}

/// DPDK's driver connects when the port is started, and at no other time.
#[test]
fn a_memif_client_whose_peer_was_killed_is_opened_anew() {
    let test = "a_memif_client_whose_peer_was_killed_is_opened_anew";
    if is_here(test) {
        alone(&format!("peer::{test}"), || {
            let dir = tempfile::tempdir().unwrap();
            let (ours, its) = memif(dir.path(), "net_memif33", "client");
            again_and_again(kills(), |_| {
                // The socket of one that was killed stays where it was, and is in its successor's way.
                let _ = std::fs::remove_file(dir.path().join("memif"));
                let peer = Testpmd::start(&its);
                let mut rig = Rig::start(&ours, 2048);
                until_it_goes(&mut rig, peer);
                is_home(rig);
                0
            });
        });
    }
}

#[test]
fn a_port_may_be_closed_at_once_after_its_peer_was_killed() {
    let test = "a_port_may_be_closed_at_once_after_its_peer_was_killed";
    if is_here(test) {
        let close = |round: usize| {
            let dir = tempfile::tempdir().unwrap();
            let role = if round.is_multiple_of(2) { "server" } else { "client" };
            let (ours, its) = memif(dir.path(), "net_memif34", role);
            let (mut rig, peer) = if role == "server" {
                let rig = Rig::start(&ours, 2048);
                (rig, Testpmd::start(&its))
            } else {
                let peer = Testpmd::start(&its);
                (Rig::start(&ours, 2048), peer)
            };
            assert!(becomes(&*rig.device, true), "no link to testpmd");
            echo(&mut rig, 200);
            peer.kill();
            is_home(rig);
            // DPDK's driver forgets to close the socket at which a server listens (22.11.11).
            usize::from(role == "server")
        };
        alone(&format!("peer::{test}"), || again_and_again(kills(), close));
    }
}
