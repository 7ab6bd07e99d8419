//! Payload memory that is taken back while frames come: the queue is given other memory, nothing is written
//! to the old one once it was given up, and no frame is lost without being counted. Then back again.

use mempool::{Burst, Cpu, DeviceView, Pool, SplitBurst, SplitCache};
use pmd::{
    AnyRxQueue, Config, Device, Health, PostOrder, RxMemory, SplitAt, SplitConfig,
    e1000::model::{Chip, Faults, Hostility, Lie, Options, Work},
};
use providers::Fake;

use super::{
    rig::{CHIPS, Pair, pool},
    stream::{Stream, frame, number_of},
};

/// Small numbers from a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn len(number: u64) -> usize {
    [60, 64, 128, 590, 1514, 1514, 5000][usize::try_from(number % 7).unwrap()]
}

const HEAD: usize = 384;
const SLOTS: usize = 512;
const RING: usize = 64;

/// Payload memory, and who may take it back.
struct Lent {
    provider: Fake,
    pool: Pool<mempool::Device>,
}

impl Lent {
    fn new() -> Self {
        let provider = Fake::new();
        let builder = Pool::builder().name("lent").slots(SLOTS).stride(2048);
        let pool = builder.memory(&provider).build().expect("fake memory is there");
        Self { provider, pool }
    }
}

/// Two ports; the second receives.
struct Rig {
    pair: Pair,
    tx: Pool<Cpu>,
    cache: mempool::Cache<Cpu>,
    burst: Box<Burst<Cpu>>,
    heads: Pool<Cpu>,
    whole: Pool<Cpu>,
    random: Random,
    sent: u64,
    /// Of the frame that came last.
    last: Option<u64>,
    came: u64,
}

fn split(heads: &Pool<Cpu>, data: &Pool<mempool::Device>) -> RxMemory {
    RxMemory::Split(SplitConfig {
        heads: heads.clone(),
        data: data.clone(),
        at: SplitAt::Protocol { extra: 0 },
        post: PostOrder::Cache,
    })
}

impl Rig {
    fn new(chip: Chip, work: Work, seed: u64, data: &Pool<mempool::Device>) -> Self {
        let (tx, heads, whole) = (pool(2048, 2048), pool(2048, HEAD), pool(2048, 2176));
        let options =
            [seed, seed + 1].map(|seed| Options::new(chip).work(work).seed(seed).flow_control());
        let pair = Pair::new(options, |end| {
            let config = Config { promiscuous: true, ..Config::default() };
            let config =
                if end == 0 { config.with_tx(&tx) } else { config.with_rx(split(&heads, data)) };
            config.rings(RING)
        });
        let pair = pair.unwrap_or_else(|error| panic!("{error}"));
        let (cache, burst) = (tx.cache(), Box::new(Burst::new(&tx)));
        let random = Random(seed * 2 + 1);
        Self { pair, cache, burst, tx, heads, whole, random, sent: 0, last: None, came: 0 }
    }

    /// Sends some frames.
    fn send(&mut self, count: u64) {
        for _ in 0..count {
            if self.burst.room() == 0 {
                break;
            }
            let bytes = frame(self.sent, len(self.sent));
            let Some(buf) = Stream::make(&mut self.cache, &bytes) else { break };
            self.burst.push(buf);
            self.sent += 1;
        }
        self.pair.tx(0).send(&mut self.cache, &mut self.burst);
        self.pair.tx(0).reap(&mut self.cache);
    }

    fn see(&mut self, bytes: &[u8]) {
        let number = number_of(bytes);
        assert!(self.last < Some(number), "{number} after {:?}", self.last);
        assert_eq!(bytes, frame(number, len(number)), "frame {number}");
        (self.last, self.came) = (Some(number), self.came + 1);
    }

    /// Takes one burst of a queue on `data`, or on whole buffers; how many frames that were.
    fn take(&mut self, queue: &mut AnyRxQueue, data: Option<&Pool<mempool::Device>>) -> usize {
        let mut frames = Vec::new();
        let got = match queue {
            AnyRxQueue::Whole(queue) => {
                let (mut cache, mut burst) = (self.whole.cache(), Burst::<Cpu>::new(&self.whole));
                let got = queue.recv(&mut cache, &mut burst);
                for frame in burst.iter() {
                    let mut bytes = vec![0; frame.frame_len()];
                    frame.copy_to(&mut bytes);
                    frames.push(bytes);
                }
                burst.recycle(&mut cache);
                got
            }
            AnyRxQueue::Split(queue) => {
                let data = data.expect("a split queue has payload memory");
                let mut cache = SplitCache::new(&self.heads, data);
                let mut burst = SplitBurst::with_limit(&self.heads, data, 32);
                let view = DeviceView::new(data);
                let got = queue.recv(&mut cache, &mut burst);
                for frame in burst.iter() {
                    let mut bytes = frame.head.bytes().to_vec();
                    for part in frame.data.into_iter().flat_map(|data| data.segments()) {
                        let at = bytes.len();
                        bytes.resize(at + part.len(), 0);
                        view.read(part, &mut bytes[at..]).unwrap();
                    }
                    frames.push(bytes);
                }
                burst.recycle(&mut cache);
                got
            }
        };
        frames.iter().for_each(|bytes| self.see(bytes));
        got
    }

    /// Traffic for a random while.
    fn run(&mut self, data: Option<&Pool<mempool::Device>>) {
        for _ in 0..self.random.below(12) {
            let count = self.random.below(16);
            self.send(count);
            (0..self.random.below(4)).for_each(|_| self.pair.tick());
            if self.random.below(3) > 0 {
                let mut queue = self.pair.queues[1].rx.remove(0);
                self.take(&mut queue, data);
                self.pair.queues[1].rx.push(queue);
            }
        }
    }

    /// Gives the queue other memory; takes what had arrived by then from what it was.
    fn rebind(&mut self, memory: RxMemory, former: Option<&Pool<mempool::Device>>) {
        let Pair { ports, queues, .. } = &mut self.pair;
        let rebound = ports[1].rebind(0, memory, &mut || queues[1].rx.pop());
        let rebound = rebound.unwrap_or_else(|error| {
            panic!("{error} {:?} {:?}", self.pair.models[1], self.pair.models[1].violations())
        });
        let mut old = rebound.former.expect("this driver keeps what had arrived");
        while self.take(&mut old, former) > 0 {}
        drop(old);
        self.pair.queues[1].rx.push(rebound.queue);
    }

    /// Lets everything arrive that was sent.
    fn settle(&mut self, data: Option<&Pool<mempool::Device>>) {
        let mut quiet = 0;
        while quiet < 400 || !self.burst.is_empty() {
            self.send(0);
            self.pair.tick();
            let mut queue = self.pair.queues[1].rx.remove(0);
            let got = self.take(&mut queue, data);
            self.pair.queues[1].rx.push(queue);
            quiet = if got > 0 { 0 } else { quiet + 1 };
            assert!(quiet < 10_000, "frames do not leave");
        }
    }
}

fn rounds() -> u64 {
    if std::env::var_os("MEMWIRE_FULL").is_some() { 2500 } else { 250 }
}

#[test]
fn memory_taken_back_at_any_moment_is_never_written_again_and_no_frame_goes_uncounted() {
    let mut lost = 0;
    for (chip, work) in
        CHIPS.into_iter().flat_map(|chip| [(chip, Work::Late), (chip, Work::Prompt)])
    {
        let mut lent = Lent::new();
        let host = pool_of_host();
        let mut rig = Rig::new(chip, work, 7, &lent.pool);
        for round in 0..rounds() {
            rig.run(Some(&lent.pool));
            lent.provider.revoke();
            rig.run(Some(&lent.pool));
            // The payloads into host memory, or all of the frame.
            let to_whole = rig.random.below(2) == 0;
            let memory = if to_whole {
                RxMemory::Whole(rig.whole.clone())
            } else {
                split(&rig.heads, &host)
            };
            rig.rebind(memory, Some(&lent.pool));
            let Lent { provider, pool } = lent;
            assert!(pool.audit().is_home(), "round {round}: {}", pool.audit());
            drop(pool);
            assert_eq!(provider.live(), 0, "round {round}: acknowledged");
            let other = (!to_whole).then_some(&host);
            rig.run(other);
            // It is back.
            lent = Lent::new();
            rig.rebind(split(&rig.heads, &lent.pool), other);
            assert!(host.audit().is_home(), "{}", host.audit());
        }
        rig.settle(Some(&lent.pool));
        assert_eq!(rig.pair.ports[1].health(), Health::Good);
        rig.pair.check();
        let (rx, _, counts) = rig.pair.ports[1].stats();
        assert_eq!(
            (rx.offered, rx.delivered),
            (rig.sent, rig.came),
            "{chip:?} {work:?}: {counts:?}"
        );
        assert!(rx.is_balanced(), "{rx:?}");
        assert!(rig.sent > rounds() * 20, "{chip:?}: only {} frames", rig.sent);
        lost += rx.drops.total();
        rig.pair.stop();
        rig.pair.check();
        assert_eq!(rig.pair.models[1].mappings().0, 0, "left mapped");
        drop(rig.pair);
        rig.burst.recycle(&mut rig.cache);
        drop(rig.cache);
        for pool in [&rig.tx, &rig.heads, &rig.whole] {
            assert!(pool.audit().is_home(), "{}", pool.audit());
        }
        assert!(lent.pool.audit().is_home(), "{}", lent.pool.audit());
    }
    println!("{} revocations, {lost} frames dropped and counted", 4 * rounds());
}

fn pool_of_host() -> Pool<mempool::Device> {
    let builder = Pool::builder().name("host payloads").slots(SLOTS).stride(2048);
    builder.memory(&mempool::heap::Heap::new()).build().expect("heap memory is there")
}

#[test]
fn a_device_that_writes_after_it_said_that_it_stopped_is_found_out() {
    for chip in CHIPS {
        let lent = Lent::new();
        let host = pool_of_host();
        let mut rig = Rig::new(chip, Work::Ticked, 3, &lent.pool);
        rig.pair.models[1].set_hostility(Hostility { one_in: 1, lies: vec![Lie::AfterStop] });
        rig.run(Some(&lent.pool));
        lent.provider.revoke();
        rig.rebind(split(&rig.heads, &host), Some(&lent.pool));
        drop(lent.pool);
        assert_eq!(lent.provider.live(), 0);
        assert!(rig.pair.models[1].violations().is_empty(), "{chip:?}: nothing was written yet");
        rig.pair.tick();
        let found = rig.pair.models[1].violations();
        assert!(found.iter().any(|what| what.contains("write")), "{chip:?}: {found:?}");
        rig.pair.stop();
    }
}

#[test]
fn a_queue_that_does_not_stop_keeps_its_memory_until_the_port_was_stopped() {
    for chip in CHIPS {
        let lent = Lent::new();
        let host = pool_of_host();
        let mut rig = Rig::new(chip, Work::Ticked, 5, &lent.pool);
        rig.pair.models[1].set_faults(Faults { disable_sticks: true, ..Faults::default() });
        let memory = split(&rig.heads, &host);
        let Pair { ports, queues, .. } = &mut rig.pair;
        let error =
            ports[1].rebind(0, memory, &mut || queues[1].rx.pop()).err().expect("it does not stop");
        assert!(error.is_lost, "nobody may use it");
        let text = error.to_string();
        assert!(text.contains("receive queue 0 did not change its state in 100 ms"), "{text}");
        assert!(rig.pair.ports[1].health().fault().is_some(), "the port says so");
        let Lent { provider, pool } = lent;
        assert!(!pool.audit().is_home(), "the device may still write there");
        rig.pair.models[1].set_faults(Faults::default());
        rig.pair.stop();
        assert!(pool.audit().is_home(), "{}", pool.audit());
        drop(pool);
        assert_eq!(provider.live(), 0);
        rig.pair.check();
    }
}

#[test]
fn memory_that_cannot_be_had_leaves_the_queue_as_it_was() {
    for chip in CHIPS {
        let lent = Lent::new();
        let mut rig = Rig::new(chip, Work::Late, 9, &lent.pool);
        rig.run(Some(&lent.pool));
        let gone = Lent::new();
        gone.provider.revoke();
        let small = Pool::builder().slots(16).stride(512).memory(&Fake::new()).build().unwrap();
        for (memory, says) in [
            (split(&rig.heads, &gone.pool), "revoked"),
            (split(&rig.heads, &small), "steps of 1024"),
        ] {
            let mut take = || panic!("the queue is not wanted");
            let error = rig.pair.ports[1].rebind(0, memory, &mut take).err().expect("refused");
            assert!(error.to_string().contains(says), "{error}");
            assert!(!error.is_lost);
            rig.run(Some(&lent.pool));
        }
        let memory = split(&rig.heads, &lent.pool);
        let error = rig.pair.ports[1].rebind(3, memory, &mut || None).err().unwrap();
        assert!(error.to_string().contains("no receive queue 3"), "{error}");
        let memory = split(&rig.heads, &lent.pool);
        let error = rig.pair.ports[1].rebind(0, memory, &mut || None).err().unwrap();
        assert!(error.to_string().contains("did not come"), "{error}");
        rig.settle(Some(&lent.pool));
        let (rx, ..) = rig.pair.ports[1].stats();
        assert_eq!((rx.offered, rx.delivered), (rig.sent, rig.came), "{chip:?} {rx:?}");
        rig.pair.stop();
        rig.pair.check();
    }
}

#[test]
fn the_other_queues_of_a_port_go_on_and_lose_nothing() {
    for chip in CHIPS {
        // Frames are spread by their hash over two queues, of which one changes its memory.
        let (heads, tx) = (pool(4096, HEAD), pool(2048, 2048));
        let (still, host) = (Lent::new(), pool_of_host());
        let mut lent = Lent::new();
        let options =
            [21, 22].map(|seed| Options::new(chip).work(Work::Late).seed(seed).flow_control());
        let mut pair = Pair::new(options, |end| {
            let config = Config { promiscuous: true, ..Config::default() };
            match end {
                0 => config.with_tx(&tx).rings(RING),
                _ => config
                    .with_rx(split(&heads, &still.pool))
                    .with_rx(split(&heads, &lent.pool))
                    .rings(RING),
            }
        })
        .unwrap_or_else(|error| panic!("{error}"));
        let (mut cache, mut burst) = (tx.cache(), Burst::<Cpu>::new(&tx));
        let (mut sent, mut came) = (0, [0u64; 2]);
        let poll = |queue: &mut AnyRxQueue, data: &Pool<mempool::Device>| {
            let AnyRxQueue::Split(queue) = queue else { panic!("split") };
            let mut cache = SplitCache::new(&heads, data);
            let mut burst = SplitBurst::with_limit(&heads, data, 32);
            let got = queue.recv(&mut cache, &mut burst);
            burst.recycle(&mut cache);
            got as u64
        };
        for round in 0..100 {
            let end = if round == 99 { 600 } else { 6 };
            for _ in 0..end {
                while sent < 40 * (round + 1) && burst.room() > 0 {
                    let bytes = frame(sent, 400);
                    burst.push(Stream::make(&mut cache, &bytes).expect("there are buffers"));
                    sent += 1;
                }
                pair.tx(0).send(&mut cache, &mut burst);
                pair.tx(0).reap(&mut cache);
                pair.tick();
                came[0] += poll(&mut pair.queues[1].rx[0], &still.pool);
                came[1] += poll(&mut pair.queues[1].rx[1], &lent.pool);
            }
            if round == 99 {
                break;
            }
            lent.provider.revoke();
            let Pair { ports, queues, .. } = &mut pair;
            let mut take = || queues[1].rx.pop();
            let rebound = ports[1].rebind(1, split(&heads, &host), &mut take).unwrap();
            let mut former = rebound.former.expect("kept");
            while let got @ 1.. = poll(&mut former, &lent.pool) {
                came[1] += got;
            }
            drop(former);
            lent = Lent::new();
            let mut queue = Some(rebound.queue);
            let mut take = || queue.take();
            let rebound = pair.ports[1].rebind(1, split(&heads, &lent.pool), &mut take).unwrap();
            let mut former = rebound.former.expect("kept");
            while let got @ 1.. = poll(&mut former, &host) {
                came[1] += got;
            }
            pair.queues[1].rx.push(rebound.queue);
        }
        let (rx, _, counts) = pair.ports[1].stats();
        assert_eq!((rx.offered, rx.delivered), (sent, came[0] + came[1]), "{counts:?}");
        let quiet = pair.queues[1].rx[0].counters().snapshot();
        assert_eq!((quiet.delivered, quiet.drops.total()), (came[0], 0));
        assert!(came[0] > 500 && came[1] > 500, "both are used: {came:?}");
        pair.check();
        pair.stop();
        pair.check();
        assert!(still.pool.audit().is_home() && host.audit().is_home());
    }
}
