//! Memory goes with its last user, whoever that is.

use std::time::{Duration, Instant};

use mempool::{Access, Buf, Burst, Cache, Cpu, CpuAccess, Device, Peer, Pool};

use super::{Make, Watched, access, must_pool};

/// Who uses the memory, each once.
struct Users<A: Access> {
    provider: Option<Watched>,
    pool: Option<Pool<A>>,
    cache: Option<Cache<A>>,
    burst: Option<Burst<A>>,
    buf: Option<Buf<A>>,
}

const USERS: usize = 5;

impl<A: Access> Users<A> {
    fn new(make: Make<'_>) -> Self {
        let provider = Watched::new(make);
        let pool = must_pool::<A>(&provider);
        let (mut cache, mut burst) = (pool.cache(), Burst::new(&pool));
        let buf = cache.take_one();
        assert_eq!(cache.take(&mut burst, 3), 3);
        let (provider, pool) = (Some(provider), Some(pool));
        Self { provider, pool, cache: Some(cache), burst: Some(burst), buf }
    }

    fn let_go(&mut self, user: usize) {
        match user {
            0 => self.provider = None,
            1 => self.pool = None,
            2 => self.cache = None,
            3 => self.burst = None,
            _ => self.buf = None,
        }
    }

    /// Whether any of them is left that the memory must wait for: all but the provider.
    fn is_in_use(&self) -> bool {
        let Self { provider: _, pool, cache, burst, buf } = self;
        pool.is_some() || cache.is_some() || burst.is_some() || buf.is_some()
    }
}

pub(super) fn goes_with_its_last_user(make: Make<'_>) {
    match access(&Watched::new(make)) {
        CpuAccess::ReadWrite => {
            every_order::<Cpu>(make, |buf| {
                buf.frame_mut().set_len(0);
                assert!(buf.frame_mut().append(b"alive"));
                assert_eq!(buf.bytes(), b"alive");
            });
        }
        CpuAccess::Volatile => every_order::<Peer>(make, |_| {}),
        CpuAccess::None => {}
    }
    every_order::<Device>(make, |buf| assert_ne!(buf.frame().address(), 0));
}

fn every_order<A: Access>(make: Make<'_>, touch: impl Fn(&mut Buf<A>)) {
    for order in permutations() {
        let mut users = Users::<A>::new(make);
        let witness = users.provider.as_ref().map(|provider| provider.witness.clone());
        let witness = witness.unwrap_or_default();
        for user in order {
            users.let_go(user);
            // The provider is no user: it may stay, and the memory goes all the same.
            mempool::reap_orphans();
            let expected = usize::from(users.is_in_use());
            // Another thread that builds a pool may be the one that frees ours, a moment from now.
            let patience = Instant::now() + Duration::from_secs(5);
            while witness.live() > expected && Instant::now() < patience {
                std::thread::yield_now();
            }
            assert_eq!(witness.live(), expected, "after user {user} of order {order:?}");
            if let Some(buf) = &mut users.buf {
                touch(buf);
            }
        }
    }
}

/// All orders of [`USERS`] users (Heap's algorithm).
fn permutations() -> Vec<[usize; USERS]> {
    let (mut order, mut count) = ([0, 1, 2, 3, 4], [0; USERS]);
    let mut all = vec![order];
    let mut at = 1;
    while at < USERS {
        if count[at] < at {
            order.swap(if at % 2 == 0 { 0 } else { count[at] }, at);
            all.push(order);
            count[at] += 1;
            at = 1;
        } else {
            count[at] = 0;
            at += 1;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_comes_once() {
        let mut all = permutations();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 120);
    }
}
