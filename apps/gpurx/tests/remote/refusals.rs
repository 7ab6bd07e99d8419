//! What is not the hand-over of this version is refused in words, by both programs, and the other is told.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gpurx::handover::{
    Layout,
    client::dial,
    wire::{Area, AreaKind, Message, Offer},
};
use providers::SharedWords;
use rustix::{
    fs::MemfdFlags,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept, bind, listen, socket_with,
    },
};
use tempfile::TempDir;

use crate::{
    number,
    partner::{Consumer, Gpurx, socket},
};

const LAYOUT: Layout =
    Layout { generation: 1, entries: 16, rows: 64, slots: 256, stride: 2048, row_bits: 0 };

/// A socket where a test plays gpurx.
struct Desk {
    folder: TempDir,
    listener: OwnedFd,
}

impl Desk {
    fn open() -> Self {
        let folder = socket();
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let listener = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(folder.path().join("s")).unwrap()).unwrap();
        listen(&listener, 1).unwrap();
        Self { folder, listener }
    }

    /// Makes an offer; what the consumer says of it, to us and to its user. It has to end with `code`.
    fn offer(&self, area: Area, files: &[BorrowedFd<'_>], code: i32) -> (String, String) {
        let consumer = Consumer::at(&self.folder.path().join("s"), "-t 2s");
        let socket = accept(&self.listener).unwrap();
        assert_eq!(Message::recv(&socket).unwrap().0, Message::Greet);
        let offer = Offer { queue: 0, queues: 1, layout: LAYOUT, areas: vec![area] };
        Message::Offer(offer).send(&socket, files).unwrap();
        let answer = Message::recv(&socket).map(|(message, _)| format!("{message:?}"));
        let answer = answer.unwrap_or_else(|error| error.to_string());
        let (got, stdout, stderr) = consumer.end();
        assert_eq!(got, code, "{stdout}{stderr}");
        (answer, stderr)
    }
}

/// A ring whose header says `layout`, in a file of `words` words.
fn ring(layout: Layout, words: usize) -> SharedWords {
    let ring = SharedWords::create("test", words).unwrap();
    layout.write(&ring);
    ring
}

#[test]
fn a_consumer_refuses_what_it_cannot_trust() {
    let desk = Desk::open();
    let area = Area { kind: AreaKind::Memfd, first_slot: 0, slots: 256, offset: 0 };
    let good = ring(LAYOUT, LAYOUT.words());
    let memory = SharedWords::create("test", 256 * 2048 / 8).unwrap();
    let short = SharedWords::create("test", 1000).unwrap();
    let loose = rustix::fs::memfd_create("loose", MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&loose, 1 << 20).unwrap();
    let other = ring(Layout { stride: 4096, ..LAYOUT }, LAYOUT.words());
    let cut = ring(LAYOUT, LAYOUT.words() - 1);
    let next = ring(LAYOUT, LAYOUT.words());
    next.store(1, 2);
    let cases: [(&[BorrowedFd<'_>], i32, &str); 8] = [
        (&[], 1, "the ring: no file came with the offer"),
        (&[good.file()], 1, "not a file per area"),
        (&[loose.as_fd(), memory.file()], 1, "the ring: the file is not sealed against shrinking"),
        (&[good.file(), loose.as_fd()], 3, "payload memory (memfd): the file is not sealed"),
        (&[good.file(), short.file()], 3, "the file has 8000 B, 524288 are needed"),
        (&[other.file(), memory.file()], 1, "is not the one that was announced"),
        (&[cut.file(), memory.file()], 1, "its numbers make"),
        (&[next.file(), memory.file()], 1, "version 2 of the hand-over ring; this program speaks"),
    ];
    for (files, code, says) in cases {
        let (told, stderr) = desk.offer(area, files, code);
        assert!(stderr.contains(says), "{says}: {stderr}");
        assert!(told.starts_with("refused: ") && told.contains(says), "we are told: {told}");
    }
    let (told, stderr) = desk.offer(area, &[good.file(), memory.file()], 0);
    assert_eq!((&*told, &*stderr), ("Accept", ""), "and what is right is taken");
}

#[test]
fn an_entry_that_points_out_of_the_memory_ends_the_consumer() {
    let desk = Desk::open();
    let area = Area { kind: AreaKind::Memfd, first_slot: 0, slots: 256, offset: 0 };
    let memory = SharedWords::create("test", 256 * 2048 / 8).unwrap();
    // Rows | runs, first row | first slot, rows of the run, and the first row's word.
    for (head, run, len, row, says) in [
        (1 << 32 | 2, 255 << 32, 2, 8, "a run lies outside the payload memory"),
        (1 << 32 | 2, 1 << 32 | 1, 2, 8, "its runs are out of order"),
        (1 << 32 | 65, 0, 1, 8, "it has no rows, or more than a block"),
        (3 << 32 | 2, 0, 1, 8, "it has more runs than rows"),
        (1 << 32 | 2, 0, 0, 8, "a run has no rows, or too many"),
        (1 << 32 | 2, 0, 1, 2049, "a row is longer than a slot"),
    ] {
        let ring = ring(LAYOUT, LAYOUT.words());
        let at = LAYOUT.entry(0);
        ring.store(at + 2, head);
        ring.store(at + LAYOUT.map_at(), run);
        ring.store(at + LAYOUT.map_at() + 1, len);
        ring.store(at + LAYOUT.rows_at(), row);
        ring.release(at, LAYOUT.ticket(0).word());
        let (_, stderr) = desk.offer(area, &[ring.file(), memory.file()], 1);
        assert!(stderr.contains(says), "{says}: {stderr}");
    }
}

#[test]
fn gpurx_sends_away_who_speaks_otherwise() {
    let gpurx = Gpurx::start("-t 60s --rate 10kpps");
    let answer = |bytes: &[u8]| {
        let socket = dial(&gpurx.path()).unwrap();
        rustix::io::write(&socket, bytes).unwrap();
        Message::recv(&socket).unwrap_err().to_string()
    };
    let version_2: Vec<u8> =
        [0x6d65_6d77_6861_6e64_u64, 2, 1].into_iter().flat_map(u64::to_le_bytes).collect();
    assert_eq!(
        answer(&version_2),
        "refused: the other end speaks version 2 of the hand-over; this program speaks 1"
    );
    assert!(
        answer(b"GET / HTTP/1.1\r\n").contains("refused: what the other end says is no hand-over")
    );
    let socket = dial(&gpurx.path()).unwrap();
    Message::Accept.send(&socket, &[]).unwrap();
    let error = Message::recv(&socket).unwrap_err().to_string();
    assert!(error.contains("a greeting was due"), "{error}");
    // Takes the offer, and says why it does not want it.
    let socket = dial(&gpurx.path()).unwrap();
    Message::Greet.send(&socket, &[]).unwrap();
    assert!(matches!(Message::recv(&socket).unwrap().0, Message::Offer(_)));
    Message::Refuse("rows are too long".into()).send(&socket, &[]).unwrap();
    drop(socket);
    let (code, stdout, stderr) = Consumer::start(&gpurx, "-t 100ms").end();
    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    let summary = gpurx.stop();
    assert_eq!(number(&summary, "/consumer/refused"), 4, "{summary}");
    assert_eq!(number(&summary, "/consumer/attached"), 1);
}
