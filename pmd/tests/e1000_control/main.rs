//! The control plane of both e1000 chips against their models: opening, starting, filtering, counting,
//! failing, stopping.

mod faults;
mod filters;
mod lifecycle;

use mempool::{Burst, Cache, Cpu, Device as Dev, Pool, heap::Heap};
use pmd::{
    AnyRxQueue, Config, Error, Queues, RxQueue, SplitAt,
    e1000::{
        Chip, E1000, Options,
        model::{self, Model, ModelBus},
    },
};
use providers::Fake;

/// Both chips: the driver's name for it, and the model's.
const CHIPS: [(Chip, model::Chip); 2] =
    [(Chip::E82574, model::Chip::I82574), (Chip::E82576, model::Chip::I82576)];

/// The permanent address of a model.
const MAC: [u8; 6] = [0x02, 0x57, 0x1e, 0, 0, 1];

/// A chip, and the driver that has it.
struct Rig {
    model: Model,
    port: E1000<ModelBus>,
}

impl Rig {
    fn new(chips: (Chip, model::Chip)) -> Self {
        Self::with(chips, Options::default())
    }

    fn with((chip, kind): (Chip, model::Chip), options: Options) -> Self {
        let model = Model::new(model::Options::new(kind));
        let port = open(chip, &model, options).expect("a model opens");
        Self { model, port }
    }
}

fn open(chip: Chip, model: &Model, options: Options) -> Result<E1000<ModelBus>, Error> {
    E1000::open(format!("pci:{chip:?}"), chip, model.bus(), options)
}

fn pool(slots: usize) -> Pool<Cpu> {
    Pool::builder()
        .name("frames")
        .slots(slots)
        .stride(2048 + 128)
        .memory(&Heap::new())
        .build()
        .unwrap()
}

/// Heads and payloads.
fn split_pools() -> (Pool<Cpu>, Pool<Dev>) {
    let heads = Pool::builder().name("heads").slots(512).stride(256).headroom(0);
    let data = Pool::builder().name("data").slots(512).stride(2048).memory(&Fake::new()).build();
    (heads.memory(&Heap::new()).build().unwrap(), data.unwrap())
}

/// One queue each way on one pool.
fn both_ways(pool: &Pool<Cpu>) -> Config {
    Config::one_queue(pool).rings(64)
}

fn split_config(heads: &Pool<Cpu>, data: &Pool<Dev>) -> Config {
    Config::default().split(heads, data, SplitAt::Protocol { extra: 0 }).rings(64)
}

fn whole(queues: &mut Queues, index: usize) -> &mut dyn RxQueue {
    match &mut queues.rx[index] {
        AnyRxQueue::Whole(queue) => &mut **queue,
        AnyRxQueue::Split(_) => panic!("queue {index} splits"),
    }
}

/// What a queue of whole frames receives, until nothing more comes.
fn receive(queue: &mut dyn RxQueue, cache: &mut Cache<Cpu>) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let pool = cache.pool().clone();
    loop {
        let mut burst = Burst::with_limit(&pool, 32);
        if queue.recv(cache, &mut burst) == 0 {
            return frames;
        }
        frames.extend(burst.iter().map(|frame| frame.bytes().to_vec()));
        burst.recycle(cache);
    }
}

/// A frame to `to`, of `len` bytes, whose payload starts with `tag`.
fn frame(to: [u8; 6], tag: u8, len: usize) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9, 0x88, 0xb5, tag]);
    frame.resize(len, tag);
    frame
}

/// UDP over IPv4 from a port, to the model's address.
fn udp(port: u16, len: usize) -> Vec<u8> {
    let mut frame = MAC.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    let ip_len = u16::try_from(len - 14).unwrap().to_be_bytes();
    frame.extend([
        0x45, 0, ip_len[0], ip_len[1], 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    let udp_len = u16::try_from(len - 34).unwrap().to_be_bytes();
    frame.extend(port.to_be_bytes());
    frame.extend([0, 9, udp_len[0], udp_len[1], 0, 0]);
    frame.resize(len, 0x5a);
    frame
}

fn send(queues: &mut Queues, cache: &mut Cache<Cpu>, bytes: &[u8]) {
    let mut burst = Burst::with_limit(&cache.pool().clone(), 1);
    let mut buf = cache.take_one().expect("a buffer");
    assert!(buf.frame_mut().append(bytes), "{} B fit", bytes.len());
    burst.push(buf);
    assert_eq!(queues.tx[0].send(cache, &mut burst), 1);
}
