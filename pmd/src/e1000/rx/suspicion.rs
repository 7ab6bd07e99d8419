//! How much nonsense of a device's is borne: each bad descriptor is counted, and after more than a
//! thousand in a row the queue is given up.

use std::fmt;

use crate::pci::Gate;

/// Bad descriptors in a row that are borne (B-D4).
const BORNE: u32 = 1000;

/// What is wrong with a descriptor that the device wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// More bytes than the buffer has, or none.
    Length { len: usize, buffer: usize },
    /// The frame is damaged.
    Spoilt { status: u32 },
    /// No end of the frame after so many bytes.
    Endless { bytes: usize },
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Length { len, buffer } => {
                write!(f, "device reported length {len} for {buffer}-byte buffer")
            }
            Self::Spoilt { status } => {
                write!(f, "device reported nothing but damaged frames (status {status:#010x})")
            }
            Self::Endless { bytes } => {
                write!(f, "device reported no end of a frame after {bytes} bytes")
            }
        }
    }
}

/// Counts bad descriptors in a row.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    in_a_row: u32,
}

impl Suspicion {
    /// The device made sense.
    #[inline(always)]
    pub(super) fn allay(&mut self) {
        self.in_a_row = 0;
    }

    /// It did not; latches a fault once it has not for too long.
    #[cold]
    pub(super) fn note(&mut self, bad: Bad, queue: usize, gate: &Gate) {
        self.in_a_row += 1;
        if self.in_a_row > BORNE {
            gate.fault(format_args!("queue {queue} faulted: {bad}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_bad_descriptors_are_borne_and_no_more() {
        let (mut suspicion, gate) = (Suspicion::default(), Gate::new());
        let bad = Bad::Length { len: 65535, buffer: 2048 };
        for _ in 0..1000 {
            suspicion.note(bad, 0, &gate);
        }
        assert!(gate.is_live());
        suspicion.allay();
        suspicion.note(bad, 0, &gate);
        assert!(gate.is_live(), "a good one in between starts the count again");
        for _ in 0..1000 {
            suspicion.note(bad, 0, &gate);
        }
        let why = "queue 0 faulted: device reported length 65535 for 2048-byte buffer";
        assert_eq!(gate.why(), Some(why));
    }
}
