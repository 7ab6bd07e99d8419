//! Frames of any template, held against another reader's idea of headers and checksums.

use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use mempool::{Burst, Cpu, Pool, heap::Heap};
use memwire_apps::traffic::{
    AppHeader, Flows, Generator, HeaderChoice, Sizes, Stamp, Template, Traffic, Transport,
};
use proptest::prelude::*;

fn pool() -> Pool<Cpu> {
    let pool = Pool::builder().name("source").slots(64).stride(4096);
    pool.memory(&Heap::new()).build().unwrap()
}

fn frames(traffic: &Traffic, count: usize) -> Vec<Vec<u8>> {
    let pool = pool();
    let mut generator = Generator::new(&pool, traffic, 0, 1).unwrap();
    let (mut cache, mut burst) = (pool.cache(), Burst::with_limit(&pool, 16));
    let mut frames = Vec::new();
    while frames.len() < count {
        generator.fill(&mut cache, &mut burst, 16, 1_763_000_000_123_456_789 + frames.len() as u64);
        frames.extend(burst.iter().map(|frame| frame.bytes().to_vec()));
        burst.recycle(&mut cache);
    }
    frames
}

/// Headers, lengths and checksums are right, and are those of the template.
fn check(template: &Template, frame: &[u8]) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let tags: Vec<_> = sliced.vlan_ids().iter().map(|id| id.value()).collect();
    let expected: Vec<_> = [template.outer_vlan, template.vlan].into_iter().flatten().collect();
    assert_eq!(tags, expected);
    let ip_len = frame.len() - template.ip_at();
    let (src, dst): (IpAddr, IpAddr) = match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
            assert_eq!(usize::from(header.total_len()), ip_len);
            assert_eq!(
                (header.ttl(), header.dcp().value() << 2 | header.ecn().value()),
                (template.ttl, template.tos)
            );
            if template.header != HeaderChoice::None {
                let stamp = Stamp::read(&frame[template.test_at()..]).unwrap();
                let [.., high, low] = stamp.sequence.to_be_bytes();
                let number = if template.ip_id { u16::from_be_bytes([high, low]) } else { 0 };
                assert_eq!(header.identification(), number);
            }
            (header.source_addr().into(), header.destination_addr().into())
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            assert_eq!(usize::from(header.payload_length()), ip_len - 40);
            assert_eq!((header.hop_limit(), header.traffic_class()), (template.ttl, template.tos));
            (header.source_addr().into(), header.destination_addr().into())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(dst, template.dst);
    let checksum = |header: &dyn Fn() -> (u16, u16)| {
        let (found, right) = header();
        assert_eq!(found, right, "transport checksum");
    };
    match sliced.transport.unwrap() {
        TransportSlice::Udp(udp) => {
            let (header, payload) = (udp.to_header(), udp.payload());
            assert_eq!(usize::from(header.length), 8 + template_payload(template, frame));
            assert_eq!(header.destination_port, template.dst_port);
            if template.has_checksum() {
                checksum(&|| {
                    let right = match (src, dst) {
                        (IpAddr::V4(src), IpAddr::V4(dst)) => {
                            header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), payload)
                        }
                        (IpAddr::V6(src), IpAddr::V6(dst)) => {
                            header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), payload)
                        }
                        _ => panic!("two versions"),
                    };
                    (header.checksum, right.unwrap())
                });
            } else {
                assert_eq!(header.checksum, 0);
            }
        }
        TransportSlice::Tcp(tcp) => {
            let (header, payload) = (tcp.to_header(), tcp.payload());
            checksum(&|| {
                let right = match (src, dst) {
                    (IpAddr::V4(src), IpAddr::V4(dst)) => {
                        header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), payload)
                    }
                    (IpAddr::V6(src), IpAddr::V6(dst)) => {
                        header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), payload)
                    }
                    _ => panic!("two versions"),
                };
                (header.checksum, right.unwrap())
            });
        }
        other => panic!("{other:?}"),
    }
    if template.header != HeaderChoice::None {
        let test = &frame[template.test_at()..];
        let stamp = Stamp::read(test).unwrap();
        assert_eq!(stamp.crc, crc32c::crc32c(&test[stamp.len..]));
    }
}

fn template_payload(template: &Template, frame: &[u8]) -> usize {
    frame.len() - template.payload_at()
}

fn templates() -> impl Strategy<Value = Template> {
    let tags = prop_oneof![
        Just((None, None)),
        (1..=4094u16).prop_map(|vlan| (None, Some(vlan))),
        (1..=4094u16, 1..=4094u16).prop_map(|(outer, vlan)| (Some(outer), Some(vlan))),
    ];
    let addresses = prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(src, dst)| (IpAddr::from(src), IpAddr::from(dst))),
        any::<([u8; 16], [u8; 16])>().prop_map(|(src, dst)| (src.into(), dst.into())),
    ];
    let layers = prop_oneof![
        Just((Transport::Udp, AppHeader::None)),
        any::<u8>().prop_map(|flags| (Transport::Tcp { flags }, AppHeader::None)),
        (0..=127u8, any::<u32>(), any::<u32>()).prop_map(|(payload_type, ssrc, step)| {
            (Transport::Udp, AppHeader::Rtp { payload_type, ssrc, step })
        }),
        (4..=15u8).prop_map(|items| (Transport::Udp, AppHeader::Spead { items })),
    ];
    let form = prop_oneof![
        Just(HeaderChoice::Auto),
        Just(HeaderChoice::Long),
        Just(HeaderChoice::Short),
        Just(HeaderChoice::None)
    ];
    (tags, addresses, layers, form, any::<(u8, u16, u16, bool, bool)>(), 1..=255u8, 0..=7u8)
        .prop_map(
            |((outer_vlan, vlan), (src, dst), (transport, app), header, rest, ttl, priority)| {
                let (tos, src_port, dst_port, checksum, ip_id) = rest;
                Template {
                    outer_vlan,
                    vlan,
                    priority,
                    src,
                    dst,
                    transport,
                    app,
                    header,
                    ttl,
                    tos,
                    src_port,
                    dst_port,
                    checksum,
                    ip_id: ip_id && src.is_ipv4(),
                    ..Template::default()
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_frame_of_every_template_is_right(
        template in templates(),
        more in proptest::collection::vec(0..1500usize, 1..4),
        flows in 1..5usize,
        fresh in any::<bool>(),
        random in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let least = template.least_frame();
        let sizes: Vec<_> = more.iter().map(|more| (least + more).to_string()).collect();
        let sizes: Sizes = sizes.join(",").parse().unwrap();
        let src_port = Some((template.src_port..=template.src_port.saturating_add(4)).into());
        let count = flows.min(usize::from(u16::MAX - template.src_port) + 1);
        let flows = Flows { count, src_port, random, ..Flows::default() };
        let traffic = Traffic {
            template, sizes: Some(sizes), flows, fresh, random_sizes: random, seed, ..Traffic::default()
        };
        frames(&traffic, 100).iter().for_each(|frame| check(&template, frame));
    }
}

#[test]
fn the_identification_wraps_with_its_number() {
    let template = Template { ip_id: true, payload_len: 24, ..Template::default() };
    let traffic = Traffic { template, ..Traffic::default() };
    frames(&traffic, 66_000).iter().for_each(|frame| check(&template, frame));
}

#[test]
fn the_shortest_frames_of_each_kind_are_right() {
    let base = Template { header: HeaderChoice::Auto, ..Template::default() };
    let v6 = Template {
        src: [0xfd00, 0, 0, 0, 0, 0, 0, 1].into(),
        dst: [0xfd00, 0, 0, 0, 0, 0, 0, 2].into(),
        ..base
    };
    for (template, least) in [
        (base, 60),
        (Template { vlan: Some(5), ..base }, 62),
        (v6, 78),
        (Template { transport: Transport::Tcp { flags: 2 }, ..base }, 70),
        (Template { header: HeaderChoice::Long, ..base }, 66),
    ] {
        assert_eq!(template.least_frame(), least);
        let traffic = Traffic { template, sizes: Some(Sizes::fixed(least)), ..Traffic::default() };
        frames(&traffic, 50).iter().for_each(|frame| {
            assert_eq!(frame.len(), least);
            check(&template, frame);
        });
    }
}
