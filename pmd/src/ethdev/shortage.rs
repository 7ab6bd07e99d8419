//! What would help where DPDK's environment refuses: what this process and machine have of hugepages, address
//! space and threads. Reads what the system says; calls nothing of DPDK's.

use std::{fs, path::Path};

use super::eal::{ORDINARY_MEGABYTES, Settings};

/// What DPDK does without hugepages.
const WITHOUT: &str = "eal-no-huge, which serves every driver but those of hardware";

/// Hugepages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pages {
    kibibytes: u64,
    total: u64,
    free: u64,
}

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shortage {
    hugepages: Vec<Pages>,
    /// Bytes that the process may map, if that is limited.
    address_space: Option<u64>,
}

impl Shortage {
    /// As it is here and now.
    pub(super) fn read() -> Self {
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self {
            hugepages: hugepages(Path::new("/sys/kernel/mm/hugepages")),
            address_space: address_space(&limits),
        }
    }

    /// Whether the kernel has hugepages at all.
    pub(super) fn has_hugepages(&self) -> bool {
        !self.hugepages.is_empty()
    }

    /// What to do, with these settings.
    pub(super) fn advice(&self, settings: &Settings) -> String {
        let megabytes = |pages: u64| pages >> 10;
        let sum = |of: fn(&Pages) -> u64| -> u64 {
            self.hugepages.iter().map(|pages| megabytes(pages.kibibytes * of(pages))).sum()
        };
        let (total, free) = (sum(|pages| pages.total), sum(|pages| pages.free));
        if let Some(limit) = self.address_space {
            let limit = limit >> 20;
            let less = if settings.no_huge { "ask for less: eal-mem=64" } else { WITHOUT };
            return format!(
                "this process may map {limit} MB (ulimit -v), and DPDK reserves addresses for all memory that it \
                 could ever use: raise that limit, or {}{less}",
                if settings.no_huge { "" } else { "add " }
            );
        }
        if settings.no_huge {
            let asked = settings.megabytes.unwrap_or(ORDINARY_MEGABYTES);
            return format!("{asked} MB were asked: ask for less with eal-mem=MEGABYTES");
        }
        let asked = settings.megabytes.map_or(0, u64::from);
        if !self.has_hugepages() {
            format!(
                "the kernel has no hugepages (/sys/kernel/mm/hugepages is empty): add {WITHOUT}"
            )
        } else if free == 0 {
            format!(
                "none of {total} MB of hugepages is free: reserve some with `memwire hugepages`, or add {WITHOUT}"
            )
        } else if asked > free {
            format!(
                "{free} MB of hugepages are free, {asked} MB are asked: ask for less with eal-mem=MEGABYTES, \
                 reserve more with `memwire hugepages`, or add {WITHOUT}"
            )
        } else {
            format!(
                "{free} MB of hugepages are free, but this process may not get them: see the limits of its control \
                 group (hugetlb.*.max), or add {WITHOUT}"
            )
        }
    }
}

/// What the kernel has, by its folder for hugepages.
fn hugepages(folder: &Path) -> Vec<Pages> {
    let sizes = fs::read_dir(folder).into_iter().flatten().flatten();
    let pages = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let kibibytes = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count = |file: &str| -> Option<u64> {
            fs::read_to_string(entry.path().join(file)).ok()?.trim().parse().ok()
        };
        Some(Pages { kibibytes, total: count("nr_hugepages")?, free: count("free_hugepages")? })
    };
    sizes.filter_map(pages).collect()
}

/// The limit that `/proc/self/limits` names; none if it is not limited.
fn address_space(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AS_NEEDED: Settings = Settings { no_huge: false, megabytes: None };

    fn with(hugepages: &[(u64, u64, u64)]) -> Shortage {
        let pages = |&(kibibytes, total, free): &(u64, u64, u64)| Pages { kibibytes, total, free };
        Shortage { hugepages: hugepages.iter().map(pages).collect(), address_space: None }
    }

    #[test]
    fn advice_goes_by_what_there_is() {
        let advice = |hugepages: &[_], settings: &Settings| with(hugepages).advice(settings);
        assert!(advice(&[], &AS_NEEDED).starts_with("the kernel has no hugepages"));
        let said = advice(&[(2048, 512, 0), (1 << 20, 0, 0)], &AS_NEEDED);
        assert!(said.starts_with("none of 1024 MB of hugepages is free: reserve some"), "{said}");
        let said = advice(&[(2048, 512, 256), (1 << 20, 1, 1)], &AS_NEEDED);
        assert!(said.starts_with("1536 MB of hugepages are free, but this process"), "{said}");
        let much = Settings { no_huge: false, megabytes: Some(4096) };
        let said = advice(&[(2048, 512, 512)], &much);
        assert!(said.starts_with("1024 MB of hugepages are free, 4096 MB are asked"), "{said}");
        let ordinary = Settings { no_huge: true, megabytes: None };
        assert_eq!(
            advice(&[], &ordinary),
            "256 MB were asked: ask for less with eal-mem=MEGABYTES"
        );
    }

    #[test]
    fn the_systems_own_words_are_understood() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max address space         1000000000           unlimited            bytes     \n";
        assert_eq!(address_space(limits), Some(1_000_000_000));
        assert_eq!(address_space(&limits.replace("1000000000", "unlimited ")), None);
        let limited = Shortage { address_space: address_space(limits), ..with(&[]) };
        let said = limited.advice(&AS_NEEDED);
        assert!(said.starts_with("this process may map 953 MB (ulimit -v)"), "{said}");
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in [("nr_hugepages", "512\n"), ("free_hugepages", "7\n")] {
            let size = folder.path().join("hugepages-2048kB");
            fs::create_dir_all(&size).unwrap();
            fs::write(size.join(file), text).unwrap();
        }
        assert_eq!(hugepages(folder.path()), [Pages { kibibytes: 2048, total: 512, free: 7 }]);
        assert!(
            !Shortage { hugepages: hugepages(Path::new("/nowhere")), ..limited }.has_hugepages()
        );
    }
}
