//! The models' watchfulness: each thing that a datasheet forbids is noticed, so that a run without
//! violations says something.

use pmd::{
    e1000::model::{Chip, Options, Work},
    pci::{Bus, Mmio},
};

use super::{
    raw::{RCTL_ALL, RING, Raw, udp},
    rig::CHIPS,
};

fn started(chip: Chip, work: Work) -> Raw {
    let raw = Raw::new(Options::new(chip).work(work));
    raw.model.tick();
    raw.start_rx(RCTL_ALL);
    raw.start_tx();
    raw.expect_none();
    raw
}

#[test]
fn a_tail_beyond_the_ring() {
    for chip in CHIPS {
        let raw = started(chip, Work::Prompt);
        raw.mmio.write(raw.block(false, 0) + 0x18, RING);
        raw.expect_violation("tail of rx queue 0 set to 16");
    }
}

#[test]
fn a_ring_without_an_empty_descriptor() {
    for chip in CHIPS {
        let mut raw = started(chip, Work::Ticked);
        raw.post(RING - 1);
        raw.expect_none();
        raw.post(1);
        raw.expect_violation("leave none of 16 empty");
    }
}

#[test]
fn descriptors_that_were_not_reported_are_not_free() {
    for chip in CHIPS {
        let mut raw = started(chip, Work::Prompt);
        let frame = udp([2, 0, 0, 0, 0, 7], [5, 6], 100, true);
        let at = raw.put(0, &frame);
        let (len, kind) = (frame.len() as u64, if chip == Chip::I82574 { 1 } else { 3 });
        // Without "report status": sent, but the driver cannot know.
        let paylen = if chip == Chip::I82576 { len << 46 } else { 0 };
        let silent = [at, len | kind << 20 | 0x23 << 24 | paylen];
        (0..RING - 1).for_each(|_| raw.send(&[silent]));
        assert_eq!(raw.model.sent().len() as u32, RING - 1);
        raw.expect_none();
        raw.send(&[silent]);
        raw.expect_violation("leave none of 16 empty");
    }
}

#[test]
fn a_descriptor_changed_while_the_device_owns_it() {
    for chip in CHIPS {
        let mut raw = started(chip, Work::Ticked);
        raw.post(4);
        raw.write_rx(2, 16, &[raw.buffer(9), 0]);
        (0..4).for_each(|_| raw.model.inject(&udp([0xff; 6], [5, 6], 100, true)));
        raw.expect_none();
        raw.model.tick();
        raw.expect_violation("descriptor 2 of rx queue 0 was changed while the device owned it");
    }
}

#[test]
fn buffers_that_are_not_mapped() {
    for chip in CHIPS {
        let raw = started(chip, Work::Prompt);
        raw.write_rx(0, 16, &[0x1000, 0]);
        raw.mmio.write(raw.block(false, 0) + 0x18, 1);
        raw.expect_violation("descriptor 0 of rx queue 0: its buffer is not mapped");
        raw.model.inject(&udp([0xff; 6], [5, 6], 100, true));
        raw.expect_violation("dma write of 142 B at iova 0x1000: not mapped");
    }
}

#[test]
fn a_buffer_of_no_bytes() {
    for chip in CHIPS {
        let mut raw = started(chip, Work::Prompt);
        raw.send(&[[raw.buffer(0), 0x0b << 24]]);
        raw.expect_violation("descriptor 0 of tx queue 0: its buffer has 0 bytes");
    }
}

#[test]
fn a_descriptor_that_says_done_or_has_reserved_bits() {
    for chip in CHIPS {
        let raw = started(chip, Work::Prompt);
        raw.write_rx(0, 16, &[raw.buffer(0), 1]);
        raw.mmio.write(raw.block(false, 0) + 0x18, 1);
        let text = if chip == Chip::I82574 { "reserved word" } else { "\"done\" already" };
        raw.expect_violation(text);
        raw.mmio.write(0x100, RCTL_ALL | 1);
        raw.expect_violation("RCTL written with reserved bits");
    }
}

#[test]
fn a_queue_enabled_without_a_ring() {
    for (chip, bytes) in [(Chip::I82574, 100), (Chip::I82576, 0)] {
        let raw = Raw::new(Options::new(chip));
        raw.mmio.write(raw.block(false, 0) + 8, bytes);
        raw.mmio.write(raw.block(false, 0) + 0x28, 1 << 25);
        raw.mmio.write(0x100, RCTL_ALL);
        raw.expect_violation("rx queue 0 enabled with a ring of");
    }
    for chip in CHIPS {
        let raw = Raw::new(Options::new(chip));
        raw.mmio.write(raw.block(false, 0) + 8, 256);
        raw.mmio.write(raw.block(false, 0) + 0x28, 1 << 25);
        raw.mmio.write(0x100, RCTL_ALL);
        raw.expect_violation("rx queue 0 enabled with a ring at 0x0");
    }
}

#[test]
fn a_ring_that_is_moved_or_a_tail_that_comes_too_early() {
    for chip in CHIPS {
        let raw = started(chip, Work::Prompt);
        raw.mmio.write(raw.block(true, 0) + 8, 128);
        raw.expect_violation("register 0x8 of tx queue 0 changed while it runs");
    }
    let raw = Raw::new(Options::new(Chip::I82576));
    raw.mmio.write(0xc018, 5);
    raw.expect_violation("tail of rx queue 0 written before it was enabled");
}

#[test]
fn a_doorbell_without_bus_mastering() {
    for chip in CHIPS {
        let mut raw = started(chip, Work::Prompt);
        raw.bus.set_bus_master(false).unwrap();
        raw.post(1);
        raw.expect_violation("may not master the bus");
    }
}

#[test]
fn offloads_without_what_they_need() {
    for (chip, kind) in [(Chip::I82574, 1), (Chip::I82576, 3)] {
        let mut raw = started(chip, Work::Prompt);
        let frame = udp([2, 0, 0, 0, 0, 7], [5, 6], 100, true);
        let (at, len) = (raw.put(0, &frame), frame.len() as u64);
        let paylen = if chip == Chip::I82576 { len << 46 } else { 0 };
        raw.send(&[[at, len | kind << 20 | 0x2b << 24 | 2 << 40 | paylen]]);
        raw.expect_violation("offloads asked for without a context");
        raw.send(&[[at, len | kind << 20 | 0x6b << 24 | paylen]]);
        raw.expect_violation("a tag to insert while CTRL.VME is off");
        raw.send(&[[at, len | kind << 20 | 0x29 << 24 | paylen]]);
        raw.expect_violation("without \"insert FCS\"");
    }
}

#[test]
fn registers_that_there_are_not() {
    let raw = Raw::new(Options::new(Chip::I82574));
    raw.mmio.read(0x2_0000);
    raw.mmio.write(0x102, 0);
    raw.expect_violation("no register at 0x20000");
    raw.expect_violation("no register at 0x102");
}
