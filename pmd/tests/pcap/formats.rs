//! Every format is read as its draft says.

use std::{io::Read, time::Duration};

use pcap_file::{
    Endianness, TsResolution,
    pcap::{PcapHeader, PcapPacket, PcapWriter},
    pcapng::{
        PcapNgWriter,
        blocks::{
            enhanced_packet::EnhancedPacketBlock,
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
        },
    },
};
use pmd::pcap::Reader;
use proptest::{collection::vec, prelude::*};

use crate::captures::{
    Big, Little, MICRO, NANO, block, header, interface, option, packet, record, section, simple,
    udp,
};

/// Number, offset, timestamp, original length and bytes of every record.
type Rows = Vec<(u64, u64, Option<u64>, usize, Vec<u8>)>;

pub(crate) fn read(source: impl Read) -> Rows {
    let mut reader = Reader::new(source);
    let mut rows = Rows::new();
    while let Some(it) = reader.read_record().unwrap() {
        rows.push((it.number, it.offset, it.timestamp, it.original, it.bytes.to_vec()));
    }
    rows
}

/// Hands out one byte at a time.
struct Drip<'a>(&'a [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let count = to.len().min(1);
        self.0.read(&mut to[..count])
    }
}

#[test]
fn classic_captures_of_both_orders_and_resolutions_are_read() {
    for order in [Little, Big] {
        for (magic, nanoseconds) in [(MICRO, 3_000), (NANO, 3)] {
            let mut file = header(order, magic, 1);
            file.extend(record(order, 5, 3, 60, 60, &udp(1, 1, 60)));
            file.extend(record(order, u32::MAX, 999_999, 20, 1500, &udp(1, 2, 60)[..20]));
            file.extend(record(order, 0, 0, 0, 0, &[]));
            let rows = read(file.as_slice());
            assert_eq!(rows, read(Drip(&file)));
            assert_eq!(rows[0], (1, 24, Some(5_000_000_000 + nanoseconds), 60, udp(1, 1, 60)));
            let last = u64::from(u32::MAX) * 1_000_000_000 + 999_999 * (nanoseconds / 3);
            assert_eq!(rows[1], (2, 100, Some(last), 1500, udp(1, 2, 60)[..20].to_vec()));
            assert_eq!(rows[2], (3, 136, Some(0), 0, vec![]));
            assert_eq!(rows.len(), 3);
        }
    }
}

#[test]
fn several_sections_and_interfaces_keep_their_own_clock_and_order() {
    let frame = udp(1, 1, 61);
    let mut file = Vec::new();
    for order in [Big, Little] {
        file.extend(section(order));
        file.extend(interface(order, 1, &[]));
        let nano = [option(order, 2, b"eth0"), option(order, 9, &[9]), option(order, 0, &[])];
        file.extend(interface(order, 1, &nano.concat()));
        file.extend(interface(order, 1, &option(order, 9, &[0x80 | 20])));
        let offset = if order == Big { 100_i64.to_be_bytes() } else { 100_i64.to_le_bytes() };
        let shifted = [option(order, 9, &[0]), option(order, 14, &offset)];
        file.extend(interface(order, 1, &shifted.concat()));
        file.extend(block(order, 0xbad, &[7; 1000]));
        file.extend(packet(order, 0, 5_000_003, 61, &frame, &[]));
        file.extend(packet(order, 1, 5_000_000_003, 61, &frame, &option(order, 1, b"remark")));
        file.extend(block(order, 5, &[0; 12]));
        file.extend(packet(order, 2, 5 << 20 | 1 << 19, 1500, &frame, &[]));
        file.extend(packet(order, 3, 5, 61, &frame, &[]));
        file.extend(simple(order, 61, &frame));
    }
    let rows = read(file.as_slice());
    assert_eq!(rows, read(Drip(&file)));
    let times: Vec<_> = rows.iter().map(|row| row.2).collect();
    let five = 5_000_000_000;
    let section = [
        Some(five + 3_000),
        Some(five + 3),
        Some(five + 500_000_000),
        Some(five + 100_000_000_000),
        None,
    ];
    assert_eq!(times, [section, section].concat());
    assert!(rows.iter().all(|row| row.4 == frame));
    assert_eq!(rows[2].3, 1500);
}

#[test]
fn a_checksum_captured_behind_the_frame_is_cut_off() {
    let mut file = header(Little, MICRO, 2 << 28 | 1 << 26 | 1);
    file.extend(record(Little, 0, 0, 64, 64, &udp(1, 1, 64)));
    file.extend(record(Little, 0, 0, 62, 64, &udp(1, 1, 62)));
    file.extend(record(Little, 0, 0, 40, 64, &udp(1, 1, 40)));
    let lengths: Vec<_> = read(file.as_slice()).iter().map(|row| (row.3, row.4.len())).collect();
    assert_eq!(lengths, [(60, 60), (60, 60), (60, 40)]);

    let mut file = section(Little);
    file.extend(interface(Little, 1, &option(Little, 13, &[4])));
    file.extend(packet(Little, 0, 0, 64, &udp(1, 1, 64), &[]));
    assert_eq!(read(file.as_slice())[0].4.len(), 60);
}

#[test]
fn captures_without_records_are_fine() {
    assert!(read(header(Big, NANO, 1).as_slice()).is_empty());
    assert!(read(section(Big).as_slice()).is_empty());
}

#[test]
fn the_longest_record_is_read_from_a_trickle() {
    let data = vec![0xa5; 262_144];
    let mut file = header(Little, NANO, 1);
    file.extend(record(Little, 1, 0, 262_144, 262_144, &data));
    assert_eq!(read(Drip(&file))[0].4, data);
    let mut file = section(Little);
    file.extend(interface(Little, 1, &[]));
    file.extend(packet(Little, 0, 0, 262_144, &data, &option(Little, 1, &[b'x'; 60_000])));
    assert_eq!(read(Drip(&file))[0].4, data);
}

fn endianness(big: bool) -> Endianness {
    if big { Endianness::Big } else { Endianness::Little }
}

proptest! {
    #[test]
    fn what_another_writer_writes_in_the_classic_format_is_read(
        frames in vec((any::<u32>(), 0_u32..1_000_000_000, vec(any::<u8>(), 0..300)), 0..20),
        big: bool,
        nano: bool,
    ) {
        let header = PcapHeader {
            endianness: endianness(big),
            ts_resolution: if nano { TsResolution::NanoSecond } else { TsResolution::MicroSecond },
            ..PcapHeader::default()
        };
        let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
        let mut expected = Vec::new();
        for (seconds, nanos, data) in frames {
            let len = u32::try_from(data.len()).unwrap();
            let time = Duration::new(seconds.into(), nanos);
            writer.write_packet(&PcapPacket::new(time, len, &data)).unwrap();
            let kept = if nano { nanos } else { nanos / 1000 * 1000 };
            expected.push((u64::from(seconds) * 1_000_000_000 + u64::from(kept), data));
        }
        let file = writer.into_writer();
        let got: Vec<_> = read(file.as_slice()).into_iter().map(|row| (row.2.unwrap(), row.4)).collect();
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn what_another_writer_writes_in_blocks_is_read(
        frames in vec((0_u32..3, 0_u64..1 << 60, vec(any::<u8>(), 0..300)), 0..20),
        big: bool,
    ) {
        let mut writer = PcapNgWriter::with_endianness(Vec::new(), endianness(big)).unwrap();
        for _ in 0..3 {
            let options = vec![InterfaceDescriptionOption::IfTsResol(9)];
            writer.write_pcapng_block(InterfaceDescriptionBlock {
                linktype: pcap_file::DataLink::ETHERNET,
                snaplen: 0,
                options,
            }).unwrap();
        }
        for (interface_id, time, data) in &frames {
            writer.write_pcapng_block(EnhancedPacketBlock {
                interface_id: *interface_id,
                timestamp: Duration::from_nanos(*time),
                original_len: u32::try_from(data.len()).unwrap(),
                data: data.into(),
                options: vec![],
            }).unwrap();
        }
        let file = writer.into_inner();
        let got: Vec<_> = read(file.as_slice()).into_iter().map(|row| (row.2.unwrap(), row.4)).collect();
        let expected: Vec<_> = frames.into_iter().map(|(_, time, data)| (time, data)).collect();
        prop_assert_eq!(got, expected);
    }
}
