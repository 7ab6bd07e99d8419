//! How the 82574L's receive and transmit units are set up (datasheet §4.6.5, §4.6.6), and its
//! interrupts (§7.4). Writes registers; makes no queue.

use std::time::Duration;

use super::{
    filters::{self, receive_control},
    init::{QUEUE, Trouble},
    plan::{Plan, RxForm},
    queues::RingMemory,
    register::Registers,
    registers::{
        CTRL, CTRL_EXT, EIAC_82574, EITR_82574, IAM, IVAR_82574, MRQC, PSRCTL, RCTL, RDFPC, RDTR,
        RETA, RFCTL, RXCSUM, RXDCTL, STATUS, TARC, TCTL, TXDCTL,
    },
};
use crate::{e1000::chip::Chip, pci::Mmio};

/// How long the chip may take to store what its receive memory holds (36 KiB at most, §3.1.4): longer
/// only for want of descriptors.
const DRAINED: Duration = Duration::from_millis(1);

/// Sets the receive unit up and lets it run; its rings are empty.
pub(super) fn receive<M: Mmio>(regs: &Registers<M>, plan: &Plan, rings: &[RingMemory]) {
    // Extended write-back, and NFS and iSCSI headers stay with the payload (§10.2.5).
    let rfctl = RFCTL::default().with(RFCTL::EXSTEN, true).with(RFCTL::ISCSI_DIS, true);
    regs.write(rfctl.with(RFCTL::NFSW_DIS, true).with(RFCTL::NFSR_DIS, true));
    // The hash takes the place of the packet checksum, which nobody needs (PCSD).
    let sums = RXCSUM::default().with(RXCSUM::IPOFLD, true).with(RXCSUM::TUOFLD, true);
    regs.write(sums.with(RXCSUM::PCSD, true));
    let control = write_form(regs, plan);
    for (index, ring) in rings.iter().enumerate() {
        let queue = regs.at(Chip::E82574.rx_queue(index));
        ring.program_rx(&queue);
        // Each descriptor is written back by itself and at once: a poller waits for it.
        queue.write(RDTR::default());
        queue.write(RXDCTL::default().with(RXDCTL::WTHRESH, 1u32).with(RXDCTL::GRAN, true));
    }
    // TCP and IP over IPv4 and IPv6; the 82574L hashes no UDP ports (§7.1.11).
    let mrqc = plan.rss.as_ref().map_or(MRQC::default(), |(key, table)| {
        filters::write_hash_key(regs, key);
        for (at, four) in table.chunks_exact(4).enumerate() {
            // The queue's number is in the top bit of an entry.
            let entry = |at: usize| u32::from(four[at]) << 7;
            let reta = RETA::default().with(RETA::ENTRY0, entry(0)).with(RETA::ENTRY1, entry(1));
            regs.entry(at).write(reta.with(RETA::ENTRY2, entry(2)).with(RETA::ENTRY3, entry(3)));
        }
        MRQC::default().with(MRQC::ENABLE, 1u32).with(MRQC::FIELDS, 0x17u32)
    });
    regs.write(mrqc);
    if !rings.is_empty() {
        regs.write(control.with(RCTL::EN, true));
    }
}

/// Writes the sizes of buffers, which all receive queues share; returns receive control to go with them,
/// not enabled yet.
fn write_form<M: Mmio>(regs: &Registers<M>, plan: &Plan) -> RCTL {
    let control: RCTL = receive_control(plan);
    match plan.rx.first().map(|queue| queue.form) {
        Some(RxForm::Split { head, buffer }) => {
            let sizes = PSRCTL::default().with(PSRCTL::BSIZE0, units(head, 128));
            regs.write(sizes.with(PSRCTL::BSIZE1, units(buffer, 1024)));
            control.with(RCTL::DTYP, 1u32)
        }
        Some(RxForm::Whole { buffer: 256 }) => control.with(RCTL::BSIZE, 3u32),
        Some(RxForm::Whole { buffer: 512 }) => control.with(RCTL::BSIZE, 2u32),
        Some(RxForm::Whole { buffer }) => control.with(RCTL::FLXBUF, units(buffer, 1024)),
        None => control,
    }
}

/// Has one receive queue work on another ring, with the buffer sizes of `plan`. No queue of this chip can
/// be disabled alone, so both pause, and so do the transmit queues: the receive unit is switched off, what
/// its memory still holds is stored as far as there are descriptors, and the chip says that no transaction
/// of it is open (`CTRL` master disable, `STATUS`; §5.2). Before it may open new ones, the ring is another
/// one. On success the old ring, its descriptors and their buffers are the driver's.
///
/// Frames that come while the unit is off wait in its memory or are lost: microseconds at most.
pub(super) fn rebind<M: Mmio>(
    regs: &Registers<M>,
    plan: &Plan,
    (index, ring): (usize, &RingMemory),
) -> Result<(), Trouble> {
    let ctrl: CTRL = regs.read();
    if ctrl.0 == u32::MAX {
        return Err(Trouble::Gone);
    }
    regs.update(|control: RCTL| control.with(RCTL::EN, false));
    if regs.wait(DRAINED, |fifo: RDFPC| fifo.get(RDFPC::FRAMES) == 0).is_none() {
        // No descriptor is left for what is there: it waits for those of the new ring.
        tracing::debug!(index, "frames wait in the chip while its receive queue is changed");
    }
    regs.write(ctrl.with(CTRL::MASTER_DISABLE, true));
    let quiet = regs.wait(QUEUE, |status: STATUS| !status.has(STATUS::MASTER_ENABLE));
    if quiet.is_some() {
        ring.program_rx(&regs.at(Chip::E82574.rx_queue(index)));
    }
    // Transmit queues go on, and so does the other receive queue.
    regs.write(ctrl.with(CTRL::MASTER_DISABLE, false));
    quiet.ok_or(Trouble::Queue { what: "receive", index })?;
    let control = write_form(regs, plan);
    regs.write(control.with(RCTL::EN, true));
    Ok(())
}

/// Sets the transmit unit up and lets it run; its rings are empty.
pub(super) fn transmit<M: Mmio>(regs: &Registers<M>, rings: &[RingMemory]) {
    for (index, ring) in rings.iter().enumerate() {
        let queue = regs.at(Chip::E82574.tx_queue(index));
        ring.program_tx(&queue);
        queue.update(|arbitration: TARC| arbitration.with(TARC::ENABLE, true));
        let control = TXDCTL::default().with(TXDCTL::WTHRESH, 1u32).with(TXDCTL::GRAN, true);
        queue.write(control.with(TXDCTL::ONE, true));
    }
    if !rings.is_empty() {
        regs.write(transmit_control());
    }
}

/// Transmit control of both chips: short frames are padded; collisions as in §10.2.6.
pub(super) fn transmit_control() -> TCTL {
    let control = TCTL::default().with(TCTL::EN, true).with(TCTL::PSP, true);
    control.with(TCTL::CT, 0x0Fu32).with(TCTL::COLD, 0x3Fu32)
}

/// Sends the interrupts of the first `queues` receive queues to the vectors of the same numbers, and
/// every other cause to `other`. All are masked still.
pub(super) fn interrupts<M: Mmio>(
    regs: &Registers<M>,
    queues: usize,
    other: usize,
    interval_us: u32,
) {
    let vector = |at: usize| u32::try_from(at).unwrap_or(0) | 8;
    let mut route = IVAR_82574::default().with(IVAR_82574::OTHER, vector(other));
    if queues > 0 {
        route = route.with(IVAR_82574::RXQ0, vector(0));
    }
    if queues > 1 {
        route = route.with(IVAR_82574::RXQ1, vector(1));
    }
    regs.write(route);
    // A queue's cause is taken and masked when its message goes out: one shot.
    regs.write(EIAC_82574::default().with(EIAC_82574::RXQ, 3u32));
    regs.write(IAM(3 << 20));
    regs.update(|control: CTRL_EXT| control.with(CTRL_EXT::EIAME, true).with(CTRL_EXT::PBA, true));
    for at in 0..queues {
        // In units of 256 ns.
        let interval = (interval_us * 1000 / 256).min(EITR_82574::INTERVAL.most());
        regs.entry(at).write(EITR_82574::default().with(EITR_82574::INTERVAL, interval));
    }
}

fn units(bytes: usize, unit: usize) -> u32 {
    u32::try_from(bytes / unit).unwrap_or(0)
}
