//! The sizes of hugepages, and what the kernel calls them.

use std::{fmt, str::FromStr};

use rustix::fs::MemfdFlags;

/// Size of a hugepage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageSize {
    /// 2 MiB.
    TwoMiB,
    /// 1 GiB.
    OneGiB,
}

impl PageSize {
    /// Both, smallest first.
    pub const ALL: [Self; 2] = [Self::TwoMiB, Self::OneGiB];

    /// Bytes of a page.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::TwoMiB => 2 << 20,
            Self::OneGiB => 1 << 30,
        }
    }

    /// The size with so many bytes.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.bytes() as u64 == bytes)
    }

    /// Name of the size's folder below `/sys/kernel/mm/hugepages` and each node's `hugepages`.
    #[must_use]
    pub fn sysfs_name(self) -> String {
        format!("hugepages-{}kB", self.bytes() >> 10)
    }

    /// The size in names of control group files: `hugetlb.2MB.max`.
    pub(crate) const fn cgroup_name(self) -> &'static str {
        match self {
            Self::TwoMiB => "2MB",
            Self::OneGiB => "1GB",
        }
    }

    pub(crate) const fn memfd_flag(self) -> MemfdFlags {
        match self {
            Self::TwoMiB => MemfdFlags::HUGE_2MB,
            Self::OneGiB => MemfdFlags::HUGE_1GB,
        }
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::TwoMiB => "2M",
            Self::OneGiB => "1G",
        })
    }
}

/// The text names no hugepage size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no hugepage size; write 2M or 1G")]
pub struct ParsePageSizeError(String);

impl FromStr for PageSize {
    type Err = ParsePageSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unit = text.trim().to_ascii_uppercase();
        match unit.trim_end_matches("IB").trim_end_matches('B') {
            "2M" => Ok(Self::TwoMiB),
            "1G" => Ok(Self::OneGiB),
            _ => Err(ParsePageSizeError(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_reads_what_it_writes() {
        for size in PageSize::ALL {
            assert_eq!(size.to_string().parse(), Ok(size));
            assert_eq!(PageSize::from_bytes(size.bytes() as u64), Some(size));
        }
        assert_eq!("2mb".parse(), Ok(PageSize::TwoMiB));
        assert_eq!("1GiB".parse(), Ok(PageSize::OneGiB));
    }

    #[test]
    fn a_size_there_is_not_is_refused_with_those_there_are() {
        let error = "4K".parse::<PageSize>().unwrap_err();
        assert_eq!(error.to_string(), "'4K' is no hugepage size; write 2M or 1G");
        assert!("".parse::<PageSize>().is_err());
    }

    #[test]
    fn the_kernels_names_are_used() {
        assert_eq!(PageSize::TwoMiB.sysfs_name(), "hugepages-2048kB");
        assert_eq!(PageSize::OneGiB.sysfs_name(), "hugepages-1048576kB");
    }
}
