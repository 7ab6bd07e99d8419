//! What this process may pin, read before it tries: the kernel's own answer is `ENOMEM` and no more.

use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::{Error, Result};

/// `CAP_IPC_LOCK` of `<linux/capability.h>`: who has it may pin what there is.
const IPC_LOCK: u32 = 14;

/// What may be pinned, and what is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes; none if there is no limit for this process.
    pub(crate) memlock: Option<u64>,
    /// Bytes that count already.
    pub(crate) locked: u64,
}

impl Limits {
    /// Those of this process, now.
    pub(crate) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self::read(&status, getrlimit(Resource::Memlock).current)
    }

    /// From the text of `/proc/self/status`, and `RLIMIT_MEMLOCK`.
    fn read(status: &str, memlock: Option<u64>) -> Self {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let effective = field("CapEff:").and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        let is_free = effective.is_some_and(|set| set >> IPC_LOCK & 1 == 1);
        // What type1 pins is counted there as well.
        let kib = field("VmLck:").and_then(|kib| kib.trim().strip_suffix(" kB")?.parse().ok());
        Self {
            memlock: if is_free { None } else { memlock },
            locked: kib.unwrap_or(0u64).saturating_mul(1024),
        }
    }

    /// Whether `len` more bytes may be pinned, where `ours` are by this address space.
    ///
    /// # Errors
    /// They may not; with what is needed in all.
    pub(crate) fn check(self, ours: u64, len: u64) -> Result<()> {
        // iommufd counts by user, where this process cannot look: then ours is all that is known.
        let used = self.locked.max(ours);
        match self.memlock {
            Some(limit) if used.saturating_add(len) > limit => {
                Err(Error::Memlock { need: len, used, limit })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "Name:\tx\nVmLck:\t    2048 kB\nCapInh:\t0000000000000000\n\
                        CapEff:\t0000000000000000\n";

    #[test]
    fn a_user_may_pin_what_the_limit_leaves() {
        let limits = Limits::read(USER, Some(8 << 20));
        assert_eq!(limits, Limits { memlock: Some(8 << 20), locked: 2 << 20 });
        assert!(limits.check(0, 6 << 20).is_ok());
        let error = limits.check(0, 1 << 30).expect_err("too much").to_string();
        assert_eq!(
            error,
            "pin 1024 MiB but RLIMIT_MEMLOCK 8 MiB, 2 MiB of it in use; raise it: ulimit -l, or \
             LimitMEMLOCK= in the service"
        );
        assert!(limits.check(4 << 20, 5 << 20).is_err(), "ours count if they are more");
    }

    #[test]
    fn root_and_the_unlimited_may_pin_all() {
        let root = USER.replace("CapEff:\t0000000000000000", "CapEff:\t000001ffffffffff");
        assert!(Limits::read(&root, Some(8 << 20)).check(0, 1 << 40).is_ok());
        assert!(Limits::read(USER, None).check(0, 1 << 40).is_ok());
    }

    #[test]
    fn a_status_that_says_nothing_leaves_the_limit_in_force() {
        assert!(Limits::read("", Some(1)).check(0, 2).is_err());
        let odd = "VmLck: x kB\nCapEff: zz\n";
        assert_eq!(Limits::read(odd, Some(1)), Limits { memlock: Some(1), locked: 0 });
    }
}
