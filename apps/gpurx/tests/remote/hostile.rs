//! A consumer that writes into the ring what it likes. It lives here: the product has none.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use gpurx::handover::{
    Layout, Ticket,
    client::dial,
    wire::{Message, Offer},
};
use providers::SharedWords;

use crate::{
    number,
    partner::{Consumer, Gpurx},
};

/// Attached, with the ring in its hands.
pub(crate) struct Hostile {
    _socket: OwnedFd,
    words: SharedWords,
    layout: Layout,
    next: u32,
    returns: u32,
}

impl Hostile {
    pub(crate) fn attach(gpurx: &Gpurx) -> Self {
        let socket = dial(&gpurx.path()).unwrap();
        Message::Greet.send(&socket, &[]).unwrap();
        let (message, files) = Message::recv(&socket).unwrap();
        let Message::Offer(Offer { layout, .. }) = message else { panic!("{message:?}") };
        Message::Accept.send(&socket, &[]).unwrap();
        let words = SharedWords::open(files.into_iter().next().unwrap()).unwrap();
        Self { _socket: socket, words, layout, next: 0, returns: 0 }
    }

    /// Waits for the next block, and takes it.
    fn take(&mut self) -> Ticket {
        let (at, ticket) = (self.layout.entry(self.next), self.layout.ticket(self.next));
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.words.acquire(at) != ticket.word() {
            assert!(Instant::now() < deadline, "no block came");
            std::thread::yield_now();
        }
        self.next += 1;
        ticket
    }

    /// Writes a word where a return belongs, and waits until it was read.
    fn give(&mut self, word: u64) {
        let cell = self.layout.cell(self.returns);
        self.returns += 1;
        self.words.release(cell, word);
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.words.acquire(cell) != 0 {
            assert!(Instant::now() < deadline, "a return was not read");
            std::thread::yield_now();
        }
    }
}

#[test]
fn returns_that_name_nothing_that_is_out_are_refused_and_counted() {
    let gpurx = Gpurx::start("-t 60s --rate 100kpps");
    let mut hostile = Hostile::attach(&gpurx);
    let (first, second) = (hostile.take(), hostile.take());
    for _ in 0..3 {
        hostile.give(Ticket { entry: 0xffff, ..first }.word());
    }
    for _ in 0..4 {
        hostile.give(Ticket { generation: 9, ..first }.word());
    }
    for _ in 0..5 {
        hostile.give(Ticket { entry: second.entry, ..first }.word());
    }
    for ahead in 0..6 {
        hostile.give(hostile.layout.ticket(0x4000_0000 + ahead).word());
    }
    hostile.give(second.word());
    for _ in 0..7 {
        hostile.give(second.word());
    }
    hostile.give(first.word());
    hostile.give(first.word());
    // What the entries say is of no concern: they are written, and never read.
    for at in hostile.layout.entry(0)..hostile.layout.words() {
        hostile.words.store(at, u64::MAX);
    }
    drop(hostile);
    // The next one is served as if nothing had been.
    let (code, stdout, stderr) = Consumer::start(&gpurx, "-t 300ms").end();
    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    let summary = gpurx.stop();
    let refused = |why: &str| number(&summary, &format!("/consumer/refusals/{why}"));
    let wrong = ["out_of_range", "wrong_generation", "forged", "never_shown", "repeated"];
    assert_eq!(wrong.map(refused), [3, 4, 5, 6, 8], "{summary}");
    assert_eq!(number(&summary, "/consumer/attached"), 2);
    assert_eq!(number(&summary, "/consumer/shown_slots"), 0);
}

#[test]
fn a_flood_of_random_words_frees_nothing_twice() {
    let gpurx = Gpurx::start("-t 60s --rate 100kpps");
    let hostile = Hostile::attach(&gpurx);
    let (deadline, mut random) =
        (Instant::now() + Duration::from_secs(1), 0x9e37_79b9_7f4a_7c15_u64);
    let mut written = 0u64;
    while Instant::now() < deadline {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let count = u32::try_from(random & 0xffff).unwrap();
        let cell = hostile.layout.cell(count);
        // Half of them nearly right: the entry and the generation are, and the serial is a small number.
        let near = hostile.layout.ticket(count % 512).word();
        hostile.words.release(cell, if random & 1 << 40 == 0 { near } else { random });
        written += 1;
    }
    drop(hostile);
    // A consumer that checks every row would see one that was freed and filled again.
    let (code, stdout, stderr) = Consumer::start(&gpurx, "-t 300ms").end();
    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    let summary = gpurx.stop();
    let refused: u64 = summary["consumer"]["refusals"]
        .as_object()
        .unwrap()
        .values()
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert!(written > 1000 && refused > 100, "{written} written, {summary}");
}

#[test]
fn forged_words_while_areas_come_and_go_free_nothing_either() {
    let gpurx = Gpurx::start("-t 60s --rate 150kpps --blocks 10 --grow 8 --spill 4");
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..3 {
        // It keeps what it takes, so that memory grows, and answers no message but the offer: what is added waits.
        let hostile = Hostile::attach(&gpurx);
        let deadline = Instant::now() + Duration::from_millis(500);
        while Instant::now() < deadline {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let count = u32::try_from(random & 0xffff).unwrap();
            let near = hostile.layout.ticket(count % 64).word();
            hostile.words.release(
                hostile.layout.cell(count),
                if random & 1 << 40 == 0 { near } else { random },
            );
        }
        drop(hostile);
        let (code, stdout, stderr) = Consumer::start(&gpurx, "-t 400ms --delay 5ms").end();
        assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    }
    let (code, stdout, stderr) = Consumer::start(&gpurx, "-t 300ms").end();
    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    let summary = gpurx.stop();
    assert!(number(&summary, "/shortage/areas_added") >= 1, "{summary}");
    assert!(number(&summary, "/consumer/refusals/repeated") > 0, "{summary}");
    assert_eq!(number(&summary, "/consumer/shown_slots"), 0);
}
