//! The models by themselves: what they do with registers and descriptors that are written by hand, held
//! against the datasheets and against what an emulated chip was seen to do.

use pmd::{
    e1000::model::{Chip, Faults, Model, Options, Work},
    pci::{Bus, Mmio},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    raw::{RCTL_ALL, RING, Raw, udp},
    rig::CHIPS,
};

const OURS: [u8; 6] = [0x02, 0x57, 0x1e, 0, 0, 1];
const DD: u64 = 1;
const EOP: u64 = 2;

#[test]
fn a_reset_brings_back_the_station_address_and_takes_its_time() {
    for chip in CHIPS {
        let raw = Raw::new(Options { reset_delay: 2, ..Options::new(chip) });
        raw.mmio.write(0x5400, 0xdead_beef);
        raw.mmio.write(0, 1 << 26);
        assert_ne!(raw.mmio.read(0) & 1 << 26, 0);
        assert_ne!(raw.mmio.read(0) & 1 << 26, 0);
        assert_eq!(raw.mmio.read(0) & 1 << 26, 0, "over after two reads");
        assert_eq!(raw.mmio.read(0x5400), 0x001e_5702);
        assert_eq!(raw.mmio.read(0x5404), 0x8000_0100);
        raw.expect_none();
        raw.mmio.write(0, 1 << 26);
        raw.mmio.write(0x100, 2);
        raw.expect_violation("register 0x100 touched while the chip is in reset");
    }
}

#[test]
fn the_link_needs_a_cable_the_bit_and_on_the_82576_a_phy_that_was_started() {
    for chip in CHIPS {
        let model = Model::new(Options { link_delay: 3, ..Options::new(chip) });
        let mmio = model.bus().mmio();
        mmio.write(0, 1 << 6);
        let up = || (0..5).any(|_| mmio.read(8) & 2 != 0);
        if chip == Chip::I82576 {
            assert!(!up());
            mmio.write(0x20, 0x1200 | 1 << 21 | 1 << 26);
        }
        assert!(up());
        assert_eq!(mmio.read(8) & 0xc0, 0x80, "1000 Mb/s");
        model.set_cable(false);
        assert_eq!(mmio.read(8) & 2, 0);
        assert_ne!(mmio.read(0xc0) & 1 << 2, 0, "link status changed");
        model.set_cable(true);
        assert!(up());
    }
}

/// The frame of the packet split that was seen on an emulated 82574: 14 + 20 + 8 + 1000 bytes.
#[test]
fn packet_split_of_the_82574_is_as_it_was_seen() {
    let raw = Raw::new(Options::new(Chip::I82574));
    raw.set_ring(false, 0, 2 * RING);
    raw.mmio.write(0x5008, 1 << 15);
    raw.mmio.write(0x2170, 0x0202);
    for index in 0..RING - 1 {
        let [head, data] = [0, 16].map(|half| raw.buffer(u64::from(index + half)));
        raw.write_rx(index, 32, &[head, data, 0, 0]);
    }
    raw.mmio.write(0x100, 0x0400_841a);
    raw.mmio.write(0x2818, 2 * (RING - 1));
    let frame = udp(OURS, [9, 9], 1000, false);
    raw.model.inject(&frame);
    let words = raw.read_rx(0, 32);
    assert_eq!(words[1] & 0xffff_ffff, 0x2_0243);
    assert_eq!(words[1] >> 32 & 0xffff, 42, "first length");
    assert_eq!(words[2] & 0xffff, 0x802a, "header status");
    assert_eq!(words[2] >> 16 & 0xffff, 1000, "second length");
    assert_eq!([raw.data(0, 42), raw.data(16, 1000)].concat(), frame);
    // A frame without IP stays in one piece, header buffer first.
    let arp: Vec<u8> = [&[0xff; 6][..], &[2; 6], &[8, 6], &[7; 400]].concat();
    raw.model.inject(&arp);
    let words = raw.read_rx(1, 32);
    assert_eq!((words[1] >> 32 & 0xffff, words[2] >> 16 & 0xffff), (256, 158));
    assert_eq!(words[2] & 0x8000, 0, "not split");
    assert_eq!([raw.data(1, 256), raw.data(17, 158)].concat(), arp);
    raw.expect_none();
}

#[test]
fn header_split_of_the_82576_is_as_it_was_seen() {
    let raw = Raw::new(Options::new(Chip::I82576));
    raw.set_ring(false, 0, RING);
    raw.mmio.write(0xc00c, 0x0a00_0402);
    raw.mmio.write(0x5480, 0x3_ffff);
    raw.mmio.write(0xc028, 1 << 25);
    raw.mmio.write(0x100, 0x0400_801a);
    for index in 0..RING - 1 {
        let [head, data] = [0, 16].map(|half| raw.buffer(u64::from(index + half)));
        raw.write_rx(index, 16, &[data, head]);
    }
    raw.mmio.write(0xc018, RING - 1);
    let frame = udp(OURS, [9, 9], 1000, false);
    raw.model.inject(&frame);
    let words = raw.read_rx(0, 16);
    assert_eq!(words[1] & 0xffff_ffff, 0x243);
    assert_eq!(words[1] >> 32 & 0xffff, 1000);
    assert_eq!(words[0] >> 16 & 0xffff, 0x8540);
    assert_eq!([raw.data(0, 42), raw.data(16, 1000)].concat(), frame);
    // "Always": what does not split fills the header buffer first.
    let arp: Vec<u8> = [&[0xff; 6][..], &[2; 6], &[8, 6], &[7; 400]].concat();
    raw.model.inject(&arp);
    let words = raw.read_rx(1, 16);
    assert_eq!(words[0] >> 16 & 0xffff, 256 << 5, "not split, 256 B in the header buffer");
    assert_eq!(words[1] >> 32 & 0xffff, 158);
    raw.model.inject(&arp[..60]);
    let words = raw.read_rx(2, 16);
    assert_eq!((words[0] >> 21 & 0x3ff, words[1] >> 32 & 0xffff), (60, 0));
    raw.expect_none();
}

#[test]
fn legacy_descriptors_say_the_same_in_fewer_bits() {
    let mut raw = Raw::new(Options::new(Chip::I82574));
    raw.set_ring(false, 0, RING);
    raw.mmio.write(0x100, 0x0400_801a);
    raw.post(4);
    let frame = udp(OURS, [9, 9], 1000, false);
    raw.model.inject(&frame);
    let words = raw.read_rx(0, 16);
    assert_eq!((words[1] & 0xffff, words[1] >> 32 & 0xff), (1042, 0x43));
    assert_eq!(raw.data(0, 1042), frame);
    raw.expect_none();
}

#[test]
fn a_long_frame_fills_several_descriptors_and_ends_once() {
    for chip in CHIPS {
        let mut raw = Raw::new(Options::new(chip));
        raw.start_rx(RCTL_ALL | 1 << 5);
        raw.mmio.write(0x5004, 9022);
        let frame = udp(OURS, [1, 2], 5000, true);
        // Two descriptors are there, the third comes later.
        raw.post(2);
        raw.model.inject(&frame);
        assert_eq!(raw.read_rx(1, 16)[1] & (DD | EOP), DD);
        raw.post(2);
        let last = raw.read_rx(2, 16)[1];
        assert_eq!(last & (DD | EOP), DD | EOP);
        assert_eq!(last >> 32 & 0xffff, frame.len() as u64 - 4096);
        assert_ne!(last & 1 << 5, 0, "the transport checksum was looked at");
        let got = [raw.data(0, 2048), raw.data(1, 2048), raw.data(2, frame.len() - 4096)].concat();
        assert_eq!(got, frame);
        raw.expect_none();
    }
}

#[test]
fn wrong_checksums_and_stripped_tags_are_stated() {
    for chip in CHIPS {
        let mut raw = Raw::new(Options::new(chip));
        raw.start_rx(RCTL_ALL);
        raw.mmio.write(0, 1 << 6 | 1 << 30);
        raw.post(8);
        let mut frame = udp(OURS, [1, 2], 100, true);
        frame[60] ^= 1;
        raw.model.inject(&frame);
        let status = raw.read_rx(0, 16)[1];
        assert_eq!(status >> 29 & 3, 1, "transport wrong, IP right");
        frame[24] ^= 1;
        frame.splice(12..12, [0x81, 0, 0x20, 0x07]);
        raw.model.inject(&frame);
        let status = raw.read_rx(1, 16)[1];
        assert_eq!(status >> 29 & 3, 3);
        assert_eq!((status >> 3 & 1, status >> 48), (1, 0x2007));
        assert_eq!(status >> 32 & 0xffff, frame.len() as u64 - 4);
        raw.expect_none();
    }
}

#[test]
fn filters_let_in_what_they_are_told_to() {
    for chip in CHIPS {
        let mut raw = Raw::new(Options::new(chip));
        raw.start_rx(1 << 1 | 1 << 15 | 1 << 26);
        raw.post(12);
        let taken = |raw: &Raw, to: [u8; 6]| {
            let before = raw.mmio.read(0x4074);
            assert_eq!(before, 0, "cleared by the last read");
            raw.model.inject(&udp(to, [1, 2], 50, true));
            raw.mmio.read(0x4074) == 1
        };
        assert!(taken(&raw, OURS));
        assert!(taken(&raw, [0xff; 6]));
        assert!(!taken(&raw, [2, 9, 9, 9, 9, 9]));
        assert!(!taken(&raw, [0x01, 0, 0x5e, 1, 2, 3]));
        // A second station address, the last the chip has.
        let last = if chip == Chip::I82574 { 0x5478 } else { 0x54e0 + 7 * 8 };
        raw.mmio.write(last, 0x0909_0902);
        raw.mmio.write(last + 4, 1 << 31 | 0x0909);
        assert!(taken(&raw, [2, 9, 9, 9, 9, 9]));
        // The multicast table: bits 47:36 of the address.
        let hash = 0x0302u32 >> 4;
        raw.mmio.write(0x5200 + 4 * (hash >> 5), 1 << (hash & 31));
        assert!(taken(&raw, [0x01, 0, 0x5e, 1, 2, 3]));
        assert!(!taken(&raw, [0x01, 0, 0x5e, 1, 2, 0x33]));
        raw.expect_none();
    }
}

#[test]
fn frames_are_missed_when_the_packet_buffer_is_full() {
    for chip in CHIPS {
        let mut raw = Raw::new(Options { packet_buffer: 4096, ..Options::new(chip) });
        raw.start_rx(RCTL_ALL);
        raw.post(1);
        let frame = udp(OURS, [1, 2], 958, true);
        (0..10).for_each(|_| raw.model.inject(&frame));
        // One in memory, four in the chip, five lost; all but the first found no descriptor.
        assert_eq!(raw.mmio.read(0x4010), 5, "MPC");
        assert_eq!(raw.mmio.read(0x4074), 5, "GPRC");
        assert_eq!(raw.mmio.read(0x40a0), 4, "RNBC");
        raw.post(6);
        assert_eq!(raw.read_rx(4, 16)[1] & DD, DD);
        assert_eq!(raw.read_rx(5, 16)[1] & DD, 0);
        raw.expect_none();
    }
}

#[test]
fn the_82576_drops_for_a_queue_that_asks_for_it() {
    let mut raw = Raw::new(Options::new(Chip::I82576));
    raw.start_rx(RCTL_ALL);
    raw.mmio.write(0xc00c, 0x8200_0002);
    raw.post(1);
    (0..10).for_each(|_| raw.model.inject(&udp(OURS, [1, 2], 50, true)));
    assert_eq!((raw.mmio.read(0xc030), raw.mmio.read(0xc030)), (9, 0), "cleared by the first read");
}

#[test]
fn frames_that_are_damaged_short_or_long_are_counted_and_left_out() {
    for chip in CHIPS {
        let mut raw = Raw::new(Options::new(chip));
        raw.start_rx(RCTL_ALL);
        raw.post(4);
        raw.model.inject_damaged(&udp(OURS, [1, 2], 50, true));
        raw.model.inject(&udp(OURS, [1, 2], 10, true));
        raw.model.inject(&udp(OURS, [1, 2], 1473, true));
        assert_eq!(raw.mmio.read(0x4000), 1, "CRCERRS");
        assert_eq!(raw.mmio.read(0x40a4), 1, "RUC");
        assert_eq!(raw.mmio.read(0x40ac), 1, "ROC");
        assert_eq!(raw.mmio.read(0x40d0), 3, "TPR");
        assert_eq!(raw.mmio.read(0x4074), 0, "GPRC");
        raw.model.inject(&udp(OURS, [1, 2], 1472, true));
        assert_eq!(raw.read_rx(0, 16)[1] >> 32 & 0xffff, 1514);
        raw.expect_none();
    }
}

#[test]
fn rss_chooses_a_queue_by_microsofts_hash() {
    for chip in CHIPS {
        let mut raw = Raw::new(Options::new(chip));
        raw.start_rx(RCTL_ALL);
        raw.mmio.write(0x5000, 1 << 13);
        let key = pmd::Rss::default().key;
        for (at, four) in key.as_chunks::<4>().0.iter().enumerate() {
            raw.mmio.write(0x5c80 + 4 * at as u32, u32::from_le_bytes(*four));
        }
        raw.mmio.write(0x5818, if chip == Chip::I82574 { 1 } else { 2 } | 3 << 16);
        raw.post(4);
        let mut frame = udp(OURS, [2794, 1766], 60, false);
        frame[26..34].copy_from_slice(&[66, 9, 149, 187, 161, 142, 100, 80]);
        raw.model.inject(&frame);
        let words = raw.read_rx(0, 16);
        assert_eq!((words[0] >> 32, words[0] & 15), (0x323e_8fc2, 2), "IPv4, no ports");
        // Its entry of the table now names queue 1, which is not enabled.
        let entry = 0x323e_8fc2 & 127;
        let byte = if chip == Chip::I82574 { 0x80 } else { 1 };
        raw.mmio.write(0x5c00 + (entry & !3), byte << (8 * (entry & 3)));
        raw.expect_none();
        raw.model.inject(&frame);
        raw.expect_violation("frames go to rx queue 1, which is not enabled");
    }
}

/// A TCP or UDP frame to send, its transport sum that of the pseudo header, its IP sum 0.
fn unsummed(payload: usize) -> Vec<u8> {
    let mut frame = udp([2, 0, 0, 0, 0, 7], [5, 6], payload, false);
    frame[24..26].fill(0);
    let pseudo = 0x0a00 + 1 + 0x0a00 + 2 + 17 + 8 + payload as u16;
    frame[40..42].copy_from_slice(&pseudo.to_be_bytes());
    frame
}

#[test]
fn the_82574_sends_legacy_and_data_descriptors() {
    let mut raw = Raw::new(Options::new(Chip::I82574));
    raw.start_tx();
    let frame = udp([2, 0, 0, 0, 0, 7], [5, 6], 100, true);
    let at = raw.put(0, &frame);
    raw.send(&[[at, frame.len() as u64 | 0x0b << 24]]);
    assert_eq!(raw.model.sent(), [frame]);
    assert_eq!(raw.read_tx(0)[1] >> 32 & 1, 1, "reported");
    // A context, and a frame in two pieces whose checksums and tag are the chip's to insert.
    raw.mmio.write(0, 1 << 6 | 1 << 30);
    let bare = unsummed(100);
    let at = raw.put(1, &bare);
    let context = 14 | 24 << 8 | 33 << 16 | 34 << 32 | 40 << 40;
    let command = 1 << 20 | (1 << 1 | 1 << 5 | 1 << 6) << 24 | 3 << 40 | 0x6005 << 48;
    let rest = bare.len() as u64 - 30;
    raw.send(&[
        [context, 1 << 29],
        [at, 30 | command],
        [at + 30, rest | command | (1 << 3 | 1) << 24],
    ]);
    let sent = raw.model.sent().remove(0);
    assert_eq!(sent[12..16], [0x81, 0, 0x60, 5]);
    let untagged = [&sent[..12], &sent[16..]].concat();
    assert_eq!(untagged, udp([2, 0, 0, 0, 0, 7], [5, 6], 100, true));
    assert_eq!([1, 2, 3].map(|at| raw.read_tx(at)[1] >> 32 & 1), [0, 0, 1]);
    raw.expect_none();
}

#[test]
fn the_82576_sends_advanced_descriptors_and_leaves_nothing_of_them() {
    let mut raw = Raw::new(Options::new(Chip::I82576));
    raw.start_tx();
    let bare = unsummed(100);
    let at = raw.put(0, &bare);
    let context = [20 | 14 << 9, 1 << 10 | 2 << 20 | 1 << 29];
    let len = bare.len() as u64;
    let data = [at, len | 3 << 20 | (1 | 2 | 8 | 32) << 24 | 3 << 40 | len << 46];
    raw.send(&[context, data]);
    assert_eq!(raw.model.sent(), [udp([2, 0, 0, 0, 0, 7], [5, 6], 100, true)]);
    assert_eq!(raw.read_tx(1)[..2], [0, 1 << 32]);
    raw.expect_none();
    // Padded to 60 bytes.
    let at = raw.put(1, &bare[..20]);
    raw.send(&[[at, 20 | 3 << 20 | 0x2b << 24 | 20 << 46]]);
    assert_eq!(raw.model.sent()[0].len(), 60);
    raw.expect_none();
    raw.send(&[[at, 20 | 3 << 20 | 0x2b << 24 | 21 << 46]]);
    raw.expect_violation("PAYLEN is 21, the frame has 20 B");
}

/// Whether an interrupt came; takes it.
fn rang(fd: &std::os::fd::OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let came = poll(&mut fds, Some(&Timespec::default())).unwrap() > 0;
    came && rustix::io::read(fd, &mut [0; 8]).is_ok()
}

#[test]
fn an_interrupt_comes_once_for_each_time_it_is_asked_for() {
    for chip in CHIPS {
        let mut raw = Raw::new(Options::new(chip));
        let fds = raw.bus.interrupts(3).unwrap();
        let (mask, bit) = match chip {
            Chip::I82574 => {
                // Receive queue 0: vector 1, others: vector 2. Cleared and masked when sent.
                raw.mmio.write(0xe4, 9 | 0xa_0000);
                raw.mmio.write(0xdc, 1 << 20);
                raw.mmio.write(0xe0, 1 << 20);
                raw.mmio.write(0x18, 1 << 24);
                (0xd0, 1 << 20)
            }
            Chip::I82576 => {
                raw.mmio.write(0x1514, 1 << 4 | 1 << 30);
                raw.mmio.write(0x1700, 0x81);
                raw.mmio.write(0x1740, 0x82 << 8);
                raw.mmio.write(0x152c, 1 << 1);
                raw.mmio.write(0x1530, 1 << 1);
                raw.mmio.write(0x1524, 1 << 2);
                (0x1524, 1 << 1)
            }
        };
        raw.mmio.read(0xc0);
        raw.mmio.write(0xd0, 1 << 2 | u32::from(chip == Chip::I82574) << 24);
        raw.start_rx(RCTL_ALL);
        raw.post(8);
        let frame = udp(OURS, [1, 2], 50, true);
        raw.model.inject(&frame);
        assert!(!rang(&fds[1]), "not asked for yet");
        raw.mmio.write(mask, bit);
        assert!(rang(&fds[1]), "it was pending");
        raw.model.inject(&frame);
        assert!(!rang(&fds[1]), "masked by itself");
        raw.mmio.write(mask, bit);
        assert!(rang(&fds[1]));
        raw.model.set_cable(false);
        assert!(rang(&fds[2]) && !rang(&fds[1]), "the link's");
        assert!(!rang(&fds[0]));
        raw.expect_none();
    }
}

#[test]
fn a_late_chip_reports_in_order_and_the_seed_says_when() {
    for chip in CHIPS {
        let run = |seed: u64| {
            let mut raw = Raw::new(Options::new(chip).work(Work::Late).seed(seed));
            raw.model.tick();
            raw.start_rx(RCTL_ALL);
            raw.post(RING - 1);
            for _ in 0..RING - 1 {
                raw.model.inject(&udp(OURS, [1, 2], 50, true));
            }
            assert_eq!(raw.read_rx(0, 16)[1] & DD, 0, "nothing happens without a tick");
            let mut story = Vec::new();
            while *story.last().unwrap_or(&0) < RING - 1 {
                raw.model.tick();
                let done: Vec<_> = (0..RING - 1).map(|at| raw.read_rx(at, 16)[1] & DD).collect();
                assert!(done.is_sorted_by(|a, b| a >= b), "in order: {done:?}");
                story.push(done.iter().sum::<u64>() as u32);
                assert!(story.len() < 1000);
            }
            raw.expect_none();
            story
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }
}

#[test]
fn a_register_that_is_gone_reads_as_all_ones() {
    for chip in CHIPS {
        let mut raw = Raw::new(Options::new(chip));
        raw.start_rx(RCTL_ALL);
        raw.post(4);
        let gone_at = Some(raw.model.accesses() + 2);
        raw.model.set_faults(Faults { gone_at, ..Faults::default() });
        assert_ne!(raw.mmio.read(8), u32::MAX);
        assert_ne!(raw.mmio.read(8), u32::MAX);
        assert_eq!(raw.mmio.read(8), u32::MAX);
        raw.model.inject(&udp(OURS, [1, 2], 50, true));
        assert_eq!(raw.read_rx(0, 16)[1], 0, "no DMA any more");
    }
}
