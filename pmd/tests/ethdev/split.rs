//! Buffer split, on ports that a model in C makes of DPDK's ring (`model/buffer_split.c`, laid before libdpdk):
//! no virtual device offers it, and no hardware is at hand. Payloads go to memory that kills whoever looks.

use mempool::{Burst, Cpu, Device, Pool, SplitBurst, SplitCache, heap::Heap};
use pmd::{
    AnyRxQueue, Config, Error, HardwareSplit, Health, PostOrder, Queues, RxConfig, RxMemory,
    SplitAt, SplitConfig, SplitRxQueue, SplitSupport, TxQueue,
    conformance::{Joined, Setup, Wire, WireTraits},
};
use providers::Fake;

use crate::{
    alone::alone_with,
    model,
    rig::{LoopWire, open, pool, spec},
    suite::{TRAITS, passes},
    testpmd::{Testpmd, is_here},
    vhost::{vhost, virtio},
};

/// Bytes that DPDK leaves free in front of what it receives.
const HEADROOM: usize = 128;
const RING: usize = 64;

/// Runs a test in a process of its own, with the model before libdpdk.
fn with_model(name: &str, test: impl FnOnce()) {
    let preload = || vec![("LD_PRELOAD", model::library().into())];
    alone_with(&format!("split::{name}"), preload, test);
}

fn hardware(protocol: bool) -> HardwareSplit {
    HardwareSplit {
        longest_head: 65407,
        protocol,
        length_step: (!protocol).then_some(1),
        head_offset: HEADROOM,
        data_offset: if protocol { HEADROOM } else { 0 },
    }
}

/// A port that splits where that is asked, else the ring below it: as hardware it would keep whole frames'
/// buffers in a ring, which the model does not.
struct ModelWire {
    split: LoopWire,
    whole: LoopWire,
}

impl Wire for ModelWire {
    fn name(&self) -> &'static str {
        self.split.name
    }

    fn connect(&mut self, setup: &Setup) -> Result<Box<dyn Joined>, Error> {
        match &setup.rx {
            RxMemory::Split(_) => self.split.connect(setup),
            RxMemory::Whole(_) => self.whole.connect(setup),
        }
    }

    fn traits(&self) -> WireTraits {
        self.split.traits
    }
}

fn conforms(device: &str, protocol: bool) {
    let split = SplitSupport::Hardware(hardware(protocol));
    assert_eq!(open(device).unwrap().info().capabilities.split, split);
    let traits = WireTraits { split, max_frame: 9018, ..TRAITS };
    let wire = |device| LoopWire { name: "net_ring, split", spec: spec(device), traits };
    passes(ModelWire { split: wire(device), whole: wire("net_ring21") });
}

#[test]
fn a_port_that_cuts_after_a_length_conforms() {
    with_model("a_port_that_cuts_after_a_length_conforms", || {
        conforms("net_ring_len0", false);
    });
}

#[test]
fn a_port_that_cuts_behind_udp_conforms() {
    with_model("a_port_that_cuts_behind_udp_conforms", || conforms("net_ring_udp0", true));
}

/// A port that splits, its pools and queues.
struct Rig {
    device: Box<dyn pmd::Device>,
    rx: Box<dyn SplitRxQueue>,
    tx: Box<dyn TxQueue>,
    cache: SplitCache,
    burst: SplitBurst,
    frames: Pool<Cpu>,
    heads: Pool<Cpu>,
    data: Pool<Device>,
}

fn heads(headroom: usize) -> Pool<Cpu> {
    let pool = Pool::builder().name("heads").slots(512).stride(256).headroom(headroom);
    pool.cache_size(32).memory(&Heap::new()).build().unwrap()
}

fn payloads(headroom: usize) -> Pool<Device> {
    let pool = Pool::builder().name("payloads").slots(512).stride(1024).headroom(headroom);
    pool.cache_size(32).memory(&Fake::new()).build().unwrap()
}

fn split(heads: &Pool<Cpu>, data: &Pool<Device>, at: SplitAt, post: PostOrder) -> SplitConfig {
    SplitConfig { heads: heads.clone(), data: data.clone(), at, post }
}

fn config(split: SplitConfig, tx: &Pool<Cpu>) -> Config {
    let rx = RxConfig { memory: RxMemory::Split(split), ring: RING };
    Config { rx: vec![rx], ..Config::default() }.with_tx(tx)
}

impl Rig {
    fn start(device: &str, at: SplitAt, post: PostOrder) -> Self {
        let mut device = open(device).unwrap();
        let (heads, data, frames) = (heads(HEADROOM), payloads(0), pool(512));
        let config = config(split(&heads, &data, at, post), &frames);
        let mut queues = device.start(config).unwrap_or_else(|error| panic!("{error}"));
        let rx = queues.rx.remove(0).split().unwrap();
        let (cache, burst) = (SplitCache::new(&heads, &data), SplitBurst::new(&heads, &data));
        Self { device, rx, tx: queues.tx.remove(0), cache, burst, frames, heads, data }
    }

    /// Sends frames of these lengths; all are taken if the port runs.
    fn send(&mut self, lens: &[usize]) -> usize {
        let mut cache = self.frames.cache();
        let mut burst = Burst::with_limit(&self.frames, lens.len());
        assert_eq!(cache.take(&mut burst, lens.len()), lens.len());
        for (index, len) in lens.iter().enumerate() {
            assert!(burst.frame_mut(index).append(&vec![7; *len]));
        }
        let sent = self.tx.send(&mut cache, &mut burst);
        burst.recycle(&mut cache);
        sent
    }

    /// The lengths of heads, and the slots and lengths of payloads, of what is received.
    fn receive(&mut self, count: usize) -> Vec<(usize, Option<(u32, usize)>)> {
        let mut all = Vec::new();
        for _ in 0..1000 {
            self.rx.recv(&mut self.cache, &mut self.burst);
            all.extend(self.burst.iter().map(|frame| {
                let data = frame.data.map(|data| (data.slot().index(), data.len()));
                (frame.head.len(), data)
            }));
            for frame in self.burst.drain() {
                self.cache.heads.give(frame.head);
                if let Some(data) = frame.data {
                    self.cache.data.give(data);
                }
            }
            if all.len() >= count {
                break;
            }
        }
        all
    }

    /// Everything comes home.
    fn stop(self) {
        let Self { mut device, rx, tx, cache, burst, frames, heads, data } = self;
        drop((cache, burst));
        device.stop(Queues { rx: vec![AnyRxQueue::Split(rx)], tx: vec![tx] }).unwrap();
        drop(device);
        for audit in [frames.audit(), heads.audit()] {
            assert_eq!(audit.free, audit.capacity, "{audit:?}");
        }
        let audit = data.audit();
        assert_eq!(audit.free, audit.capacity, "{audit:?}");
    }
}

#[test]
fn payloads_are_filled_in_the_order_of_their_posting_and_the_port_starts_when_there_are_enough() {
    const NAME: &str = "payloads_are_filled_in_the_order_of_their_posting_and_the_port_starts_when_there_are_enough";
    with_model(NAME, || {
        let mut rig = Rig::start("net_ring_len1", SplitAt::Length(42), PostOrder::App);
        assert!(rig.receive(1).is_empty());
        assert_eq!(rig.send(&[100]), 0, "the port waits for payload buffers");
        let mut posted = Burst::with_limit(&rig.data, 256);
        assert_eq!(rig.cache.data.take(&mut posted, 256), 256);
        let order: Vec<u32> = posted.iter().map(|buf| buf.slot().index()).collect();
        assert_eq!(rig.rx.post(&mut posted), RING, "a ring's worth");
        assert_eq!(rig.rx.post(&mut posted), 0);
        assert!(rig.receive(1).is_empty(), "it starts with this call");
        assert_eq!(rig.device.health(), Health::Good);
        // The third and the fifth have no payload: their buffers come later.
        assert_eq!(rig.send(&[100, 142, 42, 1000, 20, 43]), 6);
        let got = rig.receive(6);
        let data = |index: usize, len| Some((order[index], len));
        let want = [
            (42, data(0, 58)),
            (42, data(1, 100)),
            (42, None),
            (42, data(3, 958)),
            (20, None),
            (42, data(5, 1)),
        ];
        assert_eq!(got, want);
        assert_eq!(rig.rx.post(&mut posted), 4, "as many as were filled");
        // The ring of 32 goes round: what was left empty is filled now, at its place.
        assert_eq!(rig.send(&[100; 30]), 30);
        let slots: Vec<u32> = rig.receive(30).iter().map(|(_, data)| data.unwrap().0).collect();
        let mut want = order[6..32].to_vec();
        want.extend([order[32], order[33], order[2], order[34]]);
        assert_eq!(slots, want);
        posted.recycle(&mut rig.cache.data);
        rig.stop();
    });
}

#[test]
fn without_payload_buffers_frames_wait_and_come_whole_later() {
    with_model("without_payload_buffers_frames_wait_and_come_whole_later", || {
        let mut rig = Rig::start("net_ring_len2", SplitAt::Length(42), PostOrder::App);
        let mut posted = Burst::with_limit(&rig.data, 256);
        assert_eq!(rig.cache.data.take(&mut posted, 256), 256);
        assert_eq!(rig.rx.post(&mut posted), RING);
        rig.receive(1);
        assert_eq!(rig.send(&[142; 64]), 64);
        // 32 in the driver's ring take another each when they are filled.
        assert_eq!(rig.receive(64).len(), 32);
        let (_, _, named) = rig.device.stats();
        let starved = named.iter().find(|(name, _)| name == "payloads_exhausted").unwrap().1;
        assert!(starved > 0, "{named:?}");
        assert_eq!(rig.rx.post(&mut posted), 32);
        assert_eq!(rig.receive(32).len(), 32);
        posted.recycle(&mut rig.cache.data);
        rig.stop();
    });
}

#[test]
fn a_frame_that_is_not_split_comes_with_an_empty_head() {
    with_model("a_frame_that_is_not_split_comes_with_an_empty_head", || {
        let mut device = open("net_ring_udp1").unwrap();
        let (heads, data, frames) = (heads(HEADROOM), payloads(HEADROOM), pool(512));
        let at = SplitAt::Protocol { extra: 0 };
        let config = config(split(&heads, &data, at, PostOrder::Cache), &frames);
        let mut queues = device.start(config).unwrap();
        let rx = queues.rx.remove(0).split().unwrap();
        let (cache, burst) = (SplitCache::new(&heads, &data), SplitBurst::new(&heads, &data));
        let mut rig =
            Rig { device, rx, tx: queues.tx.remove(0), cache, burst, frames, heads, data };
        assert_eq!(rig.send(&[100, 60]), 2);
        let got = rig.receive(2);
        assert_eq!(
            got.iter().map(|(head, data)| (*head, data.unwrap().1)).collect::<Vec<_>>(),
            [(0, 100), (0, 60)]
        );
        rig.stop();
    });
}

#[test]
fn what_a_driver_cannot_split_is_refused_with_the_way_out() {
    with_model("what_a_driver_cannot_split_is_refused_with_the_way_out", || {
        let refusal = |name: &str, head: usize, data: usize, at: SplitAt, ring: usize| {
            let mut device = open(name).unwrap();
            let (heads, data) = (heads(head), payloads(data));
            let mut config = config(split(&heads, &data, at, PostOrder::Cache), &heads);
            config.rx[0].ring = ring;
            let error = device.start(config).err().expect("it is refused");
            let free = heads.audit().free + data.audit().free;
            assert_eq!(free, 1024, "nothing is left with a port that was refused");
            error.to_string()
        };
        let (udp, length) = (SplitAt::Protocol { extra: 0 }, SplitAt::Length(42));
        for ((name, head, data, at, ring), said) in [
            (("net_ring_len3", 128, 0, udp, 64), "cuts frames after a fixed length only"),
            (("net_ring_udp3", 128, 128, length, 64), "cuts frames by protocol only"),
            (
                ("net_ring_len4", 0, 0, length, 64),
                "heads' pool has a headroom of 0 B; build it with headroom(128)",
            ),
            (
                ("net_ring_udp4", 128, 0, udp, 64),
                "payloads' pool has a headroom of 0 B; build it with headroom(128)",
            ),
            (
                ("net_ring_len5", 128, 0, SplitAt::Length(200), 64),
                "cannot put heads of 200 B into buffers with room for 128 B",
            ),
            (
                ("net_ring_lensoft0", 128, 0, length, 64),
                "cannot be read by the host, which DPDK's drivers may do",
            ),
            (("net_ring_lenbad0", 128, 0, length, 64), "starting it"),
        ] {
            let error = refusal(name, head, data, at, ring);
            assert!(error.contains(said), "{name}: {error}");
        }
        let error = open("net_null20")
            .unwrap()
            .start(config(split(&heads(128), &payloads(0), length, PostOrder::Cache), &heads(128)));
        assert!(matches!(error, Err(Error::NoSplit { .. })), "a driver that does not split");
    });
}

#[test]
fn a_port_that_cannot_be_started_late_says_so() {
    with_model("a_port_that_cannot_be_started_late_says_so", || {
        let name = "net_ring_lenbad1";
        let mut rig = Rig::start(name, SplitAt::Length(42), PostOrder::App);
        let mut posted = Burst::with_limit(&rig.data, 64);
        assert_eq!(rig.cache.data.take(&mut posted, 64), 64);
        assert_eq!(rig.rx.post(&mut posted), 64);
        assert!(rig.receive(1).is_empty());
        let Health::Faulted(why) = rig.device.health() else { panic!("{:?}", rig.device.health()) };
        assert!(why.contains(name) && why.contains("starting it failed"), "{why}");
        rig.stop();
    });
}

#[test]
fn a_port_that_shows_dpdk_our_memory_is_refused_while_virtio_user_runs() {
    let test = "a_port_that_shows_dpdk_our_memory_is_refused_while_virtio_user_runs";
    if !is_here(test) {
        return;
    }
    with_model(test, || {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vhost");
        let _peer = Testpmd::start(&vhost(0, &socket));
        let frames = pool(1024);
        let mut shares = open(&virtio(38, &socket)).unwrap();
        let queues = shares.start(Config::one_queue(&frames)).unwrap();
        let (heads, data) = (heads(HEADROOM), payloads(0));
        let mut port = open("net_ring_len9").unwrap();
        let mut start = || {
            let split = split(&heads, &data, SplitAt::Length(42), PostOrder::Cache);
            port.start(config(split, &frames))
        };
        let error = start().err().unwrap().to_string();
        assert!(error.contains("a port of net_virtio_user runs in this process"), "{error}");
        assert!(error.contains("add buffers=copy to this port, or use two processes"), "{error}");
        drop((queues, shares));
        start().unwrap();
    });
}
