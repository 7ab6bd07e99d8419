//! What the analyser says of frames, made by the generator and then harmed.

use mempool::{FrameMut, Pool, heap::Heap};
use memwire_apps::traffic::{Flows, Generator, HeaderForm, Traffic};

use super::*;

struct Bench {
    pool: Pool<Cpu>,
    generator: Generator,
    analyser: Analyser,
}

impl Bench {
    fn new(template: Template, size: usize, flows: usize) -> Self {
        let pool = Pool::builder().name("p").slots(256).stride(2048);
        let pool: Pool<Cpu> = pool.memory(&Heap::new()).build().unwrap();
        let flows = Flows { count: flows, ..Flows::default() };
        let sizes = Some(memwire_apps::traffic::Sizes::fixed(size));
        let traffic = Traffic { template, sizes, flows, ..Traffic::default() };
        let generator = Generator::new(&pool, &traffic, 0, 1).unwrap();
        let keys = traffic.flows.keys(&template).unwrap();
        let analyser = Analyser::new(Some(&template), keys);
        Self { pool, generator, analyser }
    }

    /// Makes `count` frames, has each changed, and looks at them.
    fn look(&mut self, count: usize, mut change: impl FnMut(usize, &mut FrameMut<'_, Cpu>)) {
        let (mut cache, mut burst) = (self.pool.cache(), Burst::with_limit(&self.pool, count));
        assert_eq!(self.generator.fill(&mut cache, &mut burst, count, 1000), count);
        (0..count).for_each(|at| change(at, &mut burst.frame_mut(at)));
        self.analyser.look(&burst, 3000);
    }

    fn counts(&self) -> [u64; 5] {
        let counts = &self.analyser.counts;
        let all =
            [&counts.frames, &counts.good, &counts.corrupt, &counts.truncated, &counts.foreign];
        all.map(Counter::get)
    }
}

fn auto() -> Template {
    Template { header: HeaderChoice::Auto, ..Template::default() }
}

#[test]
fn whole_frames_are_good_and_their_latency_is_known() {
    for (size, count) in [(64, 0), (512, 50)] {
        let mut bench = Bench::new(auto(), size, 7);
        bench.look(50, |_, _| ());
        assert_eq!(bench.counts(), [50, 50, 0, 0, 0]);
        let latency = Distribution::summary([&bench.analyser.latency]);
        assert_eq!(latency.map_or(0, |latency| latency.count), count);
        assert!(latency.is_none_or(|latency| latency.p50_ns.abs_diff(2000) < 60));
        let arrived: Vec<_> = bench.analyser.flows().map(|(counts, _)| counts.arrived).collect();
        assert_eq!(arrived, [8, 7, 7, 7, 7, 7, 7]);
    }
}

#[test]
fn any_flipped_bit_that_a_sum_covers_is_corrupt() {
    let summed = Template { checksum: true, ..auto() };
    let v6 =
        Template { src: "fd00::1".parse().unwrap(), dst: "fd00::2".parse().unwrap(), ..auto() };
    // From where on every bit is covered: behind the addresses and ports, which name the flow.
    for (template, from) in [(auto(), 66), (summed, 38), (v6, 58)] {
        for byte in from..128 {
            let mut bench = Bench::new(template, 128, 1);
            bench.look(8, |bit, frame| frame.bytes_mut()[byte] ^= 1 << bit);
            // Lengths that say more than there is are an end that is missing.
            let [_, good, corrupt, truncated, foreign] = bench.counts();
            assert_eq!((good, corrupt + truncated, foreign), (0, 8, 0), "byte {byte}");
        }
    }
}

#[test]
fn a_cut_frame_is_truncated_wherever_it_is_cut() {
    let mut bench = Bench::new(auto(), 256, 1);
    bench.look(255, |at, frame| frame.set_len(at + 1));
    let [frames, good, corrupt, truncated, foreign] = bench.counts();
    // Of the first 14 to 17 bytes nobody can say more than that they are Ethernet.
    assert_eq!((frames, good, corrupt, truncated, foreign), (255, 0, 0, 255, 0));
    // The number is known from the test header on.
    let (counts, _) = bench.analyser.flows().next().unwrap();
    assert_eq!(counts.arrived, 256 - 66);
}

#[test]
fn padding_behind_the_stated_end_is_no_payload() {
    let mut bench = Bench::new(auto(), 60, 1);
    bench.look(20, |at, frame| frame.set_len(60 + at));
    assert_eq!(bench.counts(), [20, 20, 0, 0, 0]);
}

#[test]
fn frames_of_others_are_foreign() {
    let mut bench = Bench::new(auto(), 128, 3);
    bench.look(6, |at, frame| match at {
        0 => frame.bytes_mut()[12..14].copy_from_slice(&[0x08, 0x06]),
        1 => frame.bytes_mut()[23] = 1,
        2 => frame.bytes_mut()[34] ^= 0x40,
        3 => frame.bytes_mut()[30] ^= 1,
        _ => {}
    });
    assert_eq!(bench.counts(), [6, 2, 0, 0, 4]);
}

#[test]
fn a_frame_of_a_flow_without_test_header_is_corrupt_unless_none_is_expected() {
    let mut bench = Bench::new(auto(), 128, 1);
    bench.look(4, |_, frame| frame.bytes_mut()[42] ^= 0xff);
    assert_eq!(bench.counts(), [4, 0, 4, 0, 0]);
    let mut bench = Bench::new(Template { header: HeaderChoice::None, ..auto() }, 128, 1);
    bench.look(4, |_, _| ());
    assert_eq!(bench.counts(), [4, 4, 0, 0, 0]);
    assert_eq!(HeaderForm::None.len(), 0);
}

#[test]
fn every_flow_is_found_among_many() {
    let template = auto();
    let flows = Flows {
        count: 5000,
        src: Some("10.0.0.0/24".parse().unwrap()),
        dst: Some("10.1.0.0/24".parse().unwrap()),
        ..Flows::default()
    };
    let keys = flows.keys(&template).unwrap();
    let mut lookup = Lookup::new(keys.clone());
    for (index, key) in keys.iter().enumerate().rev() {
        assert_eq!(lookup.find(key), Some(index));
        assert_eq!(lookup.find(&FlowKey { dst_port: 1, ..*key }), None);
    }
}
