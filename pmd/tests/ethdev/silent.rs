//! Peers that are there and do not answer: nothing waits for them longer than its limit, and what was begun
//! leaves nothing behind.

use std::{
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use pmd::Config;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketType};

use crate::{
    peer::{echo, is_home},
    rig::{Rig, becomes, open, pool},
    testpmd::{Testpmd, is_here},
};

/// The limit, and what a busy machine needs besides.
const LONGEST: Duration = Duration::from_secs(40);

fn virtio(number: u32, socket: &Path) -> String {
    format!("net_virtio_user{number},path={},queues=1,queue_size=1024", socket.display())
}

/// Does something, in the time that everything has.
fn in_time<T>(what: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let done = what();
    assert!(begin.elapsed() < LONGEST, "{:?}", begin.elapsed());
    done
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    (dir, socket)
}

#[test]
fn a_peer_that_takes_a_connection_and_says_nothing_is_given_up() {
    let (_dir, socket) = place();
    let listener = UnixListener::bind(&socket).unwrap();
    let device = virtio(40, &socket);
    let error = in_time(|| open(&device)).err().unwrap().to_string();
    let said = format!(
        "attaching 'net_virtio_user40' took more than 10 s and was interrupted; who listens at {} does not \
         answer: see that it runs, and that it is what this driver talks to",
        socket.display()
    );
    assert!(error.contains(&said), "{error}");
    open("net_null40").unwrap();
    drop(listener);
    if is_here("a_peer_that_takes_a_connection_and_says_nothing_is_given_up") {
        // The same device, once somebody answers.
        std::fs::remove_file(&socket).unwrap();
        let _peer = Testpmd::start(&format!("net_vhost0,iface={},queues=1", socket.display()));
        let mut rig = Rig::start(&device, 2048);
        assert!(becomes(&*rig.device, true), "no link to testpmd");
        echo(&mut rig, 200);
        is_home(rig);
    }
}

/// A socket whose queue of connections is full: who connects to it waits.
fn full(socket: &Path, kind: SocketType) -> [rustix::fd::OwnedFd; 2] {
    let address = SocketAddrUnix::new(socket).unwrap();
    let [listener, filler] = [0; 2].map(|_| net::socket(AddressFamily::UNIX, kind, None).unwrap());
    net::bind(&listener, &address).unwrap();
    net::listen(&listener, 0).unwrap();
    net::connect(&filler, &address).unwrap();
    [listener, filler]
}

#[test]
fn a_peer_that_takes_no_connection_is_given_up_when_a_port_is_attached_or_started() {
    let (_dir, socket) = place();
    let _full = full(&socket, SocketType::STREAM);
    let error = in_time(|| open(&virtio(41, &socket))).err().unwrap().to_string();
    assert!(error.contains("attaching 'net_virtio_user41' took more than 10 s"), "{error}");

    let (_dir, socket) = place();
    let _full = full(&socket, SocketType::SEQPACKET);
    let device = format!("net_memif41,role=client,socket={},socket-abstract=no", socket.display());
    let (mut port, pool) = (open(&device).unwrap(), pool(256));
    let error = in_time(|| port.start(Config::one_queue(&pool))).err().unwrap().to_string();
    assert!(error.contains("starting 'net_memif41' took more than 10 s"), "{error}");
    in_time(|| drop(port));
    assert!(pool.audit().is_home(), "{}", pool.audit());
    open("net_null41").unwrap();
}

#[test]
fn a_memif_port_whose_peer_says_nothing_has_no_link_and_stops() {
    let (_dir, socket) = place();
    let address = SocketAddrUnix::new(&socket).unwrap();
    let listener = net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    net::bind(&listener, &address).unwrap();
    net::listen(&listener, 8).unwrap();
    let place = format!("socket={},socket-abstract=no", socket.display());
    let rig = in_time(|| Rig::start(&format!("net_memif42,role=client,{place}"), 256));
    assert!(!rig.device.link().is_up);
    in_time(|| is_home(rig));
}

#[test]
fn a_peer_that_stands_still_does_not_keep_a_port_from_closing() {
    if is_here("a_peer_that_stands_still_does_not_keep_a_port_from_closing") {
        let (_dir, socket) = place();
        let peer = Testpmd::start(&format!("net_vhost0,iface={},queues=1", socket.display()));
        let mut rig = Rig::start(&virtio(43, &socket), 2048);
        assert!(becomes(&*rig.device, true), "no link to testpmd");
        echo(&mut rig, 200);
        peer.freeze();
        in_time(|| is_home(rig));
        // Its name is free again, and others can be opened.
        open("net_null43").unwrap();
        assert!(UnixStream::connect(&socket).is_ok(), "it still listens");
    }
}
