//! Promises that show in the pools made of a provider's memory.

use mempool::{
    Access, Buf, Burst, Cpu, CpuAccess, Device, Error, Peer, Provider, ProviderError, Region,
};

use super::{Make, SLOTS, Watched, access, must_pool, pool};

pub(super) fn takes_what_it_may_touch(make: Make<'_>) {
    let memory = Watched::new(make);
    drop(must_pool::<Device>(&memory));
    let (cpu, peer) = (pool::<Cpu>(&memory).map(drop), pool::<Peer>(&memory).map(drop));
    let refused = |result| matches!(result, Err(Error::WrongAccess { .. }));
    match access(&memory) {
        CpuAccess::ReadWrite => assert!(cpu.is_ok() && peer.is_ok(), "{cpu:?}, {peer:?}"),
        CpuAccess::Volatile => assert!(refused(cpu) && peer.is_ok(), "{peer:?}"),
        CpuAccess::None => assert!(refused(cpu) && refused(peer)),
    }
    assert_eq!(memory.witness.live(), 0, "the memory went with its pools");
}

pub(super) fn carries_bytes(make: Make<'_>) {
    let memory = Watched::new(make);
    if access(&memory) == CpuAccess::ReadWrite {
        let pool = must_pool::<Cpu>(&memory);
        let mut cache = pool.cache();
        let mut bufs: Vec<Buf<Cpu>> = std::iter::from_fn(|| cache.take_one()).collect();
        assert_eq!(bufs.len(), SLOTS);
        for (number, buf) in (0u32..).zip(&mut bufs) {
            assert!(buf.frame_mut().append(&number.to_le_bytes()));
        }
        for (number, buf) in (0u32..).zip(&bufs) {
            assert_eq!(buf.bytes(), number.to_le_bytes());
        }
    }
    // For a device: every slot has an address of its own inside the region.
    let pool = must_pool::<Device>(&memory);
    let mut cache = pool.cache();
    let bufs: Vec<Buf<Device>> = std::iter::from_fn(|| cache.take_one()).collect();
    let mut addresses: Vec<usize> = bufs.iter().map(|buf| buf.frame().address()).collect();
    addresses.sort_unstable();
    let region = &pool.areas()[0].region;
    let base = region.base().addr().get();
    assert_eq!(addresses.len(), SLOTS);
    assert_eq!(addresses[0], base);
    assert!(addresses.windows(2).all(|pair| pair[1] - pair[0] == pool.stride()));
    assert!(addresses[SLOTS - 1] + pool.stride() <= base + region.len());
}

pub(super) fn grows_and_shrinks(make: Make<'_>) {
    let memory = Watched::new(make);
    let pool = must_pool::<Device>(&memory);
    let mut cache = pool.cache();
    let mut first: Vec<_> = (0..SLOTS).filter_map(|_| cache.take_one()).collect();
    assert!(cache.take_one().is_none(), "the first area is all out");
    let area = pool.add_area(&memory, SLOTS).unwrap();
    assert_eq!((pool.capacity(), memory.witness.live()), (2 * SLOTS, 2));
    assert!(matches!(pool.add_area(&memory, SLOTS), Err(Error::NoAreaLeft { .. })));
    assert_eq!(memory.witness.live(), 2, "a refused area holds nothing");
    let mut second: Vec<_> = (0..SLOTS).filter_map(|_| cache.take_one()).collect();
    assert_eq!(second.len(), SLOTS);
    pool.drain_area(area).unwrap();
    second.pop();
    match pool.remove_area(area) {
        Err(Error::Draining { outstanding, .. }) => assert_eq!(outstanding, SLOTS - 1),
        other => panic!("taken away under its users: {other:?}"),
    }
    // The last one home may be any; the first area goes on meanwhile.
    first.pop();
    assert!(cache.take_one().is_some_and(|buf| buf.frame().place().0.index() == 0));
    drop(second);
    let region: Region = pool.remove_area(area).unwrap();
    assert_eq!(memory.witness.live(), 2);
    drop(region);
    assert_eq!((pool.capacity(), memory.witness.live()), (SLOTS, 1));
    let area = pool.add_area(&memory, SLOTS).unwrap();
    drop((first, cache));
    drop(pool.remove_area(area).unwrap());
    assert!(pool.audit().is_home(), "{}", pool.audit());
    drop(pool);
    assert_eq!(memory.witness.live(), 0);
}

pub(super) fn survives_revocation(make: Make<'_>) {
    match access(&Watched::new(make)) {
        CpuAccess::ReadWrite => {
            revoked::<Cpu>(make, |buf| assert!(buf.frame_mut().append(b"kept")));
        }
        CpuAccess::Volatile => revoked::<Peer>(make, |_| {}),
        CpuAccess::None => {}
    }
    revoked::<Device>(make, |_| {});
}

fn revoked<A: Access>(make: Make<'_>, touch: impl Fn(&mut Buf<A>)) {
    let memory = Watched::new(make);
    let (idle, pool) = (memory.page(), must_pool::<A>(&memory));
    let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
    let mut buf = cache.take_one().unwrap();
    assert_eq!(cache.take(&mut burst, 3), 3);
    assert_eq!(memory.revoke(), 2, "the pool's region and the idle one");
    assert_eq!(memory.revoke(), 0, "once is enough");
    let one_more = memory.request(1, 1);
    assert!(matches!(one_more, Err(ProviderError::Revoked { .. })), "{one_more:?}");
    assert!(pool.add_area(&memory, 1).is_err());
    assert!(idle.handle().is_revoked() && pool.areas()[0].region.is_revoked());
    assert!(cache.take_one().is_none(), "a slot of revoked memory was handed out");
    assert_eq!(cache.take(&mut burst, 8), 0);
    assert!(pool.cache().take_one().is_none());
    // Whoever holds a buffer still holds its bytes, and can give it back.
    touch(&mut buf);
    cache.give(buf);
    burst.recycle(&mut cache);
    drop((burst, cache));
    let audit = pool.audit();
    assert!(audit.is_home(), "{audit}");
    assert_eq!((audit.free, audit.drained), (0, SLOTS), "{audit}");
    drop((idle, pool));
    assert_eq!(memory.witness.live(), 0, "freeing still works");
}

pub(super) fn revokes_what_is_on_its_way(make: Make<'_>) {
    const REQUESTS: usize = 200;
    const REVOKED_AT: usize = 20;
    let memory = Watched::new(make);
    let page = memory.info().page_size;
    let worker = || {
        let mut held = None;
        for round in 0..REQUESTS {
            match memory.request(page, 64) {
                // One is kept, the others come and go.
                Ok(region) => drop(held.replace(region)),
                Err(ProviderError::Revoked { .. }) => return held,
                Err(error) => panic!("{error}"),
            }
            if round == REVOKED_AT {
                memory.revoke();
            }
        }
        panic!("still handing out long after it was revoked");
    };
    std::thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        let held = workers.into_iter().filter_map(|worker| worker.join().unwrap());
        for region in held {
            assert!(region.handle().is_revoked(), "missed: {region:?}");
        }
    });
    assert_eq!(memory.witness.live(), 0);
}
