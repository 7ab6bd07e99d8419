//! Captures that somebody damaged: frames or an error, never a panic, and never more memory than a
//! window.
#![allow(unsafe_code, reason = "counts what the heap is asked for")]

#[path = "pcap/captures.rs"]
mod captures;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use captures::{
    Big, Little, NANO, block, blocks, classic, frames, header, interface, option, packet, record,
    section, simple, udp,
};
use mempool::{Burst, Pool, heap::Heap};
use pmd::{
    AnyRxQueue, Config, Health, Registry, RxMemory,
    pcap::{
        Direction, Format, Interface, MAX_CAPTURED, Note, Packet, ReadError, Reader, Section,
        Statistics, Writer,
    },
};

thread_local! {
    /// Bytes held by this thread, and the most there were.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counting;

fn count(bytes: isize) {
    // A thread that ends frees without being counted.
    let _ = HELD.try_with(|held| {
        let now = held.get().0 + bytes;
        held.set((now, held.get().1.max(now)));
    });
}

// SAFETY: the system's allocator, and a count beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise, passed on. (Lazily zeroed pages stay lazy.)
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

/// The most bytes held at once while `run` ran, above what was held before.
fn peak(run: impl FnOnce()) -> isize {
    let before = HELD.get().0;
    HELD.set((before, before));
    run();
    HELD.get().1 - before
}

/// A small generator of numbers that look random (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % sides
    }
}

fn originals() -> Vec<Vec<u8>> {
    let mut mixed = Vec::new();
    for order in [Big, Little] {
        mixed.extend(section(order));
        mixed.extend(interface(order, 1, &option(order, 9, &[9])));
        mixed.extend(interface(order, 1, &option(order, 9, &[0x8a])));
        mixed.extend(packet(order, 1, 1 << 40, 1500, &udp(1, 1, 61), &option(order, 1, b"why")));
        mixed.extend(block(order, 5, &[1; 40]));
        mixed.extend(simple(order, 60, &udp(1, 2, 60)));
        mixed.extend(packet(order, 0, 1 << 60, 64, &udp(1, 3, 64), &[]));
    }
    let mut big = header(Big, NANO, 4 << 28 | 1 << 26 | 1);
    big.extend(record(Big, 1, 2, 64, 64, &udp(1, 1, 64)));
    big.extend(record(Big, 1, 2, 60, 1500, &udp(1, 1, 60)));
    // What is passed over: names, secrets, a journal, custom blocks, blocks nobody knows.
    let mut others = section(Little);
    others.extend(interface(Little, 1, &option(Little, 9, &[9])));
    for kind in [4, 9, 10, 0x0bad, 0x4000_0bad, 0x8000_0001] {
        others.extend(block(Little, kind, &[7; 100]));
        others.extend(packet(Little, 0, 5, 64, &udp(1, 3, 64), &option(Little, 4, &[9; 8])));
    }
    vec![
        mixed,
        big,
        others,
        told(),
        classic(&frames(&[60, 64, 300, 60])),
        blocks(&frames(&[60, 61, 300, 60])),
    ]
}

/// A capture that says all that can be said, as our own writer says it.
fn told() -> Vec<u8> {
    let section = Section { comment: Some("c".repeat(50)), ..Section::here("test") };
    let interface = Interface {
        name: Some("eth0".into()),
        description: Some("an interface".into()),
        filter: Some("udp".into()),
    };
    let interfaces = [interface.clone(), interface];
    let mut writer =
        Writer::with_interfaces(Vec::new(), Format::Pcapng, 200, &section, &interfaces);
    for number in 0..8_u16 {
        let frame = udp(number, 0, 60 + usize::from(number));
        let packet = Packet::whole(u32::from(number % 2), 1 << 60, frame.len());
        let note = Note {
            direction: Some(Direction::Outbound),
            dropped: Some(3),
            comment: Some("this and that"),
        };
        writer.write_noted(&packet, &note, std::iter::once(frame.as_slice())).unwrap();
        let counts = Statistics { received: Some(9), end: Some(7), ..Statistics::default() };
        writer.write_statistics(u32::from(number % 2), 1 << 60, &counts).unwrap();
    }
    writer.finish().unwrap()
}

/// Damages a file in one to four places.
fn damage(file: &mut Vec<u8>, dice: &mut Dice) {
    const WORDS: [u32; 10] =
        [0, 1, 11, 12, 0x7fff_ffff, 0x8000_0000, u32::MAX, u32::MAX - 3, 262_144, 262_145];
    for _ in 0..=dice.roll(4) {
        if file.len() < 8 {
            return;
        }
        let at = dice.roll(file.len() - 4);
        match dice.roll(7) {
            0 => file[at] ^= 1 << dice.roll(8),
            1 => file[at] = u8::try_from(dice.roll(256)).unwrap(),
            2 => file.truncate(at),
            3 => {
                let word = WORDS[dice.roll(WORDS.len())];
                file[at / 4 * 4..][..4].copy_from_slice(&word.to_le_bytes());
            }
            4 => {
                let word = WORDS[dice.roll(WORDS.len())];
                file[at / 4 * 4..][..4].copy_from_slice(&word.to_be_bytes());
            }
            5 => {
                let end = (at + 1 + dice.roll(64)).min(file.len());
                drop(file.drain(at..end));
            }
            _ => {
                let end = (at + dice.roll(400)).min(file.len());
                let copy = file[at..end].to_vec();
                file.extend(copy);
            }
        }
    }
}

fn rounds() -> usize {
    if std::env::var_os("MEMWIRE_FULL").is_some_and(|full| full == "1") { 200_000 } else { 20_000 }
}

#[test]
fn a_damaged_capture_yields_frames_or_an_error_in_bounded_memory() {
    let originals = originals();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut good, mut broken) = (0, 0);
    for round in 0..rounds() {
        let mut file = originals[round % originals.len()].clone();
        damage(&mut file, &mut dice);
        let held = peak(|| {
            let mut reader = Reader::new(file.as_slice());
            let (mut number, mut offset) = (0, 0);
            loop {
                match reader.read_record() {
                    Ok(Some(record)) => {
                        assert_eq!(record.number, number + 1);
                        assert!(record.offset > offset || number == 0);
                        assert!(record.bytes.len() <= MAX_CAPTURED.min(record.original));
                        (number, offset) = (record.number, record.offset);
                    }
                    Ok(None) => {
                        good += 1;
                        break;
                    }
                    Err(ReadError::Record { record, offset, .. }) => {
                        assert_eq!(record, number + 1);
                        assert!(offset <= file.len() as u64);
                        broken += 1;
                        break;
                    }
                    Err(ReadError::Header { .. }) => {
                        broken += 1;
                        break;
                    }
                    Err(error) => panic!("round {round}: {error}"),
                }
            }
        });
        assert!(held <= 640 << 10, "round {round} took {held} B");
    }
    assert!(good * 20 > rounds() && broken * 20 > rounds(), "{good} whole, {broken} broken");
}

#[test]
fn a_port_on_a_damaged_capture_accounts_for_every_frame() {
    let originals = originals();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.pcap");
    let pool: Pool<mempool::Cpu> =
        Pool::builder().slots(64).stride(256).memory(&Heap::new()).build().unwrap();
    let mut cache = pool.cache();
    let mut dice = Dice(0x1234_5678_9abc_def1);
    for round in 0..rounds() / 40 {
        let mut file = originals[round % originals.len()].clone();
        damage(&mut file, &mut dice);
        std::fs::write(&path, &file).unwrap();
        let option = ["", ",strict", ",loop"][dice.roll(3)];
        let Ok(mut device) = Registry::new().open(&format!("pcap:{}{option}", path.display()))
        else {
            continue;
        };
        let config = (0..2)
            .fold(Config::default(), |config, _| config.with_rx(RxMemory::Whole(pool.clone())));
        let mut queues = device.start(config).unwrap();
        let mut got = 0;
        for _ in 0..20 {
            for queue in &mut queues.rx {
                let AnyRxQueue::Whole(queue) = queue else { unreachable!("not configured") };
                let mut burst = Burst::new(&pool);
                got += queue.recv(&mut cache, &mut burst);
                burst.recycle(&mut cache);
            }
        }
        assert!(option == ",loop" || device.health() != Health::Good, "round {round}");
        let (rx, _, _) = device.stats();
        assert!(rx.is_balanced());
        assert_eq!(rx.delivered, got as u64);
        device.stop(queues).unwrap();
    }
    cache.flush();
    assert_eq!(pool.audit().held, 0);
}
