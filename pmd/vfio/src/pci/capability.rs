//! The lists of capabilities in a configuration space (PCI Local Bus 3.0 §6.7, PCI Express Base 4.0
//! §7.6). Walks bytes: believes no pointer in them, and ends whatever they say.

use crate::{Error, Result};

/// What a header takes; unprivileged readers of sysfs get no more.
const HEADER: usize = 64;
/// More than fit: four bytes each, between 0x40 and 0xff.
const MOST: usize = 48;
/// Where PCI Express' own list starts.
const EXTENDED: usize = 0x100;
/// More than fit: eight bytes each, from 0x100 to 0xfff.
const MOST_EXTENDED: usize = 480;

/// Register offsets of a header.
const STATUS: usize = 0x06;
const POINTER: usize = 0x34;
/// The status bit that says that there is a list.
const HAS_LIST: u16 = 1 << 4;

/// The id of MSI-X.
const MSI_X: u8 = 0x11;

/// A capability, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Which.
    pub id: u8,
    /// Where its first byte, the id, stands.
    pub offset: u16,
}

/// One of PCI Express' extended capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedCapability {
    /// Which.
    pub id: u16,
    /// Its version.
    pub version: u8,
    /// Where its header stands.
    pub offset: u16,
}

/// The capabilities of a configuration space, in its own order.
///
/// # Errors
/// The list loops, leads out of the bytes, or into the header.
pub fn capabilities(config: &[u8]) -> Result<Vec<Capability>> {
    if config.len() < HEADER {
        return Err(wrong(format!(
            "configuration space of {} bytes, a header has {HEADER}",
            config.len()
        )));
    }
    if word(config, 0) == Some(0xffff) {
        return Err(wrong("configuration space reads as all ones: the device is gone".to_owned()));
    }
    let mut found = Vec::new();
    if word(config, STATUS).unwrap_or(0) & HAS_LIST == 0 {
        return Ok(found);
    }
    let (mut at, mut from) = (usize::from(config[POINTER]), POINTER);
    while at != 0 {
        check("capability", at, from, HEADER, config.len(), 2)?;
        if found.len() == MOST {
            return Err(wrong(format!("capability chain loops at {at:#x} ({MOST} hops)")));
        }
        found.push(Capability { id: config[at], offset: narrow(at) });
        (at, from) = (usize::from(config[at + 1]), at + 1);
    }
    Ok(found)
}

/// The extended capabilities; none where the bytes end before them.
///
/// # Errors
/// As [`capabilities`].
pub fn extended_capabilities(config: &[u8]) -> Result<Vec<ExtendedCapability>> {
    let mut found = Vec::new();
    if config.len() <= EXTENDED {
        return Ok(found);
    }
    let (mut at, mut from) = (EXTENDED, EXTENDED);
    while at != 0 {
        check("extended capability", at, from, EXTENDED, config.len(), 4)?;
        let header = double(config, at).unwrap_or(0);
        // An empty list is a header of zeroes; where nobody answers, of ones.
        if found.is_empty() && (header == 0 || header == u32::MAX) {
            return Ok(found);
        }
        if found.len() == MOST_EXTENDED {
            let why = format!("extended capability chain loops at {at:#x} ({MOST_EXTENDED} hops)");
            return Err(wrong(why));
        }
        let [id_low, id_high, version, _] = header.to_le_bytes();
        found.push(ExtendedCapability {
            id: u16::from_le_bytes([id_low, id_high]),
            version: version & 0xf,
            offset: narrow(at),
        });
        (at, from) = ((header >> 20) as usize, at);
    }
    Ok(found)
}

/// The table of MSI-X interrupts (PCI Local Bus 3.0 §6.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixTable {
    /// Interrupts.
    pub vectors: u16,
    /// In which BAR the table is.
    pub bar: u8,
    /// Where in that BAR.
    pub offset: u32,
}

impl MsixTable {
    /// The table of a configuration space, if the function has one.
    ///
    /// # Errors
    /// As [`capabilities`]; or it is cut off.
    pub fn find(config: &[u8]) -> Result<Option<Self>> {
        let Some(found) = capabilities(config)?.into_iter().find(|found| found.id == MSI_X) else {
            return Ok(None);
        };
        let at = usize::from(found.offset);
        let fields = word(config, at + 2).zip(double(config, at + 4));
        let (control, table) = fields.ok_or_else(|| {
            wrong(format!("MSI-X capability at {at:#x} of {:#x} bytes is cut off", config.len()))
        })?;
        let bar = (table & 7) as u8;
        Ok(Some(Self { vectors: (control & 0x7ff) + 1, bar, offset: table & !7 }))
    }

    /// Bytes of the table: 16 for each vector.
    #[must_use]
    pub fn len(self) -> u64 {
        u64::from(self.vectors) * 16
    }

    /// Whether it is empty: never.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.vectors == 0
    }
}

/// Whether a pointer leads to where a capability may be.
fn check(what: &str, at: usize, from: usize, lowest: usize, len: usize, size: usize) -> Result<()> {
    let problem = if at < lowest {
        format!("is below {lowest:#x}")
    } else if !at.is_multiple_of(4) {
        "is no multiple of 4".to_owned()
    } else if at + size > len {
        format!("leads out of the {len:#x} bytes there are")
    } else {
        return Ok(());
    };
    Err(wrong(format!("{what} pointer {at:#x} at {from:#x} {problem}")))
}

fn wrong(problem: String) -> Error {
    Error::Capabilities(problem)
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn double(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// An offset below 4096.
fn narrow(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header with a list from 0x40 on: offset, id, next.
    fn config(len: usize, list: &[(usize, u8, u8)]) -> Vec<u8> {
        let mut config = vec![0; len];
        config[..2].copy_from_slice(&0x8086u16.to_le_bytes());
        config[STATUS] = 0x10;
        config[POINTER] = list.first().map_or(0, |first| u8::try_from(first.0).expect("an offset"));
        for &(at, id, next) in list {
            config[at..at + 2].copy_from_slice(&[id, next]);
        }
        config
    }

    fn refusal(config: &[u8]) -> String {
        capabilities(config).expect_err("a bad list").to_string()
    }

    #[test]
    fn the_list_of_an_82574_is_walked() {
        let mut config =
            config(256, &[(0xc8, 1, 0xd0), (0xd0, 5, 0xe0), (0xe0, 0x10, 0xa0), (0xa0, 0x11, 0)]);
        config[0xa2..0xa8].copy_from_slice(&[4, 0, 3, 0, 0, 0]);
        let found = capabilities(&config).expect("a sound list");
        let ids: Vec<u8> = found.iter().map(|found| found.id).collect();
        assert_eq!(ids, [1, 0x05, 0x10, MSI_X]);
        let table = MsixTable::find(&config).expect("sound").expect("there");
        assert_eq!(table, MsixTable { vectors: 5, bar: 3, offset: 0 });
        assert_eq!(table.len(), 80);
    }

    #[test]
    fn a_function_without_list_has_none_whatever_the_pointer_says() {
        let mut config = config(64, &[]);
        config[STATUS] = 0;
        config[POINTER] = 0xff;
        assert_eq!(capabilities(&config).expect("no list"), []);
        assert_eq!(MsixTable::find(&config).expect("no list"), None);
        assert_eq!(extended_capabilities(&config).expect("no list"), []);
    }

    #[test]
    fn a_list_that_loops_ends_after_48_hops() {
        assert_eq!(
            refusal(&config(256, &[(0x50, 1, 0x50)])),
            "capability chain loops at 0x50 (48 hops)"
        );
        assert_eq!(
            refusal(&config(256, &[(0x40, 1, 0x50), (0x50, 2, 0x40)])),
            "capability chain loops at 0x40 (48 hops)"
        );
    }

    #[test]
    fn pointers_into_the_header_odd_ones_and_those_beyond_the_end_are_refused() {
        for (next, why) in [
            (0x3c, "capability pointer 0x3c at 0x41 is below 0x40"),
            (0x51, "capability pointer 0x51 at 0x41 is no multiple of 4"),
            (0xfc, "capability pointer 0xfc at 0x41 leads out of the 0xf0 bytes there are"),
        ] {
            assert_eq!(refusal(&config(0xf0, &[(0x40, 1, next)])), why);
        }
        let mut unprivileged = config(64, &[]);
        unprivileged[POINTER] = 0xc8;
        assert_eq!(
            refusal(&unprivileged),
            "capability pointer 0xc8 at 0x34 leads out of the 0x40 bytes there are"
        );
    }

    #[test]
    fn a_short_header_and_a_device_that_is_gone_are_told_apart() {
        assert_eq!(refusal(&[0; 40]), "configuration space of 40 bytes, a header has 64");
        assert_eq!(
            refusal(&[0xff; 256]),
            "configuration space reads as all ones: the device is gone"
        );
    }

    #[test]
    fn a_table_that_is_cut_off_is_refused() {
        let config = config(0x46, &[(0x40, MSI_X, 0)]);
        let error = MsixTable::find(&config).expect_err("cut off").to_string();
        assert_eq!(error, "MSI-X capability at 0x40 of 0x46 bytes is cut off");
    }

    /// An extended list: offset and header.
    fn extended(list: &[(usize, u32)]) -> Vec<u8> {
        let mut config = vec![0; 4096];
        for &(at, header) in list {
            config[at..at + 4].copy_from_slice(&header.to_le_bytes());
        }
        config
    }

    #[test]
    fn extended_capabilities_are_walked() {
        let config = extended(&[(0x100, 0x1402_0001), (0x140, 0x0001_0003)]);
        let found = extended_capabilities(&config).expect("a sound list");
        assert_eq!(
            found,
            [
                ExtendedCapability { id: 1, version: 2, offset: 0x100 },
                ExtendedCapability { id: 3, version: 1, offset: 0x140 }
            ]
        );
        assert_eq!(extended_capabilities(&extended(&[])).expect("empty"), []);
        assert_eq!(extended_capabilities(&[0xff; 4096]).expect("nobody answers"), []);
    }

    #[test]
    fn an_extended_list_that_loops_or_leads_away_is_refused() {
        let refusal = |list: &[(usize, u32)]| {
            extended_capabilities(&extended(list)).expect_err("a bad list").to_string()
        };
        assert_eq!(
            refusal(&[(0x100, 0x1001_0001)]),
            "extended capability chain loops at 0x100 (480 hops)"
        );
        assert_eq!(
            refusal(&[(0x100, 0x0401_0001)]),
            "extended capability pointer 0x40 at 0x100 is below 0x100"
        );
        assert_eq!(
            refusal(&[(0x100, 0x1021_0001)]),
            "extended capability pointer 0x102 at 0x100 is no multiple of 4"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_walk_panic_or_go_on(
            mut config in proptest::collection::vec(any::<u8>(), 0..4097),
            has_list: bool,
        ) {
            if let Some(status) = config.get_mut(STATUS) {
                *status |= u8::from(has_list) << 4;
            }
            if let Ok(found) = capabilities(&config) {
                prop_assert!(found.len() <= MOST);
                prop_assert!(found.iter().all(|f| usize::from(f.offset) + 2 <= config.len()));
            }
            if let Ok(found) = extended_capabilities(&config) {
                prop_assert!(found.len() <= MOST_EXTENDED);
            }
            let _ = MsixTable::find(&config);
        }
    }
}
