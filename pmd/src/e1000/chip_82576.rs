//! How the 82576's receive and transmit units are set up (datasheet §4.5.9, §4.5.10), and its interrupts
//! (§7.3). Writes registers; makes no queue.

use super::{
    chip_82574::transmit_control,
    filters::{self, receive_control},
    init::{QUEUE, Trouble},
    plan::{Plan, RxForm},
    queues::RingMemory,
    register::Registers,
    registers::{
        EIAC, EIAM, EIMS, EITR, GPIE, IVAR, IVAR_MISC, MRQC, PSRTYPE, RCTL, RETA, RFCTL, RLPML,
        RXCSUM, RXDCTL, SRRCTL, TXDCTL,
    },
};
use crate::{e1000::chip::Chip, pci::Mmio};

/// SRRCTL.DESCTYPE (§8.10.2): advanced descriptors, one buffer.
const ONE_BUFFER: u32 = 0b001;
/// SRRCTL.DESCTYPE: advanced descriptors, always split. A frame whose headers are not understood fills
/// the header buffer, so that its head can be read too.
const SPLIT_ALWAYS: u32 = 0b101;

/// Sets the receive unit up and lets it run; its rings are empty.
pub(super) fn receive<M: Mmio>(
    regs: &Registers<M>,
    plan: &Plan,
    rings: &[RingMemory],
) -> Result<(), Trouble> {
    regs.write(RFCTL::default().with(RFCTL::NFSW_DIS, true).with(RFCTL::NFSR_DIS, true));
    // The hash takes the place of the packet checksum, which nobody needs (PCSD).
    let sums = RXCSUM::default().with(RXCSUM::IPOFLD, true).with(RXCSUM::TUOFLD, true);
    regs.write(sums.with(RXCSUM::PCSD, true).with(RXCSUM::CRCOFL, true));
    // With FCS.
    let longest = u32::try_from(plan.max_frame + 4).unwrap_or(RLPML::RLPML.most());
    regs.write(RLPML::default().with(RLPML::RLPML, longest));
    regs.write(all_headers());
    for (index, ring) in rings.iter().enumerate() {
        enable(regs, plan, (index, ring))?;
    }
    // TCP, UDP and IP over IPv4 and IPv6 (§8.11).
    let mrqc = plan.rss.as_ref().map_or(MRQC::default(), |(key, table)| {
        filters::write_hash_key(regs, key);
        for (at, four) in table.chunks_exact(4).enumerate() {
            let entry = |at: usize| u32::from(four[at]);
            let reta = RETA::default().with(RETA::ENTRY0, entry(0)).with(RETA::ENTRY1, entry(1));
            regs.entry(at).write(reta.with(RETA::ENTRY2, entry(2)).with(RETA::ENTRY3, entry(3)));
        }
        MRQC::default().with(MRQC::ENABLE, 2u32).with(MRQC::FIELDS, 0xF7u32)
    });
    regs.write(mrqc);
    if !rings.is_empty() {
        regs.write(receive_control(plan).with(RCTL::EN, true));
    }
    Ok(())
}

/// Sets one receive queue up and lets it run; its ring is empty (§4.5.9).
pub(super) fn enable<M: Mmio>(
    regs: &Registers<M>,
    plan: &Plan,
    (index, ring): (usize, &RingMemory),
) -> Result<(), Trouble> {
    let registers = regs.at(Chip::E82576.rx_queue(index));
    ring.program_rx(&registers);
    // A queue that nobody empties shall not hold up its siblings.
    let form = SRRCTL::default().with(SRRCTL::DROP_EN, plan.rx.len() > 1);
    registers.write(match plan.rx[index].form {
        RxForm::Whole { buffer } => {
            let form = form.with(SRRCTL::DESCTYPE, ONE_BUFFER);
            form.with(SRRCTL::BSIZEPACKET, units(buffer, 1024))
        }
        RxForm::Split { head, buffer } => {
            let form = form.with(SRRCTL::DESCTYPE, SPLIT_ALWAYS);
            let form = form.with(SRRCTL::BSIZEHEADER, units(head, 64));
            form.with(SRRCTL::BSIZEPACKET, units(buffer, 1024))
        }
    });
    let control = RXDCTL::default().with(RXDCTL::PTHRESH, 8u32).with(RXDCTL::HTHRESH, 8u32);
    registers.write(control.with(RXDCTL::WTHRESH, 1u32).with(RXDCTL::ENABLE, true));
    registers
        .wait(QUEUE, |control: RXDCTL| control.has(RXDCTL::ENABLE))
        .ok_or(Trouble::Queue { what: "receive", index })?;
    Ok(())
}

/// Stops one receive queue, whatever the others do. The chip ends what it has begun for it, and clears
/// ENABLE only after the last access to its descriptors and buffers (§4.5.9, §8.10.8): on success they are
/// the driver's. Frames for the queue that come from then on are dropped by the chip.
pub(super) fn disable<M: Mmio>(regs: &Registers<M>, index: usize) -> Result<(), Trouble> {
    let queue = regs.at(Chip::E82576.rx_queue(index));
    let control: RXDCTL = queue.read();
    if control.0 == u32::MAX {
        return Err(Trouble::Gone);
    }
    queue.write(control.with(RXDCTL::ENABLE, false));
    let off = queue.wait(QUEUE, |control: RXDCTL| !control.has(RXDCTL::ENABLE));
    off.map(drop).ok_or(Trouble::Queue { what: "receive", index })
}

/// Headers up to the transport's are split off, and none of an application (§8.10.3).
fn all_headers() -> PSRTYPE {
    let fields = [
        PSRTYPE::IPV4,
        PSRTYPE::IPV4_TCP,
        PSRTYPE::IPV4_UDP,
        PSRTYPE::IPV4_IPV6,
        PSRTYPE::IPV4_IPV6_TCP,
        PSRTYPE::IPV4_IPV6_UDP,
        PSRTYPE::IPV6,
        PSRTYPE::IPV6_TCP,
        PSRTYPE::IPV6_UDP,
    ];
    fields.into_iter().fold(PSRTYPE::default(), |types, field| types.with(field, true))
}

/// Sets the transmit unit up and lets it run; its rings are empty.
pub(super) fn transmit<M: Mmio>(regs: &Registers<M>, rings: &[RingMemory]) -> Result<(), Trouble> {
    if rings.is_empty() {
        return Ok(());
    }
    // The unit before its queues (§4.5.10).
    regs.write(transmit_control());
    for (index, ring) in rings.iter().enumerate() {
        let queue = regs.at(Chip::E82576.tx_queue(index));
        ring.program_tx(&queue);
        // What is done is written back at once: WTHRESH is 0.
        let control = TXDCTL::default().with(TXDCTL::PTHRESH, 8u32).with(TXDCTL::HTHRESH, 1u32);
        queue.write(control.with(TXDCTL::ENABLE, true));
        queue
            .wait(QUEUE, |control: TXDCTL| control.has(TXDCTL::ENABLE))
            .ok_or(Trouble::Queue { what: "transmit", index })?;
    }
    Ok(())
}

/// Stops fetching descriptors for `rx` receive and `tx` transmit queues. What is under way may still be
/// written: only the reset that follows is proof.
pub(super) fn disable_queues<M: Mmio>(regs: &Registers<M>, rx: usize, tx: usize) {
    for index in 0..rx {
        let queue = regs.at(Chip::E82576.rx_queue(index));
        queue.update(|control: RXDCTL| control.with(RXDCTL::ENABLE, false));
    }
    for index in 0..tx {
        let queue = regs.at(Chip::E82576.tx_queue(index));
        queue.update(|control: TXDCTL| control.with(TXDCTL::ENABLE, false));
    }
}

/// Sends the interrupts of the first `queues` receive queues to the vectors of the same numbers, and
/// every other cause to `other`. The queues' are masked still.
pub(super) fn interrupts<M: Mmio>(
    regs: &Registers<M>,
    queues: usize,
    other: usize,
    interval_us: u32,
) {
    let gpie = GPIE::default().with(GPIE::MULTIPLE_MSIX, true).with(GPIE::NSICR, true);
    regs.write(gpie.with(GPIE::EIAME, true).with(GPIE::PBA, true));
    let vector = |at: usize| u32::try_from(at).unwrap_or(0) | 0x80;
    for at in 0..queues.min(8) {
        let route = IVAR::default().with(IVAR::RX_LOW, vector(at));
        let high = if at + 8 < queues { vector(at + 8) } else { 0 };
        regs.entry(at).write(route.with(IVAR::RX_HIGH, high));
    }
    regs.write(IVAR_MISC::default().with(IVAR_MISC::OTHER, vector(other)));
    // A queue's cause is taken and masked when its message goes out: one shot. The other vector's is
    // taken, and stays unmasked.
    let one_shot = (1u32 << queues) - 1;
    let rest = 1u32 << other;
    regs.write(EIAC::default().with(EIAC::VECTORS, one_shot | rest));
    regs.write(EIAM::default().with(EIAM::VECTORS, one_shot));
    regs.write(EIMS::default().with(EIMS::VECTORS, rest));
    for at in 0..queues {
        let interval = interval_us.min(EITR::INTERVAL.most());
        regs.entry(at).write(EITR::default().with(EITR::INTERVAL, interval));
    }
}

fn units(bytes: usize, unit: usize) -> u32 {
    u32::try_from(bytes / unit).unwrap_or(0)
}
