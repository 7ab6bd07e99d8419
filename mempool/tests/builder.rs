//! How a pool is described, refused, grown and drained: every message as its reader sees it.
#![allow(unsafe_code, reason = "a memory that says something else than its provider")]

use std::ptr::NonNull;

use mempool::{
    AreaState, Backing, Cpu, CpuAccess, Device, Error, Memory, Peer, Pool, PoolBuilder, Provider,
    ProviderError, ProviderInfo, Region, RegionRequest, Revoker, heap::Heap, pools,
};

/// Says one thing of its memory, hands out another.
struct Odd {
    says: CpuAccess,
    is: CpuAccess,
    /// Bytes it really has.
    len: usize,
}

struct OddMemory {
    bytes: Box<[u8]>,
    access: CpuAccess,
}

impl Provider for Odd {
    fn info(&self) -> ProviderInfo {
        ProviderInfo {
            name: "odd".into(),
            cpu_access: self.says,
            page_size: 64,
            available: None,
            numa_node: None,
        }
    }

    fn alloc(&self, _: &RegionRequest) -> Result<Region, ProviderError> {
        let bytes = vec![0; self.len].into_boxed_slice();
        Ok(Region::new(OddMemory { bytes, access: self.is }))
    }
}

// SAFETY: the bytes are this object's alone and stay where they are.
unsafe impl Memory for OddMemory {
    fn base(&self) -> NonNull<u8> {
        NonNull::from(&self.bytes[0])
    }
    fn len(&self) -> usize {
        self.bytes.len()
    }
    fn page_size(&self) -> usize {
        64
    }
    fn cpu_access(&self) -> CpuAccess {
        self.access
    }
    fn backing(&self) -> Backing {
        Backing::Anonymous
    }
}

fn message(
    describe: impl FnOnce(PoolBuilder<'static, Cpu>) -> PoolBuilder<'static, Cpu>,
) -> String {
    static HEAP: Heap = Heap::with_limit(64 << 20);
    let builder = Pool::<Cpu>::builder().name("rx").slots(16).memory(&HEAP);
    describe(builder).build().expect_err("a bad description").to_string()
}

#[test]
fn what_is_zero_is_named() {
    assert_eq!(message(|b| b.slots(0)), "pool 'rx': slots is 0; it must be at least 1");
    assert_eq!(message(|b| b.stride(0)), "pool 'rx': stride is 0; it must be at least 1");
    assert_eq!(
        message(|b| b.max_areas(0)),
        "pool 'rx': number of areas is 0; it must be at least 1"
    );
}

#[test]
fn what_is_no_multiple_gets_the_nearest() {
    assert_eq!(
        message(|b| b.stride(1500)),
        "pool 'rx': stride 1500 is not a multiple of 64 (nearest: 1536)"
    );
    assert!(message(|b| b.stride(usize::MAX)).contains("is not a multiple of 64"));
}

#[test]
fn what_is_too_large_gets_the_limit() {
    assert_eq!(
        message(|b| b.cache_size(4097)),
        "pool 'rx': cache size 4097 is more than the limit 4096"
    );
    assert_eq!(
        message(|b| b.stride(256).headroom(257)),
        "pool 'rx': headroom 257 is more than the limit 256"
    );
    assert_eq!(
        message(|b| b.stride(128 << 10).headroom(65_536)),
        "pool 'rx': headroom 65536 is more than the limit 65535"
    );
    assert_eq!(
        message(|b| b.max_areas(65)),
        "pool 'rx': number of areas 65 is more than the limit 64"
    );
    assert_eq!(
        message(|b| b.stride(2 << 30)),
        "pool 'rx': stride 2147483648 is more than the limit 1073741824"
    );
    // Four areas share 2^31 slot numbers.
    let limit = 1 << 29;
    let expected = format!("pool 'rx': slots {} is more than the limit {limit}", limit + 1);
    assert_eq!(message(|b| b.slots(limit + 1)), expected);
    assert_eq!(message(|b| b.area_slots(limit + 1)), expected);
    assert!(message(|b| b.slots(usize::MAX)).contains("is more than the limit"));
}

#[test]
fn an_address_space_too_small_is_an_overflow() {
    let text = message(|b| b.slots(1 << 30).stride(1 << 30).max_areas(1));
    // 2^60 bytes fit an address and no machine; the provider says so.
    assert!(text.starts_with("pool 'rx': heap: needs 1048576 TiB, but only 64 MiB"), "{text}");
    let overflow = Error::Overflow { pool: "rx".into(), slots: 3, stride: 4 };
    assert_eq!(overflow.to_string(), "pool 'rx': 3 slots of 4 B overflow the address space");
}

#[test]
fn too_little_memory_says_how_much_is_needed_and_how_much_there_is() {
    assert_eq!(
        message(|b| b.slots(65_536)),
        "pool 'rx': heap: needs 128 MiB, but only 64 MiB can be had; ask for fewer or smaller buffers"
    );
    // A provider that hands out less than it was asked for.
    let odd = Odd { says: CpuAccess::ReadWrite, is: CpuAccess::ReadWrite, len: 1024 };
    let built = Pool::<Cpu>::builder().name("rx").slots(8).stride(256).memory(&odd).build();
    assert_eq!(
        built.unwrap_err().to_string(),
        "pool 'rx': needs 2 KiB (8 slots of 256 B), but odd has 1 KiB"
    );
}

#[test]
fn memory_must_be_named() {
    assert_eq!(
        Pool::<Cpu>::builder().slots(1).build().unwrap_err().to_string(),
        "pool 'pool': no memory named; call .memory(&provider) before .build()"
    );
}

#[test]
fn access_must_fit_the_memory() {
    let device = Odd { says: CpuAccess::None, is: CpuAccess::None, len: 4096 };
    let text = Pool::<Cpu>::builder().slots(1).memory(&device).build().unwrap_err().to_string();
    assert_eq!(
        text,
        "pool 'pool': access 'cpu' asks for memory the CPU may touch, but odd hands out memory \
         with CPU access 'none'; use a Device pool"
    );
    assert!(Pool::<Peer>::builder().slots(1).memory(&device).build().is_err());
    assert!(Pool::<Device>::builder().slots(1).memory(&device).build().is_ok());
    let peer = Odd { says: CpuAccess::Volatile, is: CpuAccess::Volatile, len: 4096 };
    assert!(Pool::<Cpu>::builder().slots(1).memory(&peer).build().is_err());
    assert!(Pool::<Peer>::builder().slots(1).memory(&peer).build().is_ok());
}

#[test]
fn the_memory_is_believed_and_not_its_provider() {
    let liar = Odd { says: CpuAccess::ReadWrite, is: CpuAccess::None, len: 4096 };
    let built = Pool::<Cpu>::builder().slots(1).memory(&liar).build();
    assert!(matches!(built, Err(Error::WrongAccess { found: "none", .. })), "{built:?}");
    let honest = Pool::<Cpu>::builder().slots(1).memory(&Heap::new()).build().unwrap();
    assert!(matches!(honest.add_area(&liar, 1), Err(Error::WrongAccess { .. })));
    assert_eq!(honest.capacity(), 1);
}

#[test]
fn areas_come_and_go_with_clear_refusals() {
    let heap = Heap::new();
    let pool = Pool::<Cpu>::builder()
        .name("live")
        .slots(4)
        .area_slots(8)
        .max_areas(2)
        .memory(&heap)
        .build()
        .unwrap();
    let text = |error: Error| error.to_string();
    assert_eq!(
        text(pool.add_area(&heap, 0).unwrap_err()),
        "pool 'live': slots of the new area is 0; it must be at least 1"
    );
    assert_eq!(
        text(pool.add_area(&heap, 9).unwrap_err()),
        "pool 'live': slots of the new area 9 is more than the limit 8"
    );
    let buf = pool.cache().take_one().unwrap();
    assert_eq!(buf.frame().place().0.index(), 0);
    let second = pool.add_area(&heap, 8).unwrap();
    assert_eq!((second.index(), pool.capacity(), pool.slot_bound()), (1, 12, 16));
    assert_eq!(
        text(pool.add_area(&heap, 1).unwrap_err()),
        "pool 'live': all 2 areas are in use; remove one, or build with .max_areas(n)"
    );
    let first = pool.areas()[0].id;
    assert_eq!(
        text(pool.remove_area(first).unwrap_err()),
        "pool 'live': area 0 is draining, 1 of 4 buffers are still out"
    );
    assert_eq!(pool.areas()[0].state, AreaState::Draining { outstanding: 1 });
    assert_eq!(pool.areas()[1].state, AreaState::Active);
    drop(buf);
    assert_eq!(pool.remove_area(first).unwrap().len(), 8192);
    assert_eq!(text(pool.drain_area(first).unwrap_err()), "pool 'live': there is no area 0");
    assert_eq!(text(pool.remove_area(first).unwrap_err()), "pool 'live': there is no area 0");
    assert_eq!(pool.capacity(), 8);
    // Its number is free again.
    assert_eq!(pool.add_area(&heap, 2).unwrap(), first);
    assert_eq!(pool.areas()[0].first_slot, 0);
    assert_eq!(pool.audit().free, 10);
}

#[test]
fn pools_are_listed_while_somebody_holds_a_handle() {
    let heap = Heap::new();
    let build = || Pool::<Cpu>::builder().name("listed").slots(4).stride(128).memory(&heap).build();
    let pool = build().unwrap();
    let listed = || pools().into_iter().filter(|pool| pool.name == "listed").collect::<Vec<_>>();
    let info = listed();
    assert_eq!((info.len(), info[0].access, info[0].stride), (1, "cpu", 128));
    assert_eq!(info[0].audit, pool.audit());
    assert_eq!(info[0].counters, pool.counters());
    let buf = pool.cache().take_one();
    assert_eq!(listed()[0].audit.held, 1);
    let second = build().unwrap();
    assert_eq!(listed().len(), 2);
    drop((second, pool));
    assert!(listed().is_empty(), "a buffer is no handle");
    drop(buf);
}

/// Hands out revocable memory, optionally revoked before anybody could ask to be told.
struct Revocable {
    early: bool,
    revokers: std::cell::RefCell<Vec<Revoker>>,
}

// SAFETY: each test uses it from one thread.
unsafe impl Sync for Revocable {}

impl Revocable {
    fn new(early: bool) -> Self {
        Self { early, revokers: Default::default() }
    }
}

impl Provider for Revocable {
    fn info(&self) -> ProviderInfo {
        Heap::new().info()
    }

    fn alloc(&self, request: &RegionRequest) -> Result<Region, ProviderError> {
        let region = Heap::new().alloc(request)?;
        let revoker = region.revoker();
        assert!(!self.early || revoker.revoke());
        self.revokers.borrow_mut().push(revoker);
        Ok(region)
    }
}

#[test]
fn a_revoked_area_hands_out_nothing_and_takes_everything_back() {
    let memory = Revocable::new(false);
    let pool = Pool::<Cpu>::builder().slots(8).cache_size(4).memory(&memory).build().unwrap();
    let mut cache = pool.cache();
    let mut buf = cache.take_one().unwrap();
    let revoker = memory.revokers.borrow_mut().remove(0);
    assert!(revoker.revoke() && !revoker.revoke(), "once");
    assert!(pool.areas()[0].region.is_revoked());
    assert!(cache.take_one().is_none(), "a slot of a revoked area");
    assert!(buf.frame_mut().append(b"still mapped"));
    cache.give(buf);
    cache.tidy();
    assert_eq!(pool.audit().drained, 8);
    let area = pool.areas()[0].id;
    drop(pool.remove_area(area).unwrap());
    assert!(!revoker.is_live());
    assert!(!revoker.revoke(), "nothing is left to revoke");
    pool.add_area(&Heap::new(), 8).unwrap();
    assert!(cache.take_one().is_some(), "new memory under the old number serves");
}

#[test]
fn memory_revoked_before_the_pool_knew_it_is_not_handed_out() {
    let memory = Revocable::new(true);
    let pool = Pool::<Cpu>::builder().slots(8).memory(&memory).build().unwrap();
    assert!(pool.cache().take_one().is_none());
    assert_eq!(pool.audit().drained, 8);
    let area = pool.areas()[0].id;
    assert!(pool.remove_area(area).is_ok());
}

#[test]
fn a_revocation_outlives_the_pool_harmlessly() {
    let memory = Revocable::new(false);
    let pool = Pool::<Cpu>::builder().slots(2).memory(&memory).build().unwrap();
    let mut buf = pool.cache().take_one().unwrap();
    drop(pool);
    assert!(memory.revokers.borrow()[0].revoke(), "the buffer keeps the memory");
    assert!(buf.frame_mut().append(b"freeing works"));
    drop(buf);
}
