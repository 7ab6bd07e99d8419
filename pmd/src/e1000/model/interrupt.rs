//! Interrupts: causes, masks, and which eventfd stands for which vector (82574 §7.4, 82576 §7.3).
//! Moderation is not modelled: an interrupt comes at once.

use super::{
    core::{Core, Side},
    map,
    options::Chip,
};

/// Causes that show as "other" in the 82574's MSI-X mode: link, overrun, MDIO, small packet, ack,
/// manageability.
const OTHERS: u32 = 1 << 2 | 1 << 6 | 1 << 9 | 7 << 16;

impl Core {
    fn causes(&self) -> u32 {
        if self.chip == Chip::I82574 { map::ICR } else { map::ICR_82576 }
    }

    fn masks(&self) -> u32 {
        if self.chip == Chip::I82574 { map::IMS } else { map::IMS_82576 }
    }

    /// A cause of the classic register arises.
    pub(super) fn raise(&mut self, bits: u32) {
        let (icr, ims) = (self.causes(), self.reg(self.masks()));
        let before = self.reg(icr);
        let mut now = before | bits;
        if self.chip == Chip::I82574 && now & ims & OTHERS != 0 {
            now |= map::INT_OTHER;
        }
        self.set(icr, now);
        let fresh = now & !before & ims;
        match self.chip {
            Chip::I82574 => self.fire_82574(fresh),
            Chip::I82576 if fresh != 0 => {
                // "Other causes" has one vector for all of them (82576 §8.8.16).
                let entry = self.reg(map::IVAR_MISC) >> 8 & 0xff;
                if entry & 0x80 != 0 {
                    self.raise_extended(1 << (entry & 31));
                } else if self.reg(map::GPIE) & map::GPIE_MULTIPLE_MSIX == 0 {
                    self.signal(0);
                }
            }
            Chip::I82576 => {}
        }
    }

    /// A queue has told the driver something.
    pub(super) fn raise_queue(&mut self, side: Side, queue: usize) {
        let number = u32::try_from(queue).unwrap_or(0);
        let classic = if side == Side::Rx { map::INT_RXT0 } else { map::INT_TXDW };
        match self.chip {
            Chip::I82574 => {
                let offset = if side == Side::Rx { 0 } else { 2 };
                self.raise(classic | 1 << (map::INT_QUEUES + offset + number));
            }
            Chip::I82576 => {
                // Queues 0 to 7 in the low half of their register, 8 to 15 in the high half;
                // transmit in the second byte (82576 §8.8.15).
                let entry = self.reg(map::IVAR_82576 + 4 * (number & 7));
                let shift = (number >> 3) * 16 + if side == Side::Rx { 0 } else { 8 };
                let entry = entry >> shift & 0xff;
                if entry & 0x80 != 0 {
                    self.raise_extended(1 << (entry & 31));
                }
                self.raise(classic);
            }
        }
    }

    fn raise_extended(&mut self, bits: u32) {
        let before = self.reg(map::EICR) & self.reg(map::EIMS);
        let causes = self.reg(map::EICR) | bits;
        self.set(map::EICR, causes);
        self.fire_extended(causes & self.reg(map::EIMS) & !before);
    }

    fn fire_extended(&mut self, fresh: u32) {
        for vector in (0..25).filter(|vector| fresh >> vector & 1 == 1) {
            self.signal(vector);
            let bit = 1 << vector;
            if self.reg(map::EIAC) & bit != 0 {
                let causes = self.reg(map::EICR) & !bit;
                self.set(map::EICR, causes);
            }
            if self.has(map::GPIE, map::GPIE_EIAME) && self.reg(map::EIAM) & bit != 0 {
                let masks = self.reg(map::EIMS) & !bit;
                self.set(map::EIMS, masks);
            }
        }
    }

    fn fire_82574(&mut self, fresh: u32) {
        if fresh == 0 {
            return;
        }
        let ivar = self.reg(map::IVAR_82574);
        if ivar & 0x8_8888 == 0 {
            self.signal(0);
            return;
        }
        // Receive 0 and 1, transmit 0 and 1, other: four bits each, in the order of the causes.
        for cause in 0..5 {
            let bit = 1 << (map::INT_QUEUES + cause);
            let entry = ivar >> (4 * cause) & 15;
            if fresh & bit == 0 || entry & 8 == 0 {
                continue;
            }
            self.signal(entry as usize & 7);
            if self.reg(map::EIAC_82574) & bit != 0 {
                let causes = self.reg(map::ICR) & !bit;
                self.set(map::ICR, causes);
            }
            if self.has(map::CTRL_EXT, map::CTRL_EXT_EIAME) && self.reg(map::IAM) & bit != 0 {
                let masks = self.reg(map::IMS) & !bit;
                self.set(map::IMS, masks);
            }
        }
    }

    fn signal(&mut self, vector: usize) {
        if self.gone {
            return;
        }
        if let Some(fd) = self.vectors.get(vector) {
            // Full: it is readable anyway.
            let _full = rustix::io::write(fd, &1u64.to_ne_bytes());
        }
    }

    /// An interrupt that nothing caused.
    pub(super) fn spurious_interrupt(&mut self) {
        let vector = self.random.below(self.vectors.len());
        self.signal(vector);
    }

    /// Reading the causes clears them (82574 §10.2.4.1: while an interrupt is asserted, or nothing is
    /// enabled; a model of the common case).
    pub(super) fn read_causes(&mut self, offset: u32) -> u32 {
        let causes = self.reg(offset);
        let pending = causes & self.reg(self.masks());
        self.set(offset, 0);
        if pending != 0 && self.has(map::CTRL_EXT, map::CTRL_EXT_IAME) && self.chip == Chip::I82574
        {
            let masks = self.reg(map::IMS) & !self.reg(map::IAM);
            self.set(map::IMS, masks);
        }
        if causes == 0 { 0 } else { causes | map::INT_ASSERTED }
    }

    /// Whether the register was one of interrupts.
    pub(super) fn write_interrupt(&mut self, offset: u32, value: u32) -> bool {
        let is_82576 = self.chip == Chip::I82576;
        match offset {
            map::ICR | map::ICR_82576 => {
                let causes = self.reg(offset) & !value;
                self.set(offset, causes);
            }
            map::ICS | map::ICS_82576 => self.raise(value),
            map::IMS | map::IMS_82576 => {
                let before = self.reg(offset);
                self.set(offset, before | value);
                let pending = self.reg(self.causes());
                let fresh = pending & value & !before;
                if self.chip == Chip::I82574 {
                    self.fire_82574(fresh);
                } else if fresh != 0 {
                    let causes = pending & !fresh;
                    self.set(self.causes(), causes);
                    self.raise(fresh);
                }
            }
            map::IMC | map::IMC_82576 => {
                let masks = self.reg(self.masks()) & !value;
                self.set(self.masks(), masks);
            }
            map::EICS if is_82576 => self.raise_extended(value),
            map::EIMS if is_82576 => {
                let before = self.reg(offset);
                self.set(offset, before | value);
                let fresh = self.reg(map::EICR) & value & !before;
                self.fire_extended(fresh);
            }
            map::EIMC if is_82576 => {
                let masks = self.reg(map::EIMS) & !value;
                self.set(map::EIMS, masks);
            }
            map::EICR if is_82576 => {
                let causes = self.reg(map::EICR) & !value;
                self.set(map::EICR, causes);
            }
            _ => return false,
        }
        true
    }
}
