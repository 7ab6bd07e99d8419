//! What a configuration means for a chip: sizes and forms, all checked, before anything is touched.
//! Knows no registers.

use mempool::Offload;

use super::{
    Options,
    chip::{Chip, LONGEST, RINGS, STANDARD},
};
use crate::{Config, DeviceInfo, Error, RxMemory, TxConfig};

/// A checked configuration.
pub(super) struct Plan {
    pub(super) rx: Vec<RxPlan>,
    pub(super) tx: Vec<TxConfig>,
    pub(super) filters: Filters,
    /// Queue by hash: the key and the table, as long as the chip's. None with one queue.
    pub(super) rss: Option<([u8; 40], [u8; 128])>,
    pub(super) strip_vlan: bool,
    /// What is sent comes back inside the chip.
    pub(super) loopback: bool,
    /// Longest frame that is let in, without FCS.
    pub(super) max_frame: usize,
}

/// Whose frames are let in.
#[derive(Clone)]
pub(super) struct Filters {
    pub(super) promiscuous: bool,
    pub(super) all_multicast: bool,
    pub(super) addresses: Vec<[u8; 6]>,
}

/// One receive queue.
pub(super) struct RxPlan {
    pub(super) memory: RxMemory,
    pub(super) descriptors: usize,
    pub(super) form: RxForm,
}

/// How a receive queue lays frames down, in bytes as the chip counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RxForm {
    /// Into buffers of this size.
    Whole {
        /// Bytes that the chip writes into a buffer at most.
        buffer: usize,
    },
    /// Headers and payloads apart.
    Split {
        /// Bytes of a header buffer.
        head: usize,
        /// Bytes that the chip writes into a payload buffer at most.
        buffer: usize,
    },
}

impl RxForm {
    pub(super) fn is_split(self) -> bool {
        matches!(self, Self::Split { .. })
    }

    /// Bytes of a header buffer (0 for whole frames), and of one for the rest.
    pub(super) fn sizes(self) -> (usize, usize) {
        match self {
            Self::Whole { buffer } => (0, buffer),
            Self::Split { head, buffer } => (head, buffer),
        }
    }
}

impl Plan {
    /// Checks `config` against the chip.
    pub(super) fn new(
        chip: Chip,
        info: &DeviceInfo,
        options: &Options,
        config: Config,
    ) -> Result<Self, Error> {
        let bad = |why| Error::BadOption { port: info.port.clone(), why };
        let rings =
            config.rx.iter().map(|queue| queue.ring).chain(config.tx.iter().map(|q| q.ring));
        for ring in rings {
            check_ring(info, ring)?;
        }
        let mut rx = Vec::new();
        for queue in config.rx {
            let form = form(chip, info, &queue.memory).map_err(bad)?;
            rx.push(RxPlan { memory: queue.memory, descriptors: queue.ring, form });
        }
        if chip == Chip::E82574 && rx.windows(2).any(|pair| pair[0].form != pair[1].form) {
            return Err(bad(
                "the 82574L has one form for both receive queues: give them buffers of \
                            the same sizes, and split both or none"
                    .into(),
            ));
        }
        let rss = match (&config.rss, rx.len()) {
            (Some(rss), count) => Some((rss.key, table(&rss.table, count).map_err(bad)?)),
            (None, 0 | 1) => None,
            (None, count) => Some((crate::Rss::default().key, table(&[], count).map_err(bad)?)),
        };
        Ok(Self {
            max_frame: max_frame(chip, options, &rx),
            rx,
            tx: config.tx,
            filters: Filters {
                promiscuous: config.promiscuous,
                all_multicast: config.all_multicast,
                addresses: config.addresses,
            },
            rss,
            loopback: config.loopback,
            strip_vlan: config.rx_offloads.has(Offload::RX_VLAN_STRIPPED),
        })
    }
}

fn check_ring(info: &DeviceInfo, ring: usize) -> Result<(), Error> {
    let (low, high) = RINGS.into_inner();
    if RINGS.contains(&ring) {
        return Ok(());
    }
    Err(Error::RingSize {
        port: info.port.clone(),
        ring,
        low,
        high,
        nearest: ring.clamp(low, high),
    })
}

/// The form that fits the buffers of a queue.
fn form(chip: Chip, info: &DeviceInfo, memory: &RxMemory) -> Result<RxForm, String> {
    match memory {
        RxMemory::Whole(pool) => Ok(RxForm::Whole { buffer: whole_buffer(chip, pool.room())? }),
        RxMemory::Split(split) => {
            let driver = info.driver;
            let told = |why| format!("the {driver} driver {why}");
            info.capabilities.split.check(split.at).map_err(told)?;
            let step = chip.head_step();
            let head = (split.heads.room() / step * step).min(chip.longest_head());
            if head == 0 {
                let room = split.heads.room();
                return Err(format!(
                    "buffers for heads have room for {room} B: the {} needs {step} at least",
                    chip.name()
                ));
            }
            // 82574: six bits of KiB in PSRCTL; 82576: seven in SRRCTL.
            let most = if chip == Chip::E82574 { 63 } else { 127 };
            let buffer = kibibytes(chip, split.data.room(), most)?;
            Ok(RxForm::Split { head, buffer })
        }
    }
}

/// Bytes of a whole-frame buffer, given the room of the pool's.
fn whole_buffer(chip: Chip, room: usize) -> Result<usize, String> {
    match chip {
        // RCTL.FLXBUF counts KiB in four bits; RCTL.BSIZE knows 512 and 256 besides (§10.2.5.1).
        Chip::E82574 if (512..1024).contains(&room) => Ok(512),
        Chip::E82574 if (256..512).contains(&room) => Ok(256),
        Chip::E82574 => kibibytes(chip, room, 15),
        Chip::E82576 => kibibytes(chip, room, 127),
    }
}

fn kibibytes(chip: Chip, room: usize, most: usize) -> Result<usize, String> {
    match room / 1024 {
        0 => Err(format!(
            "buffers have room for {room} B: the {} fills them in steps of 1024",
            chip.name()
        )),
        count => Ok(count.min(most) * 1024),
    }
}

/// The chip's table of 128 queues, from one of any length.
fn table(table: &[u8], queues: usize) -> Result<[u8; 128], String> {
    let turns: Vec<u8> = (0..=u8::MAX).take(queues.max(1)).collect();
    let table = if table.is_empty() { &turns } else { table };
    if let Some(queue) = table.iter().find(|queue| usize::from(**queue) >= queues.max(1)) {
        return Err(format!("the RSS table names receive queue {queue}; there are {queues}"));
    }
    Ok(std::array::from_fn(|at| table[at % table.len()]))
}

/// The longest frame to let in. QEMU's 82574L (10.0) aborts when a split frame runs over into a second
/// descriptor; so that nobody meets this by chance, the chip takes long frames in split form only where
/// one payload buffer holds them, or where they were asked for by name.
fn max_frame(chip: Chip, options: &Options, rx: &[RxPlan]) -> usize {
    let spills = |queue: &RxPlan| queue.form.is_split() && queue.form.sizes().1 < LONGEST;
    match options.max_frame {
        Some(bytes) => bytes,
        None if chip == Chip::E82574 && rx.iter().any(spills) => STANDARD,
        None => LONGEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_rounded_down_to_what_the_chip_can_count() {
        assert_eq!(whole_buffer(Chip::E82574, 2048), Ok(2048));
        assert_eq!(whole_buffer(Chip::E82574, 1920), Ok(1024));
        assert_eq!(whole_buffer(Chip::E82574, 900), Ok(512));
        assert_eq!(whole_buffer(Chip::E82574, 100_000), Ok(15 * 1024));
        assert_eq!(whole_buffer(Chip::E82576, 100_000), Ok(97 * 1024));
        let small = whole_buffer(Chip::E82576, 900).unwrap_err();
        assert_eq!(small, "buffers have room for 900 B: the 82576 fills them in steps of 1024");
    }

    #[test]
    fn a_table_is_repeated_until_it_fills_the_chips_and_names_queues_that_exist() {
        let turns = table(&[], 3).unwrap();
        assert_eq!((turns[0], turns[1], turns[2], turns[3], turns[127]), (0, 1, 2, 0, 1));
        assert_eq!(table(&[1], 2).unwrap(), [1; 128]);
        let wrong = table(&[0, 2], 2).unwrap_err();
        assert_eq!(wrong, "the RSS table names receive queue 2; there are 2");
    }
}
