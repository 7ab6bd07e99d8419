//! The memory an application takes when its user named none: hugepages if there are enough, ordinary
//! pages otherwise, and a line that says so.

use std::fmt;

use mempool::{Provider, ProviderError, format_bytes};

use crate::{Host, Hugepages, PageSize, shortage::Want};

/// A second choice was taken. To be shown once, as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What was taken.
    pub chosen: String,
    /// Why not the first choice.
    pub why: String,
    /// What would make it possible; may be empty.
    pub fix: String,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chosen, why, fix } = self;
        write!(f, "using {chosen}: {why}")?;
        if fix.is_empty() { Ok(()) } else { write!(f, "; for more speed, {fix}") }
    }
}

/// Host memory for pools of `needed` bytes in all: hugepages of 2 MiB if so many can be had, else of
/// 1 GiB, else ordinary pages, with a notice.
///
/// Nothing is taken yet: another process may be faster, and then the pool's error says so. Each pool
/// takes whole pages; round what each needs up to 2 MiB before adding up.
#[must_use]
pub fn default_host(needed: usize) -> (Box<dyn Provider>, Option<Notice>) {
    let mut first_no = None;
    for size in PageSize::ALL {
        match hugepages(size, needed) {
            Ok(provider) => return (Box::new(provider), None),
            Err((why, fix)) => first_no = first_no.or(Some((why, fix))),
        }
    }
    let (why, fix) = first_no.unwrap_or_default();
    let chosen = "ordinary pages (host)".into();
    (Box::new(Host::new()), Some(Notice { chosen, why, fix }))
}

fn hugepages(size: PageSize, needed: usize) -> Result<Hugepages, (String, String)> {
    let provider =
        Hugepages::new(size).map_err(|error: ProviderError| (error.to_string(), String::new()))?;
    enough(&provider.want(), needed)?;
    Ok(provider)
}

/// Whether so much can be had; else why not, and the fix.
fn enough(want: &Want<'_>, needed: usize) -> Result<(), (String, String)> {
    let pages = needed.max(1).div_ceil(want.size.bytes());
    let needed = pages.saturating_mul(want.size.bytes());
    let available = want.available().unwrap_or(0);
    if available >= needed as u64 {
        return Ok(());
    }
    let why = format!(
        "{} has {} of the {} needed",
        want.provider,
        format_bytes(available),
        format_bytes(needed as u64)
    );
    Err((why, want.fix(needed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysfs::fixture::tree;

    #[test]
    fn a_notice_is_one_line_with_choice_reason_and_fix() {
        let (_root, sysfs) = tree(&[
            ("proc/meminfo", "Hugepagesize: 2048 kB\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0\n"),
        ]);
        let size = PageSize::TwoMiB;
        let want = Want { provider: "hugepage:2M", sysfs: &sysfs, size, node: None };
        let (why, fix) = enough(&want, 3 << 20).unwrap_err();
        let notice = Notice { chosen: "ordinary pages (host)".into(), why, fix };
        assert_eq!(
            notice.to_string(),
            "using ordinary pages (host): hugepage:2M has 0 B of the 4 MiB needed; for more speed, \
             run `sysctl -w vm.nr_hugepages=2`"
        );
    }

    #[test]
    fn what_nobody_has_falls_back_to_ordinary_pages_and_says_why() {
        let (memory, notice) = default_host(1 << 46);
        assert_eq!(memory.info().name, "host");
        let notice = notice.unwrap().to_string();
        assert!(notice.contains("64 TiB needed"), "{notice}");
    }
}
