//! What a port finds out about frames, asks of its chip, filters, spreads over queues and wakes for: one port
//! on one model, frames to and from the test.

use std::os::fd::BorrowedFd;

use mempool::{Burst, Cache, Cpu, Offload, Pool, TxMeta};
use pmd::{
    Config, Device, DropReason, Queues, RxMemory,
    e1000::model::{Chip, Model, Options},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    raw::udp,
    rig::{CHIPS, Port, pool, port},
    stream::Stream,
};

const OURS: [u8; 6] = [0x02, 0x57, 0x1e, 0, 0, 1];

/// A started port and its model.
struct Single {
    model: Model,
    port: Port,
    queues: Queues,
    pool: Pool<Cpu>,
    cache: Cache<Cpu>,
    burst: Box<Burst<Cpu>>,
}

impl Single {
    fn new(chip: Chip, rx: usize, config: Config) -> Self {
        let model = Model::new(Options::new(chip));
        let mut port = port(&model, chip).unwrap();
        let pool = pool(4096, 2176);
        let config =
            (0..rx).fold(config, |config, _| config.with_rx(RxMemory::Whole(pool.clone())));
        let config = config.with_tx(&pool).rings(128);
        let queues = port.start(config).unwrap_or_else(|error| panic!("{error}"));
        let (cache, burst) = (pool.cache(), Box::new(Burst::new(&pool)));
        Self { model, port, queues, pool, cache, burst }
    }

    /// What arrived at a queue: bytes and what is known of them.
    fn receive(&mut self, queue: usize) -> Vec<(Vec<u8>, mempool::Meta)> {
        let pmd::AnyRxQueue::Whole(rx) = &mut self.queues.rx[queue] else { panic!("whole frames") };
        rx.recv(&mut self.cache, &mut self.burst);
        let frames = self.burst.iter().map(|frame| {
            let mut bytes = vec![0; frame.frame_len()];
            frame.copy_to(&mut bytes);
            (bytes, *frame.meta())
        });
        let frames = frames.collect();
        self.burst.recycle(&mut self.cache);
        frames
    }

    /// Sends frames, each with what is asked for it; how they went out.
    fn send(&mut self, frames: &[(Vec<u8>, TxMeta)]) -> Vec<Vec<u8>> {
        let mut burst = Burst::new(&self.pool);
        for (bytes, asked) in frames {
            let mut buf = Stream::make(&mut self.cache, bytes).unwrap();
            buf.frame_mut().ask(asked);
            burst.push(buf);
        }
        let taken = self.queues.tx[0].send(&mut self.cache, &mut burst);
        assert_eq!(taken, frames.len());
        self.queues.tx[0].reap(&mut self.cache);
        self.model.sent()
    }

    fn end(mut self) {
        self.port.stop(std::mem::take(&mut self.queues)).unwrap();
        let Self { model, pool, cache, burst, .. } = self;
        drop((cache, burst));
        assert!(pool.audit().is_home(), "{}", pool.audit());
        assert!(model.violations().is_empty(), "{:#?}", model.violations());
    }
}

#[test]
fn checksums_are_judged() {
    for chip in CHIPS {
        let mut single = Single::new(chip, 1, Config::default());
        let good = udp(OURS, [1, 2], 100, true);
        let unsummed = udp(OURS, [1, 2], 100, false);
        let (mut wrong, mut wrong_header) = (good.clone(), good.clone());
        wrong[90] ^= 1;
        wrong_header[25] ^= 1;
        let other = [&OURS[..], &[2; 6], &[0x88, 0xb5], &[1; 80]].concat();
        for frame in [&good, &wrong, &wrong_header, &unsummed, &other] {
            single.model.inject(frame);
        }
        let arrived = single.receive(0);
        let judged = arrived.iter().map(|(_, meta)| {
            let bits = [
                Offload::RX_IP_CSUM_GOOD,
                Offload::RX_IP_CSUM_BAD,
                Offload::RX_L4_CSUM_GOOD,
                Offload::RX_L4_CSUM_BAD,
            ];
            bits.map(|bit| u8::from(meta.offload().has(bit)))
        });
        let judged: Vec<_> = judged.collect();
        assert_eq!(judged, [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [1, 0, 0, 0], [0; 4]]);
        assert_eq!(arrived[1].0, wrong, "delivered all the same");
        single.end();
    }
}

#[test]
fn tags_are_stripped_if_asked_and_stay_otherwise() {
    for chip in CHIPS {
        for strip in [false, true] {
            let asked = if strip { Offload::RX_VLAN_STRIPPED } else { Offload::NONE };
            let mut single =
                Single::new(chip, 1, Config { rx_offloads: asked, ..Config::default() });
            let plain = udp(OURS, [1, 2], 100, true);
            let mut tagged = plain.clone();
            tagged.splice(12..12, [0x81, 0, 0x60, 0x0a]);
            single.model.inject(&tagged);
            single.model.inject(&plain);
            let arrived = single.receive(0);
            let meta = arrived[0].1;
            assert_eq!(arrived[0].0, if strip { plain.clone() } else { tagged });
            assert_eq!(meta.offload().has(Offload::RX_VLAN_STRIPPED), strip);
            assert_eq!(meta.vlan(), if strip { 0x600a } else { 0 });
            assert!(!arrived[1].1.offload().has(Offload::RX_VLAN_STRIPPED));
            single.end();
        }
    }
}

/// A frame to send: transport sum that of the pseudo header, IP sum 0; and what is to come of it.
fn unsummed(payload: usize) -> (Vec<u8>, Vec<u8>) {
    let to = [2, 0, 0, 0, 0, 7];
    let want = udp(to, [5, 6], payload, true);
    let mut frame = udp(to, [5, 6], payload, false);
    frame[24..26].fill(0);
    let pseudo = 0x0a00 + 1 + 0x0a00 + 2 + 17 + 8 + payload as u16;
    frame[40..42].copy_from_slice(&pseudo.to_be_bytes());
    (frame, want)
}

#[test]
fn checksums_are_inserted_where_they_are_asked_for() {
    for chip in CHIPS {
        let mut single = Single::new(chip, 0, Config::default());
        let offload = Offload::TX_IP_CSUM.with(Offload::TX_UDP_CSUM);
        let asked = TxMeta { offload, l2_len: 14, l3_len: 20, ..TxMeta::default() };
        let (mut frames, mut wanted) = (Vec::new(), Vec::new());
        for payload in (20..60).map(|step| step * 31) {
            let (frame, want) = unsummed(payload);
            frames.push((frame, asked));
            wanted.push(want.clone());
            // One that asks for nothing in between.
            frames.push((want.clone(), TxMeta::default()));
            wanted.push(want);
        }
        for (frames, wanted) in frames.chunks(20).zip(wanted.chunks(20)) {
            assert_eq!(single.send(frames), wanted);
        }
        single.end();
    }
}

#[test]
fn tags_are_inserted_whether_or_not_they_are_stripped_on_the_other_way() {
    for chip in CHIPS {
        for rx_offloads in [Offload::NONE, Offload::RX_VLAN_STRIPPED] {
            let mut single = Single::new(chip, 1, Config { rx_offloads, ..Config::default() });
            let offload = Offload::TX_VLAN_INSERT;
            let tag = TxMeta { offload, vlan: 0x2123, ..TxMeta::default() };
            let offload = offload.with(Offload::TX_IP_CSUM).with(Offload::TX_UDP_CSUM);
            let both = TxMeta { offload, vlan: 7, l2_len: 14, l3_len: 20, ..TxMeta::default() };
            let (frame, want) = unsummed(200);
            let tagged = |[a, b]: [u8; 2]| {
                let mut tagged = want.clone();
                tagged.splice(12..12, [0x81, 0, a, b]);
                tagged
            };
            let sent =
                single.send(&[(want.clone(), tag), (frame.clone(), both), (want.clone(), tag)]);
            assert_eq!(sent, [tagged([0x21, 0x23]), tagged([0, 7]), tagged([0x21, 0x23])]);
            single.end();
        }
    }
}

/// A TCP frame over IPv4 to be segmented.
fn tcp(payload: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0, 0, 0, 0, 5];
    frame.extend([0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 1, 0, 0, 0, 0]);
    let pseudo = 0x0a00 + 1 + 0x0a00 + 2 + 6u16;
    frame[50..52].copy_from_slice(&pseudo.to_be_bytes());
    frame.extend((0..payload).map(|at| (at * 13) as u8));
    frame
}

#[test]
fn the_82576_segments_and_the_82574_says_that_it_does_not() {
    let offload = Offload::TX_TCP_SEGMENT.with(Offload::TX_TCP_CSUM).with(Offload::TX_IP_CSUM);
    let asked =
        TxMeta { offload, l2_len: 14, l3_len: 20, l4_len: 20, mss: 1000, ..TxMeta::default() };
    let whole = tcp(8500);
    let mut single = Single::new(Chip::I82576, 0, Config::default());
    let sent = single.send(&[(whole.clone(), asked), (whole[..500].to_vec(), TxMeta::default())]);
    assert_eq!(sent.len(), 10);
    let lens: Vec<_> = sent.iter().map(Vec::len).collect();
    assert_eq!(lens, [&[1054; 8][..], &[554, 500]].concat());
    let payload: Vec<u8> = sent[..9].iter().flat_map(|one| &one[54..]).copied().collect();
    assert_eq!(payload, whole[54..]);
    single.end();

    let mut single = Single::new(Chip::I82574, 0, Config::default());
    assert!(!single.port.info().capabilities.tx_offloads.has(Offload::TX_TCP_SEGMENT));
    assert!(single.send(&[(whole, asked)]).is_empty());
    assert_eq!(single.port.stats().1.drops.of(DropReason::SendError), 1);
    single.end();
}

#[test]
fn segments_are_tagged_whoever_inserts_the_tag() {
    for rx_offloads in [Offload::NONE, Offload::RX_VLAN_STRIPPED] {
        let mut single = Single::new(Chip::I82576, 1, Config { rx_offloads, ..Config::default() });
        let offload = Offload::TX_TCP_SEGMENT.with(Offload::TX_TCP_CSUM).with(Offload::TX_IP_CSUM);
        let plain =
            TxMeta { offload, l2_len: 14, l3_len: 20, l4_len: 20, mss: 700, ..TxMeta::default() };
        let tagged =
            TxMeta { offload: offload.with(Offload::TX_VLAN_INSERT), vlan: 0x5432, ..plain };
        // Five buffers each.
        let whole = tcp(8500);
        let untagged = single.send(&[(whole.clone(), plain)]);
        let sent = single.send(&[(whole, tagged)]);
        assert_eq!((untagged.len(), sent.len()), (13, 13));
        for (mut want, got) in untagged.into_iter().zip(sent) {
            want.splice(12..12, [0x81, 0, 0x54, 0x32]);
            assert_eq!(got, want);
        }
        let tx = single.port.stats().1;
        assert_eq!((tx.delivered, tx.bytes), (2, 2 * 8554), "a tag is nobody's bytes");
        single.end();
    }
}

#[test]
fn flows_stay_on_their_queue_and_every_queue_gets_some() {
    for (chip, queues) in [(Chip::I82574, 2), (Chip::I82576, 8), (Chip::I82576, 16)] {
        let config = Config { rss: Some(pmd::Rss::default()), ..Config::default() };
        let mut single = Single::new(chip, queues, config);
        // Microsoft's first vector: the hash over the addresses alone, and with the ports of TCP.
        let mut known = udp(OURS, [2794, 1766], 60, false);
        known[26..34].copy_from_slice(&[66, 9, 149, 187, 161, 142, 100, 80]);
        known[23] = 6;
        known[46] = 0x50;
        single.model.inject(&known);
        let hashes: Vec<_> = (0..queues).flat_map(|at| single.receive(at)).collect();
        assert!(hashes[0].1.offload().has(Offload::RX_HASH));
        assert_eq!(hashes[0].1.hash(), 0x51cc_c178);
        let mut home = std::collections::BTreeMap::new();
        let mut counts = vec![0; queues];
        for round in 0..4 {
            for flow in 0..64u8 {
                let mut frame = udp(OURS, [5, 6], 60, true);
                (frame[29], frame[33]) = (flow, flow.wrapping_mul(91));
                single.model.inject(&frame);
            }
            for (at, count) in counts.iter_mut().enumerate() {
                let arrived: Vec<_> = (0..4).flat_map(|_| single.receive(at)).collect();
                for (bytes, _) in arrived {
                    *count += 1;
                    assert_eq!(*home.entry(bytes[29]).or_insert(at), at, "round {round}");
                }
            }
        }
        assert_eq!(counts.iter().sum::<i32>(), 4 * 64);
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        single.end();
    }
}

#[test]
fn a_port_receives_what_it_was_told_to() {
    for chip in CHIPS {
        let further = [[2, 9, 9, 9, 9, 1], [2, 9, 9, 9, 9, 2], [0x33, 0x33, 0, 0, 0, 5]];
        let stranger = [2, 8, 8, 8, 8, 8];
        let group = [0x01, 0, 0x5e, 7, 7, 7];
        let all: Vec<[u8; 6]> =
            [OURS, [0xff; 6], stranger, group].into_iter().chain(further).collect();
        let heard = |config: Config| {
            let mut single = Single::new(chip, 1, config);
            all.iter().for_each(|to| single.model.inject(&udp(*to, [1, 2], 60, true)));
            let heard: Vec<[u8; 6]> =
                single.receive(0).iter().map(|(bytes, _)| bytes[..6].try_into().unwrap()).collect();
            single.end();
            heard
        };
        assert_eq!(heard(Config::default()), [OURS, [0xff; 6]]);
        assert_eq!(heard(Config { promiscuous: true, ..Config::default() }), all);
        let groups = heard(Config { all_multicast: true, ..Config::default() });
        assert_eq!(groups, [OURS, [0xff; 6], group, further[2]]);
        let some = heard(Config { addresses: further.to_vec(), ..Config::default() });
        assert_eq!(some, [OURS, [0xff; 6], further[0], further[1], further[2]]);
    }
}

fn is_ready(fd: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&Timespec::default())).unwrap()
        > 0
}

#[test]
fn an_armed_queue_is_woken_once_by_its_own_frames() {
    for chip in CHIPS {
        let rss = pmd::Rss { table: vec![1], ..pmd::Rss::default() };
        let mut single = Single::new(chip, 2, Config { rss: Some(rss), ..Config::default() });
        for _ in 0..20 {
            let quiet = single.queues.rx[0].arm().map(is_ready);
            assert_eq!(quiet, Some(false));
            assert_eq!(single.queues.rx[1].arm().map(is_ready), Some(false));
            // All flows belong to queue 1.
            single.model.inject(&udp(OURS, [1, 2], 60, true));
            assert_eq!(single.receive(1).len(), 1);
            let woken = single.queues.rx[1].arm();
            // Arming again forgets the wake-up of a frame that was received meanwhile.
            assert_eq!(woken.map(is_ready), Some(false));
            assert_eq!(single.queues.rx[0].arm().map(is_ready), Some(false));
            let fd = single.queues.rx[1].arm().unwrap();
            single.model.inject(&udp(OURS, [1, 2], 60, true));
            assert!(is_ready(fd), "{chip:?}");
            assert_eq!(single.receive(1).len(), 1);
        }
        single.end();
    }
}

#[test]
fn statistics_have_the_datasheets_names_and_add_up() {
    for chip in CHIPS {
        let mut single = Single::new(chip, 1, Config::default());
        (0..10).for_each(|_| single.model.inject(&udp(OURS, [1, 2], 60, true)));
        single.model.inject_damaged(&udp(OURS, [1, 2], 60, true));
        single.model.inject(&udp(OURS, [1, 2], 9300, true));
        assert_eq!(single.receive(0).len(), 10);
        single.send(&[(udp(OURS, [1, 2], 60, true), TxMeta::default())]);
        for _ in 0..2 {
            // Registers that clear when read are added up.
            let (rx, tx, named) = single.port.stats();
            let of = |name: &str| named.iter().find(|(at, _)| at == name).map(|(_, value)| *value);
            assert_eq!((of("gprc"), of("gptc")), (Some(10), Some(1)), "{named:?}");
            assert_eq!((of("crcerrs"), of("roc")), (Some(1), Some(1)));
            assert_eq!((rx.delivered, tx.delivered), (10, 1));
            assert!(rx.is_balanced() && tx.is_balanced());
        }
        single.end();
    }
}
