//! Transmit descriptors: legacy, context and data of the 82574 (§7.2.5 to §7.2.8), context and data of
//! the 82576 (§7.2.2).
//!
//! In all of them the second word has the command byte at bits 31:24 and the done bit at 32.

use mempool::{Offload, TxMeta};

/// Status: the device is done with this descriptor and with those before it.
pub(in crate::e1000) const DONE: u64 = 1 << 32;
/// Command: the last descriptor of a frame.
pub(in crate::e1000) const LAST: u64 = 1 << 24;
/// Command: insert the FCS.
const FCS: u64 = 1 << 25;
/// Command: report when done.
pub(in crate::e1000) const REPORT: u64 = 1 << 27;
/// Command: not a legacy descriptor.
const EXTENDED: u64 = 1 << 29;
/// Command: insert a VLAN tag.
const VLAN: u64 = 1 << 30;
/// Options of data descriptors: insert the IP checksum, the TCP or UDP checksum.
const IP_SUM: u64 = 1 << 40;
const L4_SUM: u64 = 1 << 41;

/// Shortest frame the chips pad by themselves (82574 §10.2.6.4 TCTL.PSP: 17 bytes with padding on).
pub(in crate::e1000) const SHORTEST: usize = 17;

/// How a frame that asks for something is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::e1000) struct Request {
    /// The context descriptor that has to come first, unless the device has this very one already.
    pub(in crate::e1000) context: Option<[u64; 2]>,
    /// The second word of all its data descriptors, but for the length and [`LAST`].
    pub(in crate::e1000) data: u64,
}

/// How a chip lays out what it sends.
pub(in crate::e1000) trait TxFormat: Send + 'static {
    /// Bytes of one descriptor at most.
    const LONGEST_PIECE: usize;

    /// The second word of the descriptors of a frame of `frame_len` bytes that asks for nothing, but for
    /// the length of the piece and [`LAST`].
    fn plain(frame_len: usize) -> u64;

    /// How a frame of `frame_len` bytes that asks for something is sent; `None` if the chip cannot do it
    /// or it makes no sense. `max_frame` is the longest frame on the wire.
    fn request(asked: &TxMeta, frame_len: usize, max_frame: usize) -> Option<Request>;
}

/// What both chips have to know of a frame whose checksums they fill in.
struct Headers {
    l2: u64,
    l3: u64,
    /// The transport header starts here.
    transport: usize,
}

/// The lengths of the headers, if they are possible ones of a frame that has them all.
fn headers(asked: &TxMeta, frame_len: usize) -> Option<Headers> {
    let offload = asked.offload;
    let (l2, l3) = (usize::from(asked.l2_len), usize::from(asked.l3_len));
    let transport = l2 + l3;
    let l4 = match (offload.has(Offload::TX_TCP_CSUM), offload.has(Offload::TX_UDP_CSUM)) {
        (true, true) => return None,
        (true, false) => 20,
        (false, true) => 8,
        (false, false) => 0,
    };
    let ip_fits = !offload.has(Offload::TX_IP_CSUM) || (20..=60).contains(&l3);
    let fits = l2 >= 14 && l3 >= 20 && ip_fits && transport + l4 <= frame_len;
    fits.then_some(Headers { l2: l2 as u64, l3: l3 as u64, transport })
}

/// Whether a checksum is asked for.
fn asks_checksum(offload: Offload) -> bool {
    let all = Offload::TX_IP_CSUM.with(Offload::TX_TCP_CSUM).with(Offload::TX_UDP_CSUM);
    !offload.and(all).is_empty()
}

/// Which checksums a data descriptor asks for.
fn sums(offload: Offload) -> u64 {
    let ip = if offload.has(Offload::TX_IP_CSUM) { IP_SUM } else { 0 };
    let l4 = Offload::TX_TCP_CSUM.with(Offload::TX_UDP_CSUM);
    if offload.and(l4).is_empty() { ip } else { ip | L4_SUM }
}

/// 82574: legacy descriptors where nothing is asked (§7.2.5), TCP/IP context and data descriptors where
/// something is (§7.2.6, §7.2.7). This driver leaves its segmentation alone.
pub(in crate::e1000) struct Legacy;

impl TxFormat for Legacy {
    /// §7.2.5.1: the longest descriptor of either kind.
    const LONGEST_PIECE: usize = 16288;

    #[inline(always)]
    fn plain(_frame_len: usize) -> u64 {
        FCS
    }

    fn request(asked: &TxMeta, frame_len: usize, _max_frame: usize) -> Option<Request> {
        let offload = asked.offload;
        if offload.has(Offload::TX_TCP_SEGMENT) {
            return None;
        }
        let tag = if offload.has(Offload::TX_VLAN_INSERT) {
            VLAN | u64::from(asked.vlan) << 48
        } else {
            0
        };
        if !asks_checksum(offload) {
            return Some(Request { context: None, data: FCS | tag });
        }
        let Headers { l2, l3, transport } = headers(asked, frame_len)?;
        let start = u64::from(u8::try_from(transport).ok()?);
        // Where the sum goes: byte 16 of a TCP header, 6 of a UDP header, 10 of an IPv4 header.
        let is_tcp = offload.has(Offload::TX_TCP_CSUM);
        let sum = u64::from(u8::try_from(transport + if is_tcp { 16 } else { 6 }).ok()?);
        // IPCSS 7:0, IPCSO 15:8, IPCSE (the last byte) 31:16, TUCSS 39:32, TUCSO 47:40, TUCSE 63:48: 0
        // is the end of the frame.
        let ip = l2 | (l2 + 10) << 8 | (l2 + l3 - 1) << 16;
        let context = [ip | start << 32 | sum << 40, EXTENDED | u64::from(is_tcp) << 24];
        // DTYP 23:20 is 1 in a data descriptor.
        Some(Request {
            context: Some(context),
            data: FCS | EXTENDED | 1 << 20 | tag | sums(offload),
        })
    }
}

/// 82576: advanced data descriptors, and context descriptors for checksums, tags and segmentation.
pub(in crate::e1000) struct Advanced;

/// DTYP 23:20 of an advanced data descriptor, with what all of them ask.
const ADVANCED: u64 = 3 << 20 | EXTENDED | FCS;
/// Command: segment TCP (DCMD.TSE).
const SEGMENT: u64 = 1 << 31;
/// Context (TUCMD 18:9): IPv4, TCP.
const IPV4: u64 = 1 << 10;
const TCP: u64 = 1 << 11;

impl TxFormat for Advanced {
    /// §7.2.2.3.2: DTALEN has 16 bits.
    const LONGEST_PIECE: usize = 65535;

    /// With PAYLEN, 63:46: the whole frame's bytes.
    #[inline(always)]
    fn plain(frame_len: usize) -> u64 {
        ADVANCED | (frame_len as u64) << 46
    }

    fn request(asked: &TxMeta, frame_len: usize, max_frame: usize) -> Option<Request> {
        let offload = asked.offload;
        let has_tag = offload.has(Offload::TX_VLAN_INSERT);
        let segments = offload.has(Offload::TX_TCP_SEGMENT);
        let offload = if segments { offload.with(Offload::TX_TCP_CSUM) } else { offload };
        let asked = TxMeta { offload, ..*asked };
        // IPLEN 8:0, MACLEN 15:9, VLAN 31:16; DTYP 23:20 is 2 in a context descriptor.
        let mut low = if has_tag { u64::from(asked.vlan) << 16 } else { 0 };
        let mut high = EXTENDED | 2 << 20;
        let mut data = ADVANCED | if has_tag { VLAN } else { 0 };
        let mut payload = frame_len;
        if asks_checksum(offload) {
            let Headers { l2, l3, transport } = headers(&asked, frame_len)?;
            if l2 > 0x7f || l3 > 0x1ff {
                return None;
            }
            low |= l3 | l2 << 9;
            high |= if offload.has(Offload::TX_IP_CSUM) { IPV4 } else { 0 };
            high |= if offload.has(Offload::TX_TCP_CSUM) { TCP } else { 0 };
            data |= sums(offload);
            if segments {
                let head = transport + usize::from(asked.l4_len);
                let on_wire = head + usize::from(asked.mss);
                if asked.l4_len < 20 || asked.mss == 0 || on_wire > max_frame || head >= frame_len {
                    return None;
                }
                // L4LEN 47:40, MSS 63:48; PAYLEN is without the headers then.
                high |= u64::from(asked.l4_len) << 40 | u64::from(asked.mss) << 48;
                data |= SEGMENT;
                payload = frame_len - head;
            }
        } else {
            // For a tag alone: an Ethernet header.
            low |= 14 << 9;
        }
        if payload >= 1 << 18 {
            return None;
        }
        Some(Request { context: Some([low, high]), data: data | (payload as u64) << 46 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP4: TxMeta = TxMeta {
        offload: Offload::TX_IP_CSUM.with(Offload::TX_TCP_CSUM),
        vlan: 0,
        l2_len: 14,
        l3_len: 20,
        l4_len: 20,
        mss: 0,
    };

    #[test]
    fn an_82574_is_told_where_sums_start_and_go() {
        let request = Legacy::request(&TCP4, 60, 1518).unwrap();
        // Sums of bytes 14..=33 to 24, and of 34.. to 50; TCP.
        let context = [14 | 24 << 8 | 33 << 16 | 34 << 32 | 50 << 40, 0x2100_0000];
        assert_eq!(request.context, Some(context));
        assert_eq!(request.data, 0x0300_2210_0000, "IXSM, TXSM, DEXT, IFCS, DTYP 1");

        let udp = TxMeta { offload: Offload::TX_UDP_CSUM, l3_len: 40, ..TCP4 };
        let request = Legacy::request(&udp, 62, 1518).unwrap();
        let [sums, command] = request.context.unwrap();
        assert_eq!((sums >> 32 & 0xff, sums >> 40 & 0xff), (54, 60));
        assert_eq!(command, 0x2000_0000, "UDP");
        assert_eq!(request.data, 0x0200_2210_0000, "TXSM alone");
    }

    #[test]
    fn an_82576_is_told_header_lengths_and_the_payload_of_segments() {
        let request = Advanced::request(&TCP4, 60, 1518).unwrap();
        assert_eq!(request.context, Some([20 | 14 << 9, 0x2020_0c00]));
        assert_eq!(request.data, 60 << 46 | 0x0300_2230_0000);

        let offload = TCP4.offload.with(Offload::TX_TCP_SEGMENT).with(Offload::TX_VLAN_INSERT);
        let tso = TxMeta { offload, mss: 1460, vlan: 0x6007, ..TCP4 };
        let request = Advanced::request(&tso, 40_054, 1518).unwrap();
        let context = [20 | 14 << 9 | 0x6007 << 16, 0x2020_0c00 | 20 << 40 | 1460 << 48];
        assert_eq!(request.context, Some(context));
        assert_eq!(request.data, 40_000 << 46 | 0x0300_e230_0000, "TSE, VLE, DEXT");
    }

    #[test]
    fn a_tag_needs_no_context_on_the_82574_and_one_on_the_82576() {
        let tag = TxMeta { offload: Offload::TX_VLAN_INSERT, vlan: 7, ..TxMeta::default() };
        let request = Legacy::request(&tag, 60, 1518).unwrap();
        assert_eq!(request, Request { context: None, data: 7 << 48 | 0x4200_0000 });
        let request = Advanced::request(&tag, 60, 1518).unwrap();
        assert_eq!(request.context, Some([14 << 9 | 7 << 16, 0x2020_0000]));
        assert_eq!(request.data, 60 << 46 | 0x6230_0000);
    }

    #[test]
    fn what_makes_no_sense_or_cannot_be_done_is_refused() {
        let segment = TCP4.offload.with(Offload::TX_TCP_SEGMENT);
        let tso = TxMeta { offload: segment, mss: 1460, ..TCP4 };
        assert_eq!(Legacy::request(&tso, 9000, 1518), None, "the driver has no TSO there");
        let both = TCP4.offload.with(Offload::TX_UDP_CSUM);
        for (what, asked, len) in [
            ("no link header", TxMeta { l2_len: 0, ..TCP4 }, 60),
            ("no IP header", TxMeta { l3_len: 0, ..TCP4 }, 60),
            ("an IPv4 header of 64 bytes", TxMeta { l3_len: 64, ..TCP4 }, 200),
            ("a TCP header behind the end", TCP4, 53),
            ("TCP and UDP", TxMeta { offload: both, ..TCP4 }, 60),
        ] {
            assert_eq!(Legacy::request(&asked, len, 1518), None, "82574: {what}");
            assert_eq!(Advanced::request(&asked, len, 1518), None, "82576: {what}");
        }
        let far = TxMeta { offload: Offload::TX_UDP_CSUM, l3_len: 300, ..TCP4 };
        assert_eq!(Legacy::request(&far, 400, 1518), None, "offsets have 8 bits");
        assert!(Advanced::request(&far, 400, 1518).is_some());
        for (what, asked) in [
            ("no segment size", TxMeta { mss: 0, ..tso }),
            ("no TCP header", TxMeta { l4_len: 0, ..tso }),
            ("segments longer than frames", TxMeta { mss: 1480, ..tso }),
            ("headers too long for the chip", TxMeta { l2_len: 128, ..tso }),
        ] {
            assert_eq!(Advanced::request(&asked, 9000, 1518), None, "{what}");
        }
        assert_eq!(Advanced::request(&tso, 54, 1518), None, "no payload to cut");
        assert_eq!(Advanced::request(&tso, 54 + (1 << 18), 1518), None, "PAYLEN has 18 bits");
    }
}
