//! The suite itself: a provider that breaks a promise is found out, by the case that names it.
#![expect(clippy::disallowed_types, reason = "a test double's notebook")]

use std::{
    panic,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use mempool::{Provider, ProviderError, ProviderInfo, Region, RegionHandle, RegionRequest};
use providers::{
    Fake, Host, Revocable,
    conformance::{CASES, Subject},
};

/// How a provider may be wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    None,
    IgnoresAlignment,
    HandsOutDirty,
    KeepsRegions,
    TellsNobodyOfRevocation,
    GoesOnAfterRevocation,
    HandsOutTooMuch,
    NamesNoFix,
    ClaimsMore,
    TakesNonsense,
}

struct Liar<P> {
    inner: P,
    lie: Lie,
    kept: Mutex<Vec<RegionHandle>>,
    revoked: AtomicBool,
}

impl<P: Provider> Provider for Liar<P> {
    fn info(&self) -> ProviderInfo {
        let mut info = self.inner.info();
        if self.lie == Lie::ClaimsMore {
            info.available = info.available.map(|_| 1 << 15);
        }
        info
    }

    fn alloc(&self, request: &RegionRequest) -> Result<Region, ProviderError> {
        if self.revoked.load(Ordering::Acquire) {
            return Err(ProviderError::Revoked { provider: self.info().name });
        }
        let mut request = request.clone();
        match self.lie {
            Lie::IgnoresAlignment => request.align = request.align.clamp(1, 64),
            Lie::HandsOutTooMuch => request.len += 4096,
            Lie::TakesNonsense => request.len = request.len.max(1),
            _ => {}
        }
        let mut region = match self.inner.alloc(&request) {
            Err(ProviderError::Exhausted { provider, needed, available, .. })
                if self.lie == Lie::NamesNoFix =>
            {
                return Err(ProviderError::Exhausted {
                    provider,
                    needed,
                    available,
                    fix: String::new(),
                });
            }
            other => other?,
        };
        match self.lie {
            Lie::HandsOutDirty => region.write(9, &[1]).unwrap(),
            Lie::KeepsRegions => self.kept.lock().unwrap().push(region.handle()),
            _ => {}
        }
        Ok(region)
    }
}

impl<P: Revocable> Revocable for Liar<P> {
    fn revoke(&self) -> usize {
        match self.lie {
            // Refuses from now on, but leaves the regions to their pools.
            Lie::TellsNobodyOfRevocation => {
                if self.revoked.swap(true, Ordering::AcqRel) {
                    0
                } else {
                    2
                }
            }
            Lie::GoesOnAfterRevocation => 2,
            _ => self.inner.revoke(),
        }
    }
}

/// Of the cases with `promise` in their name, those that a subject breaks.
fn broken(promise: &str, make: &dyn Fn() -> Subject) -> Vec<&'static str> {
    let is_broken = |case: fn(providers::conformance::Make<'_>)| {
        panic::catch_unwind(panic::AssertUnwindSafe(|| case(make))).is_err()
    };
    // Quietly: these panics are expected. The hook is the process's, so this binary has one test.
    let loud = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let cases = CASES.iter().filter(|(name, _)| name.contains(promise));
    let names = cases.filter(|(_, case)| is_broken(*case));
    let found = names.map(|(promise, _)| *promise).collect();
    panic::set_hook(loud);
    found
}

fn liar<P: Provider>(inner: P, lie: Lie) -> Liar<P> {
    Liar { inner, lie, kept: Mutex::default(), revoked: AtomicBool::new(false) }
}

fn finds(lie: Lie, promise: &str) {
    let host = broken(promise, &|| Subject::of_shared_source(liar(Host::new(), lie)));
    let fake = broken(promise, &|| Subject::new(liar(Fake::with_capacity(1 << 17), lie)));
    for (who, found) in [("host", host), ("fake", fake)] {
        // What only concerns memory the CPU may touch cannot show in a fake.
        if who == "fake" && lie == Lie::HandsOutDirty || who == "host" && lie == Lie::ClaimsMore {
            continue;
        }
        let is_found = found.iter().any(|name| name.contains(promise));
        assert!(is_found, "{lie:?} of {who} went unnoticed; broken: {found:?}");
    }
}

#[test]
fn each_lie_is_found_by_the_case_that_names_it_and_honesty_passes() {
    let honest = broken("", &|| Subject::of_shared_source(liar(Host::new(), Lie::None)));
    assert!(honest.is_empty(), "{honest:?}");
    finds(Lie::IgnoresAlignment, "one aligned span");
    finds(Lie::HandsOutDirty, "arrives zeroed");
    finds(Lie::KeepsRegions, "goes with its last user");
    finds(Lie::KeepsRegions, "can be had again");
    finds(Lie::GoesOnAfterRevocation, "a revoked provider hands out nothing");
    finds(Lie::TellsNobodyOfRevocation, "a revoked provider hands out nothing");
    finds(Lie::HandsOutTooMuch, "one aligned span");
    finds(Lie::NamesNoFix, "exhaustion names");
    finds(Lie::ClaimsMore, "can be had again");
    finds(Lie::TakesNonsense, "makes no sense");
}
