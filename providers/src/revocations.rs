//! Taking memory back: what a provider handed out, and that it hands out no more.
#![expect(clippy::disallowed_types, reason = "control plane: touched when a pool is built")]

use std::sync::{Mutex, MutexGuard, PoisonError};

use mempool::{Provider, ProviderError, Region, Revoker};

/// A provider that can take back what it handed out: the device went away, its owner wants the
/// memory. Pools stop handing out its slots, freeing still works, and the memory goes with the last
/// one who uses it.
pub trait Revocable: Provider {
    /// Takes every live region back and refuses all further requests; returns how many regions that
    /// were. A second call finds none.
    fn revoke(&self) -> usize;
}

/// The bookkeeping of a [`Revocable`] provider.
#[derive(Debug, Default)]
pub struct Revocations {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    revoked: bool,
    regions: Vec<Revoker>,
}

impl Revocations {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses early, before memory is sought.
    ///
    /// # Errors
    /// The provider was revoked.
    pub fn check(&self, provider: &str) -> Result<(), ProviderError> {
        if self.state().revoked {
            return Err(ProviderError::Revoked { provider: provider.into() });
        }
        Ok(())
    }

    /// Notes a region on its way out, so that it can be taken back.
    ///
    /// # Errors
    /// The provider was revoked while the region was made; the region is gone again.
    pub fn track(&self, provider: &str, region: Region) -> Result<Region, ProviderError> {
        let mut state = self.state();
        if state.revoked {
            drop(state);
            drop(region);
            return Err(ProviderError::Revoked { provider: provider.into() });
        }
        state.regions.retain(Revoker::is_live);
        state.regions.push(region.revoker());
        Ok(region)
    }

    /// Revokes every live region and everything to come; returns how many regions that were.
    pub fn revoke(&self) -> usize {
        let mut state = self.state();
        state.revoked = true;
        let regions = state.regions.clone();
        // Pools are told without the lock: what they do then is none of our business.
        drop(state);
        regions.iter().filter(|region| region.revoke()).count()
    }

    /// Regions handed out whose memory still exists.
    #[must_use]
    pub fn live(&self) -> usize {
        self.state().regions.iter().filter(|region| region.is_live()).count()
    }
}

#[cfg(test)]
mod tests {
    use mempool::{RegionRequest, heap::Heap};

    use super::*;

    fn region() -> Region {
        Heap::new().alloc(&RegionRequest { name: "r".into(), len: 64, align: 64 }).unwrap()
    }

    #[test]
    fn a_region_made_while_the_provider_was_revoked_never_leaves() {
        let revocations = Revocations::default();
        let late = region();
        assert_eq!(revocations.revoke(), 0);
        let error = revocations.track("x", late).unwrap_err();
        assert_eq!(error.to_string(), "x: revoked; it hands out no more memory");
        assert!(revocations.check("x").is_err());
    }

    #[test]
    fn only_living_regions_are_counted_and_each_is_revoked_once() {
        let revocations = Revocations::default();
        let kept = revocations.track("x", region()).unwrap();
        drop(revocations.track("x", region()).unwrap());
        assert_eq!(revocations.live(), 1);
        assert_eq!(revocations.revoke(), 1);
        assert!(kept.handle().is_revoked());
        assert_eq!(revocations.revoke(), 0);
        assert_eq!(revocations.live(), 1, "revoked, but not gone");
    }
}
