//! The pools there are, for introspection, and those that outlived their handles.
#![allow(unsafe_code, reason = "frees orphaned cores")]
#![expect(clippy::disallowed_types, reason = "control plane: pools come and go rarely")]

use std::{
    ptr::NonNull,
    sync::{Mutex, PoisonError, Weak},
};

use crate::{Access, Audit, Counters, Pool, core::Core, pool::Shell};

struct Entry {
    shell: Weak<Shell>,
    access: &'static str,
}

/// A core whose handles are gone while buffers are out. It stays until they are home.
struct Orphan(NonNull<Core>);

// SAFETY: a `Core` is `Send + Sync`; the list is behind a lock.
unsafe impl Send for Orphan {}

static POOLS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());
static ORPHANS: Mutex<Vec<Orphan>> = Mutex::new(Vec::new());

/// What is known of a pool from outside.
#[derive(Clone, Debug)]
pub struct PoolInfo {
    /// Its name.
    pub name: String,
    /// Its access type.
    pub access: &'static str,
    /// Bytes of a slot.
    pub stride: usize,
    /// Where its slots are.
    pub audit: Audit,
    /// Its slow paths.
    pub counters: Counters,
}

/// Every pool of this process that somebody holds a handle of.
#[must_use]
pub fn pools() -> Vec<PoolInfo> {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    pools.retain(|entry| entry.shell.strong_count() > 0);
    let live: Vec<_> = pools.iter().filter_map(|e| Some((e.shell.upgrade()?, e.access))).collect();
    drop(pools);
    live.iter()
        .map(|(shell, access)| {
            let core = shell.core();
            PoolInfo {
                name: core.name.clone(),
                access,
                stride: core.table.stride(),
                audit: Audit::of(core),
                counters: Counters::of(core),
            }
        })
        .collect()
}

pub(crate) fn enrol<A: Access>(pool: &Pool<A>) {
    reap_orphans();
    let entry = Entry { shell: std::sync::Arc::downgrade(pool.shell()), access: A::NAME };
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    pools.retain(|entry| entry.shell.strong_count() > 0);
    pools.push(entry);
}

pub(crate) fn adopt_orphan(core: NonNull<Core>) {
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner).push(Orphan(core));
}

/// Frees pools whose handles went before their last buffer, once that buffer is home; returns how
/// many still wait. Runs by itself whenever a pool is built.
pub fn reap_orphans() -> usize {
    let mut orphans = ORPHANS.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: an orphan is freed only by whoever takes it off this list, under the lock.
    let is_home = |orphan: &mut Orphan| unsafe { orphan.0.as_ref() }.is_all_home();
    let home: Vec<_> = orphans.extract_if(.., is_home).collect();
    let waiting = orphans.len();
    // Their memory may hold handles of other pools, whose end wants the lock.
    drop(orphans);
    for orphan in home {
        // SAFETY: no handle (that made it an orphan) and no buffer is left, as in `Shell::drop`.
        drop(unsafe { Box::from_raw(orphan.0.as_ptr()) });
    }
    waiting
}
