//! Memory by name, and whether it is to be had here: a page of each is asked for and given back.

use mempool::{CpuAccess, RegionRequest};
use memwire_apps::{AppError, memory::MemorySpec};
use serde::Serialize;

/// One kind of memory.
#[derive(Serialize)]
pub(crate) struct MemoryRow {
    /// What `-m` calls it.
    pub(crate) name: String,
    /// Whether a page of it could be had just now.
    pub(crate) works: bool,
    /// Why not, and what helps.
    pub(crate) trouble: Option<String>,
    pub(crate) page_bytes: Option<usize>,
    /// Bytes that are left, where that can be known.
    pub(crate) available: Option<u64>,
    /// Whether the CPU may touch it.
    pub(crate) is_cpu_readable: Option<bool>,
}

pub(super) fn rows() -> Vec<MemoryRow> {
    MemorySpec::NAMED.into_iter().map(row).collect()
}

fn row(memory: MemorySpec) -> MemoryRow {
    let mut row = MemoryRow {
        name: memory.to_string(),
        works: false,
        trouble: None,
        page_bytes: None,
        available: None,
        is_cpu_readable: None,
    };
    let outcome = memory.open(0).and_then(|provider| {
        let info = provider.info();
        row.page_bytes = Some(info.page_size);
        row.available = info.available;
        row.is_cpu_readable = Some(info.cpu_access != CpuAccess::None);
        let request = RegionRequest { name: "memwire info".into(), len: 1, align: 64 };
        provider.alloc(&request).map(drop).map_err(|error| AppError::missing(error.to_string()))
    });
    row.works = outcome.is_ok();
    row.trouble = outcome.err().map(|error| error.to_string());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_and_fake_memory_work_everywhere_and_hugepages_say_why_not() {
        for row in rows() {
            match row.name.as_str() {
                "host" => assert_eq!((row.works, row.is_cpu_readable), (true, Some(true))),
                "fake" => assert_eq!((row.works, row.is_cpu_readable), (true, Some(false))),
                _ => {
                    assert_eq!(row.works, row.trouble.is_none(), "{}: {:?}", row.name, row.trouble)
                }
            }
        }
    }
}
