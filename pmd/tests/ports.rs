//! Ports as a user names and starts them: errors that say what to do, and what `null` and `ring` do
//! beyond the conformance suite.

use mempool::{
    Burst, Cpu, Device as DeviceMemory, DeviceView, Pool, SplitBurst, SplitCache, heap::Heap,
};
use pmd::{
    AnyRxQueue, Bounce, Config, Error, Health, PostOrder, Queues, Registry, RxMemory, SplitAt,
    SplitConfig, SplitRxQueue,
};
use providers::Fake;

fn pool(slots: usize, stride: usize) -> Pool<Cpu> {
    let builder = Pool::builder().name("test").slots(slots).stride(stride);
    builder.memory(&Heap::new()).build().expect("heap memory is there")
}

fn device_pool(slots: usize) -> Pool<DeviceMemory> {
    let builder = Pool::builder().name("test data").slots(slots).stride(2048);
    builder.memory(&Fake::new()).build().expect("fake memory is there")
}

fn refusal(spec: &str) -> Error {
    Registry::new().open(spec).err().unwrap_or_else(|| panic!("{spec} was opened"))
}

#[test]
fn an_unknown_driver_is_answered_with_the_nearest_name() {
    let error = refusal("rinf:a");
    assert!(error.to_string().contains("unknown driver 'rinf' (did you mean 'ring'?)"), "{error}");
    assert!(
        error.to_string().contains("known: af_packet, dgram, null, pcap, pci, ring"),
        "{error}"
    );
    assert!(error.is_usage());
    let far = refusal("quantum:a").to_string();
    assert!(!far.contains("did you mean"), "{far}");
}

#[test]
fn specs_that_cannot_be_read_say_what_a_port_looks_like() {
    for (spec, why) in [
        ("", "the spec is empty"),
        ("ring:a,rate=1,rate=2", "option 'rate' is given twice"),
        ("ring:a,=3", "an option has no name"),
        (&"x".repeat(5000), "longer than 4096 bytes"),
    ] {
        let error = refusal(spec).to_string();
        assert!(error.contains(why), "{error}");
        assert!(error.contains("a port is driver:addr[,key=val]*"), "{error}");
    }
}

#[test]
fn options_are_checked_with_their_names_and_ranges() {
    for (spec, why) in [
        ("null:,speed=1", "driver 'null' has no option 'speed'; it has: size"),
        ("null:,size=4", "size=4: should be a frame size in bytes, 14..=9216"),
        ("null:,size=big", "option size=big: should be a frame size in bytes"),
        ("ring:", "a wire needs a name: ring:a"),
        ("pci:eth0", "'eth0' is no PCI address"),
        ("pci:01:00.0,speed=1", "driver 'pci' has no option 'speed'; it has: iommu,"),
        ("01:00.0,iommu=type2", "iommu=type2: should be auto, type1, iommufd or none"),
        ("01:00.0,iommu=none", "the device can write any memory of this machine"),
        ("0000:01:00.0,max_frame=9", "max_frame=9: should be a frame size in bytes"),
        ("ring:a,loss=2%", "driver 'ring' has no option 'loss'; it has: size, rate"),
        ("ring:a,rate=fast", "option rate=fast: should be frames a second"),
        (
            "ring:a,size=1000",
            "ring of 1000 descriptors: must be a power of two in 2..=32768 (nearest: 1024)",
        ),
    ] {
        let error = refusal(spec).to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_wire_has_two_ends_and_a_port_is_opened_once() {
    let mut registry = Registry::new();
    let _ends = [registry.open("ring:a").unwrap(), registry.open("ring:a").unwrap()];
    let error = registry.open("ring:a").err().expect("a third end").to_string();
    assert!(error.contains("a wire has two ends"), "{error}");
    let _null = registry.open("null:x").unwrap();
    let error = registry.open("null:x").err().expect("a second opening").to_string();
    assert!(error.contains("already open"), "{error}");
}

#[test]
fn a_configuration_that_cannot_work_touches_nothing() {
    let pool = pool(256, 2048);
    let mut registry = Registry::new();
    let mut null = registry.open("null:").unwrap();
    let error = null.start(Config::one_queue(&pool).rings(1000)).err().expect("1000 descriptors");
    assert!(error.to_string().contains("nearest: 1024"), "{error}");
    let mut many = Config::default();
    for _ in 0..65 {
        many = many.with_tx(&pool);
    }
    let error = null.start(many).err().expect("65 queues").to_string();
    assert!(error.contains("65 transmit queues asked, it has 64"), "{error}");
    let split = Config::default().split(&pool, &device_pool(64), SplitAt::Length(64));
    let error = null.start(split).err().expect("null cannot split").to_string();
    assert!(error.contains("cannot split headers from payloads; use the bounce path"), "{error}");
    // And still it starts, once.
    let queues = null.start(Config::one_queue(&pool)).unwrap();
    let error = null.start(Config::one_queue(&pool)).err().expect("started twice").to_string();
    assert!(error.contains("already started"), "{error}");
    null.stop(queues).unwrap();
    null.start(Config::one_queue(&pool)).unwrap();
}

#[test]
fn null_counts_what_an_empty_pool_costs() {
    let pool = pool(64, 2048);
    let mut null = Registry::new().open("null:,size=1000").unwrap();
    let mut queues = null.start(Config::one_queue(&pool)).unwrap();
    let AnyRxQueue::Whole(rx) = &mut queues.rx[0] else { panic!("whole frames") };
    let (mut cache, mut burst) = (pool.cache(), Burst::with_limit(&pool, 100));
    assert_eq!(rx.recv(&mut cache, &mut burst), 64);
    assert!(burst.iter().all(|frame| frame.len() == 1000));
    let stats = rx.counters().snapshot();
    assert_eq!((stats.offered, stats.delivered, stats.drops.total()), (100, 64, 36));
    assert_eq!(stats.bytes, 64_000);
}

/// A started pair of ports on one wire: the sender's and the receiver's queues.
fn wire(spec: &str, tx: &Pool<Cpu>, rx: RxMemory) -> (Ports, Queues, Queues) {
    let mut registry = Registry::new();
    let mut sender = registry.open(spec).unwrap();
    let mut receiver = registry.open(spec).unwrap();
    let sending = sender.start(Config::default().with_tx(tx)).unwrap();
    let receiving = receiver.start(Config::default().with_rx(rx)).unwrap();
    (Ports { sender, receiver }, sending, receiving)
}

struct Ports {
    sender: Box<dyn pmd::Device>,
    receiver: Box<dyn pmd::Device>,
}

#[test]
fn where_both_ends_use_one_pool_frames_pass_by_reference() {
    let pool = pool(256, 2048);
    let (_ports, mut tx, mut rx) = wire("ring:a", &pool, RxMemory::Whole(pool.clone()));
    let AnyRxQueue::Whole(rx) = &mut rx.rx[0] else { panic!("whole frames") };
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    cache.take(&mut burst, 3);
    let slots: Vec<_> = burst.iter().map(|frame| frame.slot()).collect();
    tx.tx[0].send(&mut cache, &mut burst);
    assert!(burst.is_empty());
    rx.recv(&mut cache, &mut burst);
    assert_eq!(burst.iter().map(|frame| frame.slot()).collect::<Vec<_>>(), slots);
}

#[test]
fn a_receiver_learns_that_the_sender_has_gone_and_gets_the_rest_first() {
    let pool = pool(256, 2048);
    let (mut ports, mut tx, mut rx) = wire("ring:a", &pool, RxMemory::Whole(pool.clone()));
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    assert_eq!(ports.receiver.health(), Health::Good);
    cache.take(&mut burst, 5);
    tx.tx[0].send(&mut cache, &mut burst);
    ports.sender.stop(tx).unwrap();
    assert_eq!(ports.receiver.health(), Health::Good, "five frames are still on the wire");
    let AnyRxQueue::Whole(queue) = &mut rx.rx[0] else { panic!("whole frames") };
    assert_eq!(queue.recv(&mut cache, &mut burst), 5);
    assert_eq!(ports.receiver.health(), Health::Ended);
    // A new sender on the same wire, with another pool, is met as the first was.
    let other = self::pool(64, 2048);
    let mut tx = ports.sender.start(Config::default().with_tx(&other)).unwrap();
    assert_eq!(ports.receiver.health(), Health::Good);
    let (mut other_cache, mut frames) = (other.cache(), Burst::new(&other));
    other_cache.take(&mut frames, 7);
    tx.tx[0].send(&mut other_cache, &mut frames);
    burst.recycle(&mut cache);
    assert_eq!(queue.recv(&mut cache, &mut burst), 7);
}

#[test]
fn frames_left_on_a_wire_go_home_when_both_ends_are_gone() {
    let pool = pool(256, 2048);
    let (ports, mut tx, rx) = wire("ring:a", &pool, RxMemory::Whole(pool.clone()));
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    cache.take(&mut burst, 9);
    tx.tx[0].send(&mut cache, &mut burst);
    assert_eq!(pool.audit().held, 9);
    drop((tx, rx, ports));
    assert_eq!(pool.audit().held, 0);
}

#[test]
fn a_paced_wire_takes_no_more_than_its_rate() {
    let pool = pool(4096, 2048);
    let (_ports, mut tx, mut rx) = wire("ring:a,rate=100000", &pool, RxMemory::Whole(pool.clone()));
    let AnyRxQueue::Whole(rx) = &mut rx.rx[0] else { panic!("whole frames") };
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    let start = std::time::Instant::now();
    let mut sent = 0u64;
    while start.elapsed() < std::time::Duration::from_millis(300) {
        cache.take(&mut burst, 32);
        sent += tx.tx[0].send(&mut cache, &mut burst) as u64;
        burst.recycle(&mut cache);
        rx.recv(&mut cache, &mut burst);
        burst.recycle(&mut cache);
    }
    let most = 100_000 * u64::try_from(start.elapsed().as_millis()).unwrap() / 1000 + 1001;
    assert!(sent <= most, "{sent} frames sent, {most} allowed");
    // Less only if this thread was off the CPU for more than 10 ms at a time.
    assert!(sent > 1000, "{sent} frames sent");
}

fn split_config(heads: &Pool<Cpu>, data: &Pool<DeviceMemory>, post: PostOrder) -> SplitConfig {
    let at = SplitAt::Length(64);
    SplitConfig { heads: heads.clone(), data: data.clone(), at, post }
}

/// Sends `count` frames of 200 B, numbered in their 65th byte: the first of the payload.
fn send_numbered(tx: &mut Queues, pool: &Pool<Cpu>, count: u8) {
    let (mut cache, mut burst) = (pool.cache(), Burst::new(pool));
    cache.take(&mut burst, usize::from(count));
    let mut number = 0;
    burst.for_each_mut(0, |mut frame| {
        frame.set_len(200);
        frame.bytes_mut()[64] = number;
        number += 1;
    });
    assert_eq!(tx.tx[0].send(&mut cache, &mut burst), usize::from(count));
}

/// A split queue over a fresh wire, in hardware's manner or by the bounce path.
fn split_queue(
    bounce: bool,
    tx_pool: &Pool<Cpu>,
    config: &SplitConfig,
) -> (Ports, Queues, Box<dyn SplitRxQueue>) {
    if !bounce {
        let (ports, tx, mut rx) = wire("ring:a", tx_pool, RxMemory::Split(config.clone()));
        return (ports, tx, rx.rx.remove(0).split().unwrap());
    }
    let (ports, tx, mut rx) = wire("ring:a", tx_pool, RxMemory::Whole(config.heads.clone()));
    let inner = rx.rx.remove(0).whole().unwrap();
    (ports, tx, Box::new(Bounce::new(inner, config.clone(), 64).unwrap()))
}

#[test]
fn payload_buffers_that_the_app_posts_are_filled_in_its_order() {
    let tx_pool = pool(256, 2048);
    for bounce in [false, true] {
        let (heads, data) = (pool(256, 2048), device_pool(64));
        let config = split_config(&heads, &data, PostOrder::App);
        let (_ports, mut tx, mut queue) = split_queue(bounce, &tx_pool, &config);
        let (mut stock, mut posts) = (data.cache(), Burst::with_limit(&data, 10));
        stock.take(&mut posts, 10);
        let order: Vec<_> = posts.iter().map(|frame| frame.slot()).collect();
        assert_eq!(queue.post(&mut posts), 10);
        assert_eq!(data.audit().in_flight, 10);
        send_numbered(&mut tx, &tx_pool, 12);
        let mut cache = SplitCache::new(&heads, &data);
        let mut burst = SplitBurst::new(&heads, &data);
        assert_eq!(queue.recv(&mut cache, &mut burst), 10, "bounce: {bounce}");
        let view = DeviceView::new(&data);
        for (number, (frame, slot)) in burst.iter().zip(order).enumerate() {
            let payload = frame.data.expect("a payload");
            assert_eq!((payload.slot(), payload.len()), (slot, 136));
            let mut first = [0];
            view.read(payload, &mut first).unwrap();
            assert_eq!(usize::from(first[0]), number);
            assert_eq!(frame.head.len(), 64);
        }
        let stats = queue.counters().snapshot();
        assert_eq!(stats.drops.of(pmd::DropReason::NoDataBuffer), 2);
        assert!(stats.is_balanced() && stats.offered == 12);
        // What is still posted comes home with the queue.
        assert_eq!(queue.post(&mut posts), 0);
        drop((queue, burst, cache, stock, posts));
        assert!(data.audit().is_home(), "{}", data.audit());
    }
}

#[test]
fn memory_without_a_window_is_refused_by_a_software_nic_and_served_by_the_bounce_path() {
    let (tx_pool, heads) = (pool(256, 2048), pool(256, 2048));
    let opaque = opaque::Opaque::default();
    let builder = Pool::builder().name("opaque").slots(64).stride(2048);
    let data: Pool<DeviceMemory> = builder.memory(&opaque).build().unwrap();
    let config = split_config(&heads, &data, PostOrder::Cache);
    let mut registry = Registry::new();
    let mut port = registry.open("ring:x").unwrap();
    let refused = port.start(Config::default().with_rx(RxMemory::Split(config.clone())));
    let error = refused.err().expect("no way in").to_string();
    assert!(error.contains("a software NIC cannot reach anonymous memory"), "{error}");
    assert!(error.contains("use the bounce path"), "{error}");

    let (_ports, mut tx, mut queue) = split_queue(true, &tx_pool, &config);
    send_numbered(&mut tx, &tx_pool, 8);
    let mut cache = SplitCache::new(&heads, &data);
    let mut burst = SplitBurst::new(&heads, &data);
    assert_eq!(queue.recv(&mut cache, &mut burst), 8);
    for (number, frame) in (0u8..).zip(burst.iter()) {
        let mut first = [0];
        DeviceView::new(&data).read(frame.data.expect("a payload"), &mut first).unwrap();
        assert_eq!(first[0], number);
    }
    assert!(opaque.writes() >= 8, "the provider's engine did the copies");
}

/// Memory that only its provider's engine reaches, as a GPU's without a mapping.
mod opaque {
    use std::{
        ptr::NonNull,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use mempool::{
        Backing, CopyError, CpuAccess, Memory, Provider, ProviderError, ProviderInfo, Region,
        RegionRequest, Window, heap::Heap,
    };

    #[derive(Default)]
    pub(super) struct Opaque(Arc<AtomicUsize>);

    impl Opaque {
        pub(super) fn writes(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Provider for Opaque {
        fn info(&self) -> ProviderInfo {
            ProviderInfo {
                name: "opaque".into(),
                cpu_access: CpuAccess::None,
                ..Heap::new().info()
            }
        }
        fn alloc(&self, request: &RegionRequest) -> Result<Region, ProviderError> {
            let inner = Heap::new().alloc(request)?;
            Ok(Region::new(OpaqueMemory { inner, writes: Arc::clone(&self.0) }))
        }
    }

    struct OpaqueMemory {
        inner: Region,
        writes: Arc<AtomicUsize>,
    }

    // SAFETY: the heap region inside keeps every promise; CPU access is denied on top.
    #[allow(unsafe_code, reason = "a provider for tests")]
    unsafe impl Memory for OpaqueMemory {
        fn base(&self) -> NonNull<u8> {
            self.inner.base()
        }
        fn len(&self) -> usize {
            self.inner.len()
        }
        fn page_size(&self) -> usize {
            self.inner.page_size()
        }
        fn cpu_access(&self) -> CpuAccess {
            CpuAccess::None
        }
        fn backing(&self) -> Backing {
            Backing::Anonymous
        }
        fn window(&self) -> Option<Window> {
            None
        }
        unsafe fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), CopyError> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the caller's.
            unsafe { self.inner.handle().write(offset, bytes) }
        }
        unsafe fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), CopyError> {
            // SAFETY: the caller's.
            unsafe { self.inner.handle().read(offset, bytes) }
        }
    }
}

#[test]
fn an_area_added_while_traffic_runs_is_met_and_mapped() {
    let (tx_pool, heads, data) = (pool(512, 2048), pool(512, 2048), device_pool(16));
    let config = split_config(&heads, &data, PostOrder::Cache);
    let (_ports, mut tx, mut queue) = split_queue(false, &tx_pool, &config);
    let mut cache = SplitCache::new(&heads, &data);
    let mut burst = SplitBurst::new(&heads, &data);
    // The app keeps everything: the first area runs dry.
    send_numbered(&mut tx, &tx_pool, 32);
    assert_eq!(queue.recv(&mut cache, &mut burst), 16);
    data.add_area(&Fake::new(), 16).unwrap();
    send_numbered(&mut tx, &tx_pool, 8);
    assert_eq!(queue.recv(&mut cache, &mut burst), 8);
    assert!(burst.iter().skip(16).all(|frame| frame.data.unwrap().place().0.index() == 1));
}

#[test]
fn an_area_that_goes_is_let_go_of_and_another_in_its_place_is_met() {
    let tx_pool = pool(512, 2048);
    for bounce in [false, true] {
        let (heads, data) = (pool(512, 2048), device_pool(16));
        let config = split_config(&heads, &data, PostOrder::App);
        let (_ports, mut tx, mut queue) = split_queue(bounce, &tx_pool, &config);
        let (mut cache, mut stock) = (SplitCache::new(&heads, &data), data.cache());
        let mut kept = Burst::with_limit(&data, 16);
        assert_eq!(stock.take(&mut kept, 16), 16, "what follows is of other areas");
        for _ in 0..3 {
            let area = data.add_area(&Fake::new(), 16).unwrap();
            queue.meet_areas().unwrap();
            let known = data.areas().into_iter().find(|known| known.id == area);
            let witness = known.unwrap().region.witness();
            let mut posts = Burst::with_limit(&data, 8);
            assert_eq!(stock.take(&mut posts, 8), 8);
            assert_eq!(queue.post(&mut posts), 8);
            send_numbered(&mut tx, &tx_pool, 8);
            let mut burst = SplitBurst::new(&heads, &data);
            assert_eq!(queue.recv(&mut cache, &mut burst), 8);
            let view = DeviceView::new(&data);
            for (number, frame) in (0..).zip(burst.iter()) {
                let payload = frame.data.unwrap();
                assert_eq!(payload.place().0, area);
                let mut bytes = vec![0; payload.len()];
                view.read(payload, &mut bytes).unwrap();
                assert_eq!(bytes[64 - frame.head.len()], number, "bounce: {bounce}");
            }
            drop(view);
            burst.recycle(&mut cache);
            cache.data.flush();
            stock.flush();
            drop(data.remove_area(area).unwrap());
            assert!(witness.is_live(), "the queue can write there still");
            queue.meet_areas().unwrap();
            assert!(!witness.is_live(), "and now it cannot; bounce: {bounce}");
        }
    }
}
