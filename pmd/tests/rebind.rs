//! A queue's memory changes while its port runs, on ports without hardware: what `ring` does, what wrappers
//! pass on, and what drivers say that cannot. The chips' tests are in `e1000`.

use mempool::{Burst, Cpu, Device as DeviceMemory, Pool, SplitBurst, SplitCache, heap::Heap};
use pmd::{
    AnyRxQueue, Config, Device, PostOrder, Queues, Registry, RxMemory, SplitAt, SplitConfig,
    TxQueue,
};
use providers::Fake;

fn pool(stride: usize) -> Pool<Cpu> {
    Pool::builder().slots(256).stride(stride).memory(&Heap::new()).build().unwrap()
}

fn data(provider: &Fake) -> Pool<DeviceMemory> {
    Pool::builder().slots(128).stride(2048).memory(provider).build().unwrap()
}

fn split(heads: &Pool<Cpu>, data: &Pool<DeviceMemory>) -> RxMemory {
    RxMemory::Split(SplitConfig {
        heads: heads.clone(),
        data: data.clone(),
        at: SplitAt::Length(64),
        post: PostOrder::Cache,
    })
}

/// A wire: the receiving port is opened by `spec`.
struct Rig {
    receiver: Box<dyn Device>,
    sender: Box<dyn Device>,
    tx: Box<dyn TxQueue>,
    source: Pool<Cpu>,
    queue: Option<AnyRxQueue>,
}

impl Rig {
    fn new(spec: &str, memory: RxMemory) -> Self {
        let mut registry = Registry::new();
        let mut receiver = registry.open(spec).unwrap();
        let mut sender = registry.open("ring:t").unwrap();
        let source = pool(2048);
        let config = Config::default().with_rx(memory).rings(64);
        let queue = receiver.start(config).unwrap().rx.pop();
        let tx = sender.start(Config::default().with_tx(&source)).unwrap().tx.remove(0);
        Self { receiver, sender, tx, source, queue }
    }

    fn send(&mut self, count: usize) {
        let (mut cache, mut burst) = (self.source.cache(), Burst::<Cpu>::new(&self.source));
        assert_eq!(cache.take(&mut burst, count), count);
        for at in 0..count {
            burst.frame_mut(at).set_len(300);
        }
        assert_eq!(self.tx.send(&mut cache, &mut burst), count);
    }

    fn queue(&mut self) -> &mut AnyRxQueue {
        self.queue.as_mut().unwrap()
    }

    fn rebind(&mut self, memory: RxMemory) -> Result<(), String> {
        let queue = &mut self.queue;
        match self.receiver.rebind(0, memory, &mut || queue.take()) {
            Ok(rebound) => {
                assert!(rebound.former.is_none(), "nothing is left in a software queue");
                self.queue = Some(rebound.queue);
                Ok(())
            }
            Err(refused) => {
                assert!(!refused.is_lost && self.queue.is_some(), "it was not taken");
                Err(refused.to_string())
            }
        }
    }

    fn end(mut self) {
        let rx = self.queue.take().into_iter().collect();
        self.receiver.stop(Queues { rx, tx: Vec::new() }).unwrap();
        self.sender.stop(Queues { rx: Vec::new(), tx: vec![self.tx] }).unwrap();
    }
}

fn take_split(queue: &mut AnyRxQueue, heads: &Pool<Cpu>, data: &Pool<DeviceMemory>) -> usize {
    let AnyRxQueue::Split(queue) = queue else { panic!("a split queue") };
    let mut cache = SplitCache::new(heads, data);
    let mut burst = SplitBurst::with_limit(heads, data, 32);
    let got = queue.recv(&mut cache, &mut burst);
    assert!(burst.iter().all(|frame| frame.head.len() == 64 && frame.data.is_some()));
    burst.recycle(&mut cache);
    got
}

#[test]
fn what_is_on_the_wire_waits_for_the_new_memory_and_the_counters_go_on() {
    for spec in ["ring:t", "trace:/dev/null@ring:t"] {
        let (heads, whole) = (pool(256), pool(2048));
        let (first, second) = (Fake::new(), Fake::new());
        let lent = data(&first);
        let mut rig = Rig::new(spec, split(&heads, &lent));
        rig.send(20);
        assert_eq!(take_split(rig.queue(), &heads, &lent), 20);
        rig.send(20);
        first.revoke();
        rig.rebind(RxMemory::Whole(whole.clone())).unwrap();
        assert!(lent.audit().is_home(), "{}", lent.audit());
        drop(lent);
        assert_eq!(first.live(), 0, "{spec}: acknowledged");
        let AnyRxQueue::Whole(queue) = rig.queue() else { panic!("whole frames") };
        let (mut cache, mut burst) = (whole.cache(), Burst::<Cpu>::new(&whole));
        assert_eq!(queue.recv(&mut cache, &mut burst), 20);
        burst.recycle(&mut cache);
        rig.send(5);
        let lent = data(&second);
        rig.rebind(split(&heads, &lent)).unwrap();
        assert_eq!(take_split(rig.queue(), &heads, &lent), 5);
        let stats = rig.queue().counters().snapshot();
        assert_eq!((stats.delivered, stats.offered), (45, 45), "{spec}");
        assert_eq!(rig.receiver.stats().0, stats);
        rig.end();
        assert!(lent.audit().is_home() && heads.audit().is_home() && whole.audit().is_home());
    }
}

#[test]
fn memory_that_was_revoked_is_refused_and_the_queue_runs_on() {
    let (heads, gone) = (pool(256), Fake::new());
    let (lent, other) = (data(&Fake::new()), data(&gone));
    let mut rig = Rig::new("ring:t", split(&heads, &lent));
    gone.revoke();
    let text = rig.rebind(split(&heads, &other)).unwrap_err();
    assert!(text.contains("revoked"), "{text}");
    rig.send(7);
    assert_eq!(take_split(rig.queue(), &heads, &lent), 7);
    rig.end();
}

#[test]
fn chaos_that_counts_received_frames_refuses_and_other_chaos_does_not() {
    let (heads, lent) = (pool(256), data(&Fake::new()));
    let mut rig = Rig::new("chaos:seed=1,rx.drop=1%@ring:t", split(&heads, &lent));
    let text = rig.rebind(split(&heads, &lent)).unwrap_err();
    assert!(text.contains("receive queue 0 is under chaos"), "{text}");
    rig.end();
    let mut rig = Rig::new("chaos:seed=1,tx.drop=1%@ring:t", split(&heads, &lent));
    rig.rebind(split(&heads, &lent)).unwrap();
    rig.end();
}

#[test]
fn a_driver_that_cannot_says_so_and_does_not_take_the_queue() {
    let frames = pool(2048);
    let mut port = Registry::new().open("null:").unwrap();
    let memory = || RxMemory::Whole(frames.clone());
    let _queues = port.start(Config::default().with_rx(memory())).unwrap();
    let mut take = || panic!("the queue is not wanted");
    let refused = port.rebind(0, memory(), &mut take).err().unwrap();
    let text = refused.to_string();
    assert!(text.contains("the null driver cannot give a queue other memory"), "{text}");
    assert!(!refused.is_lost, "nothing was touched");
}
