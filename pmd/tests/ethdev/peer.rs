//! DPDK's own application at the other end of a memif connection: echoes what it gets.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use mempool::Burst;

use crate::rig::{Rig, becomes};

/// testpmd with one memif port, forwarding from it to itself. It ends when its standard input does.
struct Testpmd(Child);

impl Testpmd {
    fn start(role: &str, socket: &Path) -> Option<Self> {
        let device =
            format!("net_memif0,role={role},socket={},socket-abstract=no", socket.display());
        let mut child = Command::new("stdbuf")
            // Or what it says stays in its buffer.
            .args([
                "-oL",
                "dpdk-testpmd",
                "--lcores",
                "0@(0-1),1@(0-1)",
                "--no-huge",
                "--no-shconf",
                "-m",
                "256",
                "--no-pci",
            ])
            .args(["--no-telemetry", "--file-prefix", "memwire", "--vdev", &device, "--"])
            .args([
                "--forward-mode=io",
                "--port-topology=loop",
                "--total-num-mbufs=8192",
                "--auto-start",
                // What comes before it forwards is not thrown away.
                "--no-flush-rx",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        // Until it forwards; it must be able to write what comes later.
        let mut lines = BufReader::new(child.stdout.take()?).lines().map_while(Result::ok);
        let is_ready = lines.any(|line| line.contains("packet forwarding - ports="));
        assert!(is_ready, "testpmd ended before it forwarded");
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self(child))
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends `count` frames and takes each back, in order and unchanged.
fn echo(rig: &mut Rig, count: u64) {
    let (mut sent, mut came) = (0u64, 0u64);
    let mut out = Burst::new(&rig.pool);
    let mut back = Burst::new(&rig.pool);
    let deadline = Instant::now() + Duration::from_secs(120);
    while came < count {
        while out.room() > 0 && sent < count && sent - came < 128 {
            let Some(mut frame) = rig.cache.take_one() else { break };
            let len = 60 + usize::try_from(sent % 1400).unwrap();
            let mut bytes = vec![sent.to_le_bytes()[0]; len];
            bytes[14..22].copy_from_slice(&sent.to_le_bytes());
            assert!(frame.frame_mut().append(&bytes));
            out.push(frame);
            sent += 1;
        }
        rig.tx.send(&mut rig.cache, &mut out);
        rig.rx.recv(&mut rig.cache, &mut back);
        for frame in back.iter() {
            let bytes = frame.bytes();
            assert_eq!(bytes[14..22], came.to_le_bytes(), "frame {came}");
            assert_eq!(bytes.len(), 60 + usize::try_from(came % 1400).unwrap());
            assert!(bytes[22..].iter().all(|byte| *byte == came.to_le_bytes()[0]));
            came += 1;
        }
        back.recycle(&mut rig.cache);
        assert!(Instant::now() < deadline, "{came} of {count} frames came, {sent} were sent");
    }
}

fn is_here(test: &str) -> bool {
    let here = Command::new("dpdk-testpmd").arg("--version").output().is_ok();
    if !here {
        println!("SKIP {test}: dpdk-testpmd is not installed");
    }
    here
}

/// Echoes, until the peer goes.
fn until_it_goes(rig: &mut Rig, peer: Testpmd) {
    assert!(becomes(&*rig.device, true), "no link to testpmd");
    echo(rig, 5000);
    drop(peer);
    assert!(becomes(&*rig.device, false), "the link outlives its peer");
    // Nobody is there: nothing arrives, nothing hangs.
    let mut back = Burst::new(&rig.pool);
    assert_eq!(rig.rx.recv(&mut rig.cache, &mut back), 0);
}

fn stops_with_all_home(rig: Rig, frames: u64) {
    let stats = rig.tx.counters().snapshot();
    assert_eq!((stats.delivered, stats.drops.total()), (frames, 0));
    let audit = rig.stop().audit();
    assert!(audit.is_home(), "{audit}");
}

#[test]
fn testpmd_echoes_over_memif_as_client_and_may_come_again() {
    if !is_here("testpmd_echoes_over_memif_as_client_and_may_come_again") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("memif");
    let place = format!("socket={},socket-abstract=no", socket.display());
    let mut rig = Rig::start(&format!("net_memif30,role=server,{place}"), 2048);
    for _ in 0..3 {
        let peer = Testpmd::start("client", &socket).unwrap();
        until_it_goes(&mut rig, peer);
    }
    stops_with_all_home(rig, 15_000);
}

#[test]
fn testpmd_echoes_over_memif_as_server() {
    if !is_here("testpmd_echoes_over_memif_as_server") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("memif");
    let place = format!("socket={},socket-abstract=no", socket.display());
    let peer = Testpmd::start("server", &socket).unwrap();
    let mut rig = Rig::start(&format!("net_memif31,role=client,{place}"), 2048);
    until_it_goes(&mut rig, peer);
    stops_with_all_home(rig, 5000);
}
