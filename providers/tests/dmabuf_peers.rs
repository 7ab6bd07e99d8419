//! Exporters that are not what they should be: what is told of them, and that nothing is held afterwards. Needs
//! no dma-buf.

use std::{
    fs::{self, File},
    io::IoSlice,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixDatagram, UnixListener},
    },
    path::Path,
    thread,
};

use mempool::ProviderError;
use providers::dmabuf::Buffer;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType,
};

/// A message that announces a dma-buf, as the protocol has it.
fn here(has_memory: bool) -> [u8; 64] {
    let mut message = [0; 64];
    message[..8].copy_from_slice(b"memwire\0");
    message[8] = 1;
    message[12] = 1;
    message[16..24].copy_from_slice(&(1u64 << 20).to_le_bytes());
    message[24..28].copy_from_slice(&4096u32.to_le_bytes());
    message[28] = u8::from(has_memory);
    message[32..36].copy_from_slice(b"fake");
    message
}

fn listen(path: &Path) -> OwnedFd {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::listen(&socket, 1).unwrap();
    socket
}

/// What is told of an exporter that does `deed` with who connects.
fn told_of(deed: impl FnOnce(OwnedFd) + Send) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("offer");
    let socket = listen(&path);
    let error = thread::scope(|scope| {
        scope.spawn(|| deed(rustix::net::accept(socket).unwrap()));
        Buffer::receive(&path).unwrap_err()
    });
    assert!(matches!(error, ProviderError::BadRequest { .. }), "{error:?}");
    let (pid, path) = (std::process::id().to_string(), path.display().to_string());
    let text = error.to_string().replace(&pid, "PID");
    text.strip_prefix(&format!("dmabuf:{path}: ")).unwrap_or_else(|| panic!("{text}")).to_owned()
}

fn send(to: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(fds.is_empty() || beside.push(SendAncillaryMessage::ScmRights(fds)));
    rustix::net::sendmsg(to, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL).unwrap();
}

#[test]
fn what_comes_must_be_a_dma_buf() {
    let device = File::open("/dev/null").unwrap();
    let told = told_of(|to| send(&to, &here(false), &[device.as_fd()]));
    assert_eq!(told, "what process PID calls fake is a device (/dev/null), not a dma-buf");
    let memory = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::empty()).unwrap();
    let told = told_of(|to| send(&to, &here(true), &[memory.as_fd(), memory.as_fd()]));
    assert!(
        told.starts_with("what process PID calls fake is a memory file (memfd:x), not a"),
        "{told}"
    );
}

#[test]
fn as_many_descriptors_must_come_as_were_announced() {
    let device = File::open("/dev/null").unwrap();
    let none = told_of(|to| send(&to, &here(false), &[]));
    assert_eq!(none, "descriptors announced: 1, received: 0");
    let one = told_of(|to| send(&to, &here(true), &[device.as_fd()]));
    assert_eq!(one, "descriptors announced: 2, received: 1");
    let many = told_of(|to| send(&to, &here(false), &[device.as_fd(); 8]));
    assert!(many.contains("it sent more descriptors than there can be"), "{many}");
}

#[test]
fn who_does_not_speak_the_protocol_is_told_from_who_hangs_up() {
    let garbage = told_of(|to| send(&to, &[7; 64], &[]));
    assert_eq!(garbage, "process PID at the other end: it does not speak memwire's protocol");
    let short = told_of(|to| send(&to, b"hello", &[]));
    assert_eq!(short, "process PID at the other end: a message of 5 bytes, not 64");
    let long = told_of(|to| send(&to, &[7; 100], &[]));
    assert_eq!(long, "process PID at the other end: a message of 65 bytes, not 64");
    let gone = told_of(drop);
    assert!(gone.contains("it hung up: it offers to processes of its own user"), "{gone}");
    let mut back = here(false);
    back[12] = 2;
    assert_eq!(told_of(|to| send(&to, &back, &[])), "process PID takes it back already");
}

#[test]
fn pages_of_no_size_that_there_is_are_refused() {
    let device = File::open("/dev/null").unwrap();
    let mut odd = here(false);
    odd[24..28].copy_from_slice(&12345u32.to_le_bytes());
    let told = told_of(|to| send(&to, &odd, &[device.as_fd()]));
    assert_eq!(told, "pages of 12345 B, and there are such of 4 KiB, 2 MiB and 1 GiB");
}

#[test]
fn who_says_nothing_is_not_waited_for_for_ever() {
    let (done, waits) = std::sync::mpsc::channel::<()>();
    let told = told_of(move |to| {
        // Until the other side has given up.
        let _ = waits.recv_timeout(std::time::Duration::from_secs(6));
        drop(to);
    });
    drop(done);
    assert_eq!(told, "process PID at the other end: it said nothing in 5 s");
}

#[test]
fn a_path_where_nobody_offers_says_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let told = |path: &Path| Buffer::receive(path).unwrap_err().to_string();
    let path = |name: &str| folder.path().join(name);
    let none = told(&path("none"));
    assert!(
        none.ends_with("nobody offers there: memwire dmabuf export ... --socket PATH"),
        "{none}"
    );
    drop(listen(&path("left")));
    let left = told(&path("left"));
    assert!(left.contains("nobody listens: who offered there has ended"), "{left}");
    fs::write(path("file"), "").unwrap();
    let file = told(&path("file"));
    assert!(file.contains("or it is no socket"), "{file}");
    let _stream = UnixListener::bind(path("stream")).unwrap();
    let stream = told(&path("stream"));
    assert!(stream.ends_with("that socket is some other program's"), "{stream}");
    let _datagram = UnixDatagram::bind(path("datagram")).unwrap();
    assert!(told(&path("datagram")).ends_with("that socket is some other program's"));
    let long = told(&path(&"x".repeat(200)));
    assert!(long.contains("File name too long"), "{long}");
}
