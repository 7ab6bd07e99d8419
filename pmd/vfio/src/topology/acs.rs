//! Access Control Services of a port (PCI Express Base 5.0 §6.12): whether it sends writes between its
//! neighbours up to the root complex instead of across. Reads configuration space; changes nothing.

use std::{fs::File, io::Read, path::Path};

use crate::pci::extended_capabilities;

/// The extended capability (§7.7.8), and its control register's offset in it (`PCI_ACS_CTRL` of
/// `<linux/pci_regs.h>`).
const CAPABILITY: u16 = 0x0d;
const CONTROL: usize = 6;
/// Request redirect, completion redirect, egress control: the bits that `pci_bridge_has_acs_redir()` of the
/// kernel's drivers/pci/p2pdma.c looks at.
const REDIRECT: u16 = 0x04 | 0x08 | 0x20;

/// Bytes of a configuration space without PCI Express' part: nothing is hidden if there are that many.
const CONVENTIONAL: usize = 256;
const LARGEST: u64 = 4096;

/// What a function does with requests between its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acs {
    /// It has no such control, or none of it is on: across.
    Direct,
    /// It sends them up to the root complex.
    Redirects,
    /// Its configuration space cannot be read that far: without root it ends after 64 bytes.
    Unknown,
}

impl Acs {
    /// By a configuration space, as far as it could be read.
    #[must_use]
    pub fn of(config: &[u8]) -> Self {
        if config.len() < CONVENTIONAL {
            return Self::Unknown;
        }
        let Ok(capabilities) = extended_capabilities(config) else { return Self::Unknown };
        let Some(found) = capabilities.into_iter().find(|found| found.id == CAPABILITY) else {
            return Self::Direct;
        };
        let at = usize::from(found.offset) + CONTROL;
        match config.get(at..).and_then(<[u8]>::first_chunk) {
            None => Self::Unknown,
            Some(control) if u16::from_le_bytes(*control) & REDIRECT == 0 => Self::Direct,
            Some(_) => Self::Redirects,
        }
    }

    /// By a function's folder.
    pub(super) fn read(folder: &Path) -> Self {
        Self::of(&config(folder))
    }
}

/// The configuration space in a function's folder, as far as this process may read it.
pub(super) fn config(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = File::open(folder.join("config"))
        .and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
    if read.is_err() {
        bytes.clear();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(control: u16) -> Vec<u8> {
        let mut config = vec![0; 4096];
        // Advanced error reporting at 0x100, then ACS at 0x148.
        config[0x100..0x104].copy_from_slice(&(0x148 << 20 | 1 << 16 | 1u32).to_le_bytes());
        config[0x148..0x14c].copy_from_slice(&(1 << 16 | 0x0du32).to_le_bytes());
        config[0x14e..0x150].copy_from_slice(&control.to_le_bytes());
        config
    }

    #[test]
    fn each_of_three_bits_redirects_and_the_others_do_not() {
        for (control, acs) in [
            (0, Acs::Direct),
            (0x01 | 0x02 | 0x10 | 0x40, Acs::Direct),
            (0x04, Acs::Redirects),
            (0x08, Acs::Redirects),
            (0x20, Acs::Redirects),
            (0x1d, Acs::Redirects),
        ] {
            assert_eq!(Acs::of(&config(control)), acs, "{control:#x}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_unknown_and_what_is_not_there_does_nothing() {
        assert_eq!(Acs::of(&config(0x1d)[..64]), Acs::Unknown, "as an ordinary user reads it");
        assert_eq!(Acs::of(&[]), Acs::Unknown);
        assert_eq!(Acs::of(&[0; 256]), Acs::Direct, "no PCI Express");
        assert_eq!(Acs::of(&[0; 4096]), Acs::Direct, "an empty list");
        assert_eq!(Acs::of(&config(0x1d)[..0x14c]), Acs::Unknown, "cut off");
        let mut loops = config(0);
        loops[0x148..0x14c].copy_from_slice(&(0x148 << 20 | 1 << 16 | 1u32).to_le_bytes());
        assert_eq!(Acs::of(&loops), Acs::Unknown);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_and_short_ones_are_unknown(
            bytes in prop::collection::vec(any::<u8>(), 0..4097),
        ) {
            let acs = Acs::of(&bytes);
            prop_assert!(bytes.len() >= CONVENTIONAL || acs == Acs::Unknown);
        }
    }
}
