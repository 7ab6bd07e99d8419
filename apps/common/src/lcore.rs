//! Which cores workers run on: lists as DPDK users write them, checked against the cores this
//! process may use before anything is pinned.

use std::{fmt, str::FromStr};

use rustix::thread::{CpuSet, sched_getaffinity};

use crate::{AppError, units::UnitError};

/// Cores in the order of the workers, e.g. `2-5,8`. No core twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreList(pub Vec<usize>);

impl FromStr for CoreList {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError {
            text: text.chars().take(80).collect(),
            what: "a list of cores such as 2-5,8, each named once",
        };
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<usize>().ok();
            let (Some(first), Some(last)) = (number(first), number(last)) else {
                return Err(error());
            };
            if last < first || last >= CpuSet::MAX_CPU {
                return Err(error());
            }
            cores.extend(first..=last);
        }
        let distinct: std::collections::BTreeSet<_> = cores.iter().collect();
        if distinct.len() == cores.len() { Ok(Self(cores)) } else { Err(error()) }
    }
}

impl fmt::Display for CoreList {
    /// Runs as ranges: `0-1,4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| a + 1 == *b);
        for (at, run) in runs.enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match run {
                [only] => write!(f, "{comma}{only}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

/// The cores that the calling thread may run on. Ask before pinning: afterwards it is one.
///
/// # Errors
/// The system does not say.
pub fn allowed() -> Result<CoreList, AppError> {
    let set = sched_getaffinity(None)
        .map_err(|error| AppError::failed(format!("cannot read the allowed cores: {error}")))?;
    Ok(CoreList((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()))
}

/// A core for each of `workers` workers: those that `asked` names, or the allowed ones in order,
/// from the first again where there are more workers than cores.
///
/// # Errors
/// A core that was asked for is not allowed, or fewer were named than there are workers.
pub fn assign(asked: Option<&CoreList>, workers: usize) -> Result<Vec<usize>, AppError> {
    assign_from(asked, workers, &allowed()?)
}

fn assign_from(
    asked: Option<&CoreList>,
    workers: usize,
    allowed: &CoreList,
) -> Result<Vec<usize>, AppError> {
    let Some(asked) = asked else {
        return Ok(allowed.0.iter().copied().cycle().take(workers).collect());
    };
    if let Some(core) = asked.0.iter().find(|core| !allowed.0.contains(core)) {
        return Err(not_allowed(*core, allowed));
    }
    if asked.0.len() < workers {
        let message = format!("-l {asked} names {} cores for {workers} workers", asked.0.len());
        return Err(AppError::usage(message).hint("name one core per worker, or use fewer queues"));
    }
    Ok(asked.0[..workers].to_vec())
}

fn not_allowed(core: usize, allowed: &CoreList) -> AppError {
    AppError::usage(format!("core {core}: not in allowed set {allowed}"))
}

/// Pins the calling thread to one core and makes sure that it is there.
///
/// # Errors
/// The core is not allowed, or the system did not do it.
pub fn pin(core: usize) -> Result<(), AppError> {
    let allowed = allowed()?;
    // Checked first: `core_affinity` aborts the process on numbers outside the kernel's set.
    if !allowed.0.contains(&core) {
        return Err(not_allowed(core, &allowed));
    }
    let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: core });
    // It answers a mere bool; what the kernel says counts.
    if pinned && self::allowed()?.0 == [core] {
        return Ok(());
    }
    Err(AppError::failed(format!("core {core}: the system did not pin the thread to it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> CoreList {
        text.parse().unwrap()
    }

    #[test]
    fn lists_are_ranges_and_single_cores_in_the_order_given() {
        assert_eq!(list("2-5,8").0, [2, 3, 4, 5, 8]);
        assert_eq!(list("3,1").0, [3, 1]);
        assert_eq!(list("0-1,4").to_string(), "0-1,4");
    }

    #[test]
    fn a_bad_list_is_refused_by_example() {
        for text in ["", "a", "1-", "-1", "5-2", "1,,2", "1,1", "1-3,2", "0-99999999", "1024"] {
            let error = text.parse::<CoreList>().unwrap_err().to_string();
            assert!(error.contains("a list of cores such as 2-5,8"), "{text}: {error}");
        }
    }

    #[test]
    fn a_core_outside_the_allowed_set_is_named_with_the_set() {
        let error = assign_from(Some(&list("0,7")), 1, &list("0-1")).unwrap_err();
        assert_eq!(error.to_string(), "core 7: not in allowed set 0-1");
        assert_eq!(error.code(), crate::Exit::Usage);
    }

    #[test]
    fn workers_take_cores_in_order_and_share_them_only_if_none_were_asked_for() {
        assert_eq!(assign_from(Some(&list("1,0")), 1, &list("0-1")).unwrap(), [1]);
        assert_eq!(assign_from(None, 3, &list("0-1")).unwrap(), [0, 1, 0]);
        let error = assign_from(Some(&list("1")), 2, &list("0-1")).unwrap_err();
        assert!(error.to_string().starts_with("-l 1 names 1 cores for 2 workers"), "{error}");
    }

    #[test]
    fn a_pinned_thread_runs_on_that_core_alone() {
        let core = *allowed().unwrap().0.last().unwrap();
        std::thread::spawn(move || {
            pin(core).unwrap();
            assert_eq!(allowed().unwrap().0, [core]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_core_that_cannot_be_is_an_error_and_not_an_abort() {
        assert_eq!(pin(1_000_000).unwrap_err().code(), crate::Exit::Usage);
    }
}
