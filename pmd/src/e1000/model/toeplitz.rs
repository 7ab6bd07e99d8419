//! The RSS hash: Toeplitz, bit by bit, as Microsoft's "RSS hash functions" defines it.

/// Hash of `input` by a key at least 4 bytes longer than it: each set bit of the input adds (exclusive
/// or) the 32 bits of the key that start where the bit stands.
pub(super) fn hash(key: &[u8; 40], input: impl IntoIterator<Item = u8>) -> u32 {
    let mut window =
        u64::from_be_bytes([key[0], key[1], key[2], key[3], key[4], key[5], key[6], key[7]]);
    let mut sum = 0;
    for (next, byte) in (8..).zip(input) {
        for bit in (0..8).rev() {
            if byte >> bit & 1 == 1 {
                sum ^= u32::try_from(window >> 32).unwrap_or(0);
            }
            window <<= 1;
        }
        window |= u64::from(*key.get::<usize>(next).unwrap_or(&0));
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::Rss;

    /// Microsoft's verification suite: source, destination, ports; hash without and with ports.
    #[test]
    fn microsofts_vectors_for_ipv4() {
        let key = Rss::default().key;
        let vectors: [(&str, u16, &str, u16, u32, u32); 5] = [
            ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323e_8fc2, 0x51cc_c178),
            ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xd718_262a, 0xc626_b0ea),
            ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xd2d0_a5de, 0x5c2b_394a),
            ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x8298_9176, 0xafc7_327f),
            ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5d18_09c5, 0x10e8_28a2),
        ];
        for (from, from_port, to, to_port, plain, with_ports) in vectors {
            let [from, to] = [from, to].map(|text| text.parse::<Ipv4Addr>().unwrap().octets());
            let addresses = from.into_iter().chain(to);
            assert_eq!(hash(&key, addresses.clone()), plain);
            let ports = from_port.to_be_bytes().into_iter().chain(to_port.to_be_bytes());
            assert_eq!(hash(&key, addresses.chain(ports)), with_ports);
        }
    }

    #[test]
    fn microsofts_vectors_for_ipv6() {
        let key = Rss::default().key;
        let vectors: [(&str, u16, &str, u16, u32, u32); 3] = [
            ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2cc1_8cd5, 0x4020_7d3d),
            ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0f0c_461c, 0xdde5_1bbf),
            (
                "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
                44251,
                "fe80::200:f8ff:fe21:67cf",
                38024,
                0x4b61_e985,
                0x02d1_feef,
            ),
        ];
        for (from, from_port, to, to_port, plain, with_ports) in vectors {
            let [from, to] = [from, to].map(|text| text.parse::<Ipv6Addr>().unwrap().octets());
            let addresses = from.into_iter().chain(to);
            assert_eq!(hash(&key, addresses.clone()), plain);
            let ports = from_port.to_be_bytes().into_iter().chain(to_port.to_be_bytes());
            assert_eq!(hash(&key, addresses.chain(ports)), with_ports);
        }
    }
}
