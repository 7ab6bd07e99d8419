//! What the generator makes, seen by another reader of headers.

use mempool::heap::Heap;

use super::{
    super::{Flows, Stamp, Template},
    *,
};

fn pool(slots: usize, stride: usize) -> Pool<Cpu> {
    let pool = Pool::builder().name("source").slots(slots).stride(stride);
    pool.memory(&Heap::new()).build().unwrap()
}

/// Makes `count` frames out of 64 buffers, and takes copies.
fn frames(traffic: &Traffic, count: usize) -> Vec<Vec<u8>> {
    let pool = pool(64, 4096);
    let mut generator = Generator::new(&pool, traffic, 0, 1).unwrap();
    let (mut cache, mut burst) = (pool.cache(), Burst::with_limit(&pool, 7));
    let mut frames = Vec::new();
    while frames.len() < count {
        generator.fill(&mut cache, &mut burst, 7, 1_700_000_000_000_000_000 + frames.len() as u64);
        frames.extend(burst.iter().map(|frame| frame.bytes().to_vec()));
        burst.recycle(&mut cache);
    }
    frames.truncate(count);
    frames
}

#[test]
fn a_buffer_that_changes_size_and_form_stays_valid() {
    let template = Template { header: super::super::HeaderChoice::Auto, ..Template::default() };
    let sizes = "60,64,66,90,1514,61".parse().unwrap();
    let traffic =
        Traffic { template, sizes: Some(sizes), random_sizes: true, ..Traffic::default() };
    let frames = frames(&traffic, 3000);
    let mut seen = [0; 2];
    for (at, frame) in frames.iter().enumerate() {
        let stamp = Stamp::read(&frame[42..]).unwrap();
        assert_eq!(stamp.sequence, at as u64);
        assert_eq!(stamp.timestamp_ns.is_some(), frame.len() >= 66);
        assert_eq!(stamp.crc, crc32c::crc32c(&frame[42 + stamp.len..]), "frame {at}");
        seen[usize::from(stamp.timestamp_ns.is_some())] += 1;
    }
    assert!(seen.iter().all(|count| *count > 1000), "{seen:?}");
}

#[test]
fn fresh_payloads_differ_and_are_summed() {
    let template = Template { checksum: true, ..Template::default() };
    let traffic = Traffic { template, fresh: true, ..Traffic::default() };
    let frames = frames(&traffic, 200);
    for pair in frames.windows(2) {
        assert_ne!(pair[0][66..], pair[1][66..]);
        let stamp = Stamp::read(&pair[1][42..]).unwrap();
        assert_eq!(stamp.crc, crc32c::crc32c(&pair[1][66..]));
    }
}

#[test]
fn flows_are_taken_in_turn_or_at_random_and_number_themselves() {
    let mut traffic =
        Traffic { flows: Flows { count: 5, ..Flows::default() }, ..Traffic::default() };
    for random in [false, true] {
        traffic.flows.random = random;
        let mut next = [0; 5];
        let mut order = Vec::new();
        for frame in frames(&traffic, 5000) {
            let port = u16::from_be_bytes([frame[34], frame[35]]);
            let flow = usize::from(port - 9000);
            assert_eq!(Stamp::read(&frame[42..]).unwrap().sequence, next[flow]);
            next[flow] += 1;
            order.push(flow);
        }
        assert!(next.iter().all(|count| (900..1100).contains(count)), "{next:?}");
        let in_turn = order.iter().enumerate().all(|(at, flow)| at % 5 == *flow);
        assert_eq!(in_turn, !random);
    }
}

#[test]
fn parts_share_the_flows_and_none_is_left_out() {
    let pool = pool(64, 2048);
    let traffic = Traffic { flows: Flows { count: 7, ..Flows::default() }, ..Traffic::default() };
    let mut all: Vec<_> = (0..3)
        .flat_map(|part| {
            let generator = Generator::new(&pool, &traffic, part, 3).unwrap();
            generator.flows().map(|(flow, _)| flow).collect::<Vec<_>>()
        })
        .collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
    let error = Generator::new(&pool, &traffic, 7, 8).err().unwrap();
    assert_eq!(error.to_string(), "7 flows for 8 queues: each queue needs one of its own");
}

#[test]
fn frames_that_were_not_sent_give_their_numbers_back() {
    let pool = pool(64, 2048);
    let traffic = Traffic {
        flows: Flows { count: 3, ..Flows::default() },
        foreign: 0.3,
        ..Traffic::default()
    };
    let mut generator = Generator::new(&pool, &traffic, 0, 1).unwrap();
    let (mut cache, mut burst) = (pool.cache(), Burst::with_limit(&pool, 20));
    generator.fill(&mut cache, &mut burst, 20, 0);
    let made = generator.made();
    assert_eq!(made.frames + made.foreign, 20);
    burst.recycle(&mut cache);
    generator.fill(&mut cache, &mut burst, 20, 0);
    generator.unmake(&burst);
    assert_eq!(generator.made(), made);
    assert_eq!(generator.flows().map(|(_, sequence)| sequence).sum::<u64>(), made.frames);
}

#[test]
fn spead_and_rtp_count_with_the_frames() {
    let rtp = AppHeader::Rtp { payload_type: 96, ssrc: 7, step: 160 };
    let template = Template { app: rtp, ..Template::default() };
    for (at, frame) in frames(&Traffic { template, ..Traffic::default() }, 300).iter().enumerate() {
        assert_eq!(frame[42..44], [0x80, 96]);
        assert_eq!(frame[44..46], u16::try_from(at).unwrap().to_be_bytes());
        assert_eq!(frame[46..50], (u32::try_from(at).unwrap() * 160).to_be_bytes());
        assert_eq!(Stamp::read(&frame[54..]).unwrap().sequence, at as u64);
    }
    let template = Template { app: AppHeader::Spead { items: 8 }, ..Template::default() };
    for (at, frame) in frames(&Traffic { template, ..Traffic::default() }, 300).iter().enumerate() {
        assert_eq!(frame[42..50], [0x53, 4, 2, 6, 0, 0, 0, 8]);
        assert_eq!(frame[50..58], (0x8001 << 48 | at as u64).to_be_bytes());
        assert_eq!(Stamp::read(&frame[42 + 72..]).unwrap().sequence, at as u64);
    }
}
