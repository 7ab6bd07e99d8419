//! What happens to the addresses of a frame between two ports of a pair.

use std::{mem, str::FromStr};

use clap::ValueEnum;
use mempool::{Burst, Cpu};
use serde::Serialize;

/// What happens to a frame on its way.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rewrite {
    /// Nothing: as a cable would
    #[default]
    None,
    /// Source and destination address change places
    MacSwap,
    /// The source becomes the sending port's address, the destination that of --eth-dest
    MacUpdate,
}

/// `--eth-dest`: to whom frames go that leave by a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthDest {
    /// Number of the port, in the order of `-p`.
    pub port: usize,
    pub(crate) mac: [u8; 6],
}

impl FromStr for EthDest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("'{text}' is not of the form 0:02:00:00:00:00:01");
        let (port, mac) = text.split_once([':', ',']).ok_or_else(form)?;
        let port = port.trim().parse().map_err(|_| form())?;
        let mut bytes = mac.split(':').map(|byte| match byte.len() {
            1..=2 => u8::from_str_radix(byte, 16).ok(),
            _ => None,
        });
        let mut mac = [0; 6];
        for byte in &mut mac {
            *byte = bytes.next().flatten().ok_or_else(form)?;
        }
        if bytes.next().is_none() { Ok(Self { port, mac }) } else { Err(form()) }
    }
}

/// The addresses of frames that leave by a port, with [`Rewrite::MacUpdate`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) dst: [u8; 6],
    pub(crate) src: [u8; 6],
}

impl Addresses {
    /// As testpmd and DPDK's l2fwd have it: to 02:00:00:00:00:PORT, unless told otherwise.
    pub(crate) fn towards(port: usize, told: &[EthDest], src: [u8; 6]) -> Self {
        let told = told.iter().find(|told| told.port == port).map(|told| told.mac);
        let [high, low] = u16::try_from(port).unwrap_or(u16::MAX).to_be_bytes();
        Self { dst: told.unwrap_or([2, 0, 0, 0, high, low]), src }
    }
}

impl Rewrite {
    /// Changes all frames of a burst; a runt keeps its bytes.
    #[inline]
    pub(crate) fn apply(self, burst: &mut Burst<Cpu>, addresses: &Addresses) {
        match self {
            Self::None => {}
            Self::MacSwap => swap_all(burst),
            Self::MacUpdate => update_all(burst, addresses),
        }
    }
}

// Loops of their own: inlined into the worker's, they are short of registers.
#[inline(never)]
fn swap_all(burst: &mut Burst<Cpu>) {
    burst.for_each_mut(0, |mut frame| swap(frame.bytes_mut()));
}

#[inline(never)]
fn update_all(burst: &mut Burst<Cpu>, addresses: &Addresses) {
    burst.for_each_mut(0, |mut frame| update(frame.bytes_mut(), addresses));
}

#[inline]
fn swap(bytes: &mut [u8]) {
    if let Some((dst, rest)) = bytes.split_first_chunk_mut::<6>()
        && let Some(src) = rest.first_chunk_mut::<6>()
    {
        mem::swap(dst, src);
    }
}

#[inline]
fn update(bytes: &mut [u8], addresses: &Addresses) {
    if let Some((dst, rest)) = bytes.split_first_chunk_mut::<6>()
        && let Some(src) = rest.first_chunk_mut::<6>()
    {
        (*dst, *src) = (addresses.dst, addresses.src);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_swapped_or_set_and_a_runt_keeps_its_bytes() {
        let frame: Vec<u8> = (0..20).collect();
        let mut swapped = frame.clone();
        swap(&mut swapped);
        assert_eq!(swapped[..12], [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5]);
        let mut updated = frame.clone();
        let told = [EthDest { port: 7, mac: [9; 6] }];
        update(&mut updated, &Addresses::towards(7, &told, [8; 6]));
        assert_eq!(updated[..14], [9, 9, 9, 9, 9, 9, 8, 8, 8, 8, 8, 8, 12, 13]);
        update(&mut updated, &Addresses::towards(3, &told, [8; 6]));
        assert_eq!(updated[..6], [2, 0, 0, 0, 0, 3]);
        let mut runt = frame[..11].to_vec();
        swap(&mut runt);
        update(&mut runt, &Addresses::default());
        assert_eq!(runt, frame[..11]);
    }

    #[test]
    fn a_destination_is_a_port_and_an_address() {
        let found = "1:02:00:5e:0:1:ff".parse();
        assert_eq!(found, Ok(EthDest { port: 1, mac: [2, 0, 0x5e, 0, 1, 0xff] }));
        for text in
            ["", "1", "1:", "x:02:00:00:00:00:01", "1:02:00:00:00:00", "1:02:00:00:00:00:001"]
        {
            let error = text.parse::<EthDest>().unwrap_err();
            assert!(error.ends_with("is not of the form 0:02:00:00:00:00:01"), "{error}");
        }
        assert!("1:02:00:00:00:00:01:07".parse::<EthDest>().is_err());
        assert!("1:0g:00:00:00:00:01".parse::<EthDest>().is_err());
    }
}
