//! Where a function stands on the bus. Knows no file.

use std::{fmt, str::FromStr};

use crate::Error;

/// `domain:bus:device.function`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl Address {
    /// The PCI domain (segment). Real ones have 16 bits; Linux invents larger ones for buses behind
    /// VMD and Hyper-V.
    #[must_use]
    pub fn domain(self) -> u32 {
        self.domain
    }

    /// The bus.
    #[must_use]
    pub fn bus(self) -> u8 {
        self.bus
    }

    /// The device on the bus, 0–31.
    #[must_use]
    pub fn device(self) -> u8 {
        self.device
    }

    /// The function of the device, 0–7.
    #[must_use]
    pub fn function(self) -> u8 {
        self.function
    }
}

/// As sysfs writes it: `0000:01:00.0`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `0000:01:00.0`, or without the domain, which is then 0.
impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| Error::Address(text.chars().take(64).collect()))
    }
}

fn parse(text: &str) -> Option<Address> {
    let (rest, function) = text.split_once('.')?;
    let mut parts = rest.rsplit(':');
    let (device, bus) = (parts.next()?, parts.next()?);
    let domain = parts.next();
    if parts.next().is_some() {
        return None;
    }
    let address = Address {
        domain: domain.map_or(Some(0), |domain| hex(domain, 4..=8))?,
        bus: hex(bus, 2..=2)?.try_into().ok()?,
        device: hex(device, 2..=2)?.try_into().ok()?,
        function: hex(function, 1..=1)?.try_into().ok()?,
    };
    (address.device < 32 && address.function < 8).then_some(address)
}

/// Hexadecimal digits and nothing else: `from_str_radix` would take a sign.
fn hex(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let is_hex = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_reads_with_and_without_domain_and_is_written_as_sysfs_does() {
        for (text, canonical) in [
            ("0000:01:00.0", "0000:01:00.0"),
            ("01:00.0", "0000:01:00.0"),
            ("0001:AF:1f.7", "0001:af:1f.7"),
            ("10000:e1:00.0", "10000:e1:00.0"),
        ] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), canonical);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for text in [
            "",
            "eth0",
            "01:00",
            "1:00.0",
            "01:20.0",
            "01:00.8",
            "01:00.00",
            "+1:00.0",
            "00:00:01:00.0",
            "0000:01:00.0 ",
            "0000:+1:00.0",
            "0000:01:00.0.0",
            "000:01:00.0",
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert_eq!(
                error,
                format!(
                    "'{text}' is no PCI address: write domain:bus:device.function, as in 0000:01:00.0"
                )
            );
        }
    }

    proptest! {
        #[test]
        fn every_address_reads_back(domain: u32, bus: u8, device in 0u8..32, function in 0u8..8) {
            let address = Address { domain, bus, device, function };
            prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<Address>();
        }
    }
}
