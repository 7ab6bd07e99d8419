//! A stream of numbered frames of all kinds from one port of a pair to the other. Each frame can be told
//! from its number alone, so that whatever arrives is compared byte by byte.

use mempool::{Buf, Burst, Cache, Cpu, DeviceView, Pool, SplitBurst, SplitCache};
use pmd::{
    AnyRxQueue, Config, Device, Error, PostOrder, RxMemory, SplitAt, SplitConfig,
    e1000::model::{Model, Options},
};

use super::rig::{Pair, data_pool, pool};

/// What a stream is made of.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) split: bool,
    pub(crate) ring: usize,
    pub(crate) slots: usize,
    /// Length of the frame of a number.
    pub(crate) len: fn(u64) -> usize,
}

/// A plan with lengths as they come on networks.
pub(crate) fn mixed(split: bool) -> Plan {
    Plan {
        split,
        ring: 256,
        slots: 4096,
        len: |number| [60, 64, 128, 590, 1514, 1514][index(number)],
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number % 6).unwrap()
}

/// The frame of a number: kinds take turns. The number stands in the source address.
pub(crate) fn frame(number: u64, len: usize) -> Vec<u8> {
    let [.., a, b, c, d, e] = number.to_be_bytes();
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, a, b, c, d, e];
    let v4 = |protocol: u8, words: u8, fragment: u8, len: usize| {
        let total = (len as u16).to_be_bytes();
        let mut header = vec![0x40 | words, 0, total[0], total[1], e, d, fragment, 0, 64, protocol];
        header.extend([0, 0, 10, 0, d, e, 10, 1, 0, 1]);
        header.resize(usize::from(words) * 4, 1);
        header
    };
    let ports = [a, e, c, d];
    let tcp = |len: u8| {
        [&ports[..], &[0, 0, 0, d, 0, 0, 0, e, len << 4, 0x18, 1, 1, 0, 0, 0, 0]].concat()
    };
    let udp = |len: usize| [&ports[..], &(len as u16).to_be_bytes(), &[0, 0]].concat();
    match number % 7 {
        0 | 1 => {
            frame.extend([8, 0]);
            frame.extend(v4(17, 5, 0, len - 14));
            frame.extend(udp(len - 34));
        }
        2 => {
            frame.extend([8, 0]);
            frame.extend(v4(6, 5, 0, len - 14));
            frame.extend(tcp(5));
        }
        // Options in both headers.
        3 if len >= 14 + 28 + 32 => {
            frame.extend([8, 0]);
            frame.extend(v4(6, 7, 0, len - 14));
            frame.extend(tcp(8));
            frame.extend([1; 12]);
        }
        4 if len >= 14 + 40 + 20 => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(((len - 54) as u16).to_be_bytes());
            frame.extend([6, 64]);
            frame.extend([d; 16]);
            frame.extend([e; 16]);
            frame.extend(tcp(5));
        }
        5 => {
            // A fragment: no transport header.
            frame.extend([8, 0]);
            frame.extend(v4(17, 5, 0x20, len - 14));
        }
        _ => frame.extend([0x88, 0xb5]),
    }
    let at = frame.len();
    frame.extend((at..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(e)));
    frame.truncate(len);
    frame
}

/// The number of a frame that arrived.
pub(crate) fn number_of(bytes: &[u8]) -> u64 {
    let mut number = [0; 8];
    number[3..].copy_from_slice(&bytes[7..12]);
    u64::from_be_bytes(number)
}

enum Receiver {
    Whole(Cache<Cpu>, Box<Burst<Cpu>>),
    Split(Box<(SplitCache, SplitBurst, DeviceView)>),
}

/// A frame as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) bytes: Vec<u8>,
    /// Bytes of its head, of a frame that was split.
    pub(crate) head: usize,
}

/// Two ports, and everything to send from the first to the second.
pub(crate) struct Stream {
    pub(crate) pair: Pair,
    pub(crate) plan: Plan,
    pub(crate) pools: Pools,
    cache: Cache<Cpu>,
    burst: Box<Burst<Cpu>>,
    receiver: Receiver,
    /// Number of the next frame to be made.
    pub(crate) next: u64,
}

/// Where the stream's buffers come from.
pub(crate) struct Pools {
    pub(crate) tx: Pool<Cpu>,
    pub(crate) heads: Pool<Cpu>,
    pub(crate) data: Option<Pool<mempool::Device>>,
}

impl Pools {
    /// Fails unless every slot of every pool is home.
    pub(crate) fn check(&self) {
        for audit in [self.tx.audit(), self.heads.audit()]
            .into_iter()
            .chain(self.data.as_ref().map(Pool::audit))
        {
            assert!(audit.is_home(), "{audit}");
        }
    }
}

/// The pools of a plan.
fn pools(plan: &Plan) -> Pools {
    let (tx, split) = (pool(plan.slots, 2048), plan.split);
    let heads = pool(plan.slots, if split { 384 } else { 2176 });
    Pools { tx, heads, data: split.then(|| data_pool(plan.slots, 2048)) }
}

/// How one end of the pair is started.
fn config(end: usize, plan: &Plan, pools: &Pools) -> Config {
    let config = Config { promiscuous: true, ..Config::default() };
    let memory = match &pools.data {
        None => RxMemory::Whole(pools.heads.clone()),
        Some(data) => RxMemory::Split(SplitConfig {
            heads: pools.heads.clone(),
            data: data.clone(),
            at: SplitAt::Protocol { extra: 0 },
            post: PostOrder::Cache,
        }),
    };
    let config = if end == 0 { config.with_tx(&pools.tx) } else { config.with_rx(memory) };
    config.rings(plan.ring)
}

impl Stream {
    pub(crate) fn new(options: [Options; 2], plan: Plan) -> Self {
        Self::try_new(options, plan).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`Stream::new`]; if a port is refused, every buffer must be home.
    pub(crate) fn try_new(options: [Options; 2], plan: Plan) -> Result<Self, Error> {
        let pools = pools(&plan);
        let pair = match Pair::new(options, |end| config(end, &plan, &pools)) {
            Ok(pair) => pair,
            Err(error) => {
                pools.check();
                return Err(error);
            }
        };
        let receiver = match &pools.data {
            None => Receiver::Whole(pools.heads.cache(), Box::new(Burst::new(&pools.heads))),
            Some(data) => {
                let cache = SplitCache::new(&pools.heads, data);
                let burst = SplitBurst::with_limit(&pools.heads, data, 64);
                Receiver::Split(Box::new((cache, burst, DeviceView::new(data))))
            }
        };
        let (cache, burst) = (pools.tx.cache(), Box::new(Burst::new(&pools.tx)));
        Ok(Self { pair, plan, pools, cache, burst, receiver, next: 0 })
    }

    /// Makes a frame out of as many buffers as it takes.
    pub(crate) fn make(cache: &mut Cache<Cpu>, bytes: &[u8]) -> Option<Buf<Cpu>> {
        let room = cache.pool().room();
        let mut parts = bytes.chunks(room);
        let mut head = cache.take_one()?;
        assert!(head.frame_mut().append(parts.next()?));
        for part in parts {
            let mut tail = cache.take_one()?;
            assert!(tail.frame_mut().append(part));
            assert!(head.chain(tail).is_ok());
        }
        Some(head)
    }

    /// Sends up to `count` more frames in one burst; how many the queue took.
    pub(crate) fn send(&mut self, count: usize) -> usize {
        while self.burst.len() < count && self.burst.room() > 0 {
            let bytes = frame(self.next, (self.plan.len)(self.next));
            let Some(buf) = Self::make(&mut self.cache, &bytes) else { break };
            self.burst.push(buf);
            self.next += 1;
        }
        self.pair.tx(0).send(&mut self.cache, &mut self.burst)
    }

    /// Frames that were made and not taken yet.
    pub(crate) fn unsent(&self) -> usize {
        self.burst.len()
    }

    pub(crate) fn reap(&mut self) -> usize {
        self.pair.tx(0).reap(&mut self.cache)
    }

    /// Receives one burst.
    pub(crate) fn receive(&mut self) -> Vec<Arrived> {
        let queue = self.pair.rx(1);
        match (&mut self.receiver, queue) {
            (Receiver::Whole(cache, burst), AnyRxQueue::Whole(queue)) => {
                let got = queue.recv(cache, burst);
                let frames: Vec<_> = burst
                    .iter()
                    .map(|frame| {
                        let mut bytes = vec![0; frame.frame_len()];
                        assert_eq!(frame.copy_to(&mut bytes), bytes.len());
                        Arrived { bytes, head: 0 }
                    })
                    .collect();
                assert_eq!(frames.len(), got);
                burst.recycle(cache);
                frames
            }
            (Receiver::Split(receiver), AnyRxQueue::Split(queue)) => {
                let (cache, burst, view) = &mut **receiver;
                let got = queue.recv(cache, burst);
                let frames: Vec<_> = burst
                    .iter()
                    .map(|frame| {
                        let mut bytes = frame.head.bytes().to_vec();
                        let head = bytes.len();
                        for part in frame.data.into_iter().flat_map(|data| data.segments()) {
                            let at = bytes.len();
                            bytes.resize(at + part.len(), 0);
                            view.read(part, &mut bytes[at..]).unwrap();
                        }
                        Arrived { bytes, head }
                    })
                    .collect();
                assert_eq!(frames.len(), got);
                burst.recycle(cache);
                frames
            }
            _ => panic!("the queue is not of the kind that was asked for"),
        }
    }

    /// Sends `count` frames and receives until nothing comes any more; what came is given to `see`.
    pub(crate) fn run(&mut self, count: u64, mut see: impl FnMut(Arrived)) {
        let end = self.next + count;
        let mut quiet = 0;
        while quiet < 400 {
            let left = usize::try_from(end - self.next).unwrap();
            let sent = if left + self.unsent() > 0 {
                self.send((left + self.unsent()).min(32))
            } else {
                0
            };
            self.pair.tick();
            let arrived = self.receive();
            let reaped = self.reap();
            quiet = if sent + arrived.len() + reaped > 0 { 0 } else { quiet + 1 };
            arrived.into_iter().for_each(&mut see);
        }
    }

    /// As [`Stream::run`]; every frame must come, in order and whole.
    pub(crate) fn run_exactly(&mut self, count: u64) {
        self.run_but(count, |_| false);
    }

    /// As [`Stream::run_exactly`], but for the frames of which `is_refused` holds; how many those were.
    pub(crate) fn run_but(&mut self, count: u64, is_refused: impl Fn(u64) -> bool) -> u64 {
        let (first, len) = (self.next, self.plan.len);
        let mut expected = (first..first + count).filter(|number| !is_refused(*number)).peekable();
        let mut came = 0;
        self.run(count, |arrived| {
            let number = expected.next().expect("nothing more was sent");
            let want = frame(number, len(number));
            let (got, start) = (arrived.bytes.len(), &arrived.bytes[..arrived.bytes.len().min(64)]);
            let (other, len) = (number_of(&arrived.bytes), want.len());
            assert!(
                arrived.bytes == want,
                "frame {number} of {len} B: came number {other} of {got} B: {start:02x?}"
            );
            came += 1;
        });
        let (rx, tx) = (self.pair.ports[1].stats_of(true), self.pair.ports[0].stats_of(false));
        assert_eq!(expected.next(), None, "does not come; receiver: {rx:?}, sender: {tx:?}");
        count - came
    }

    /// Stops both ends with frames under way, and starts them again.
    pub(crate) fn restarted(mut self) -> Self {
        self.pair.stop();
        self.burst.recycle(&mut self.cache);
        self.start_again().unwrap_or_else(|error| panic!("{error}"));
        self
    }

    /// Starts both ends that were stopped.
    pub(crate) fn start_again(&mut self) -> Result<(), Error> {
        for end in [0, 1] {
            let config = config(end, &self.plan, &self.pools);
            // What is still on the wire is nobody's.
            let _lost = self.pair.models[end].sent();
            let _former = self.pair.ports[end].stop(std::mem::take(&mut self.pair.queues[end]));
            self.pair.queues[end] = self.pair.ports[end].start(config)?;
        }
        self.pair.wait_for_link();
        Ok(())
    }

    /// Stops both ends; fails if a slot is not home or a driver did what is forbidden.
    pub(crate) fn end(self) {
        let models = self.pair.models.clone();
        self.pair.check();
        self.end_without_checks().check();
        assert!(models.iter().map(Model::mappings).all(|(spans, _)| spans == 0), "left mapped");
    }

    /// Stops both ends, whatever they say to it; what is left is the pools.
    pub(crate) fn end_without_checks(mut self) -> Pools {
        for (port, queues) in self.pair.ports.iter_mut().zip(&mut self.pair.queues) {
            let _gone = port.stop(std::mem::take(queues));
        }
        self.pools
    }
}

/// A port's books, in short.
pub(crate) trait Books {
    /// Of what it received, or sent.
    fn stats_of(&self, rx: bool) -> pmd::QueueStats;
}

impl<D: Device> Books for D {
    fn stats_of(&self, rx: bool) -> pmd::QueueStats {
        let (received, sent, _) = self.stats();
        if rx { received } else { sent }
    }
}
