//! Hugepages as they are: per node and size.

use std::{io::Write, path::Path};

use mempool::format_bytes;
use memwire_apps::table::Table;
use providers::{PageSize, Sysfs};
use serde::Serialize;

use crate::{Failure, write_json};

/// Hugepages of one size on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub(crate) node: u32,
    pub(crate) page_bytes: u64,
    pub(crate) total: u64,
    pub(crate) free: u64,
    /// Made on demand, beyond those that were set.
    pub(crate) surplus: u64,
}

/// All pages of one size: what the kernel counts for the whole machine only.
#[derive(Clone, Debug, Serialize)]
struct Whole {
    page_bytes: u64,
    /// Free, but promised to a mapping.
    promised: u64,
    /// May be made on demand.
    overcommit: u64,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    pages: Vec<Row>,
    machine: Vec<Whole>,
}

/// What each node has, sizes that the kernel does not know left out.
pub(crate) fn rows(sysfs: &Sysfs) -> Vec<Row> {
    let nodes = sysfs.nodes();
    let each = nodes.iter().flat_map(|node| PageSize::ALL.map(|size| (*node, size)));
    each.filter_map(|(node, size)| row(sysfs, node, size)).collect()
}

pub(super) fn row(sysfs: &Sysfs, node: u32, size: PageSize) -> Option<Row> {
    // A kernel without NUMA has the machine's files only.
    let counts = sysfs.hugepages(size, Some(node)).or_else(|| match sysfs.nodes()[..] {
        [only] if only == node => sysfs.hugepages(size, None),
        _ => None,
    })?;
    Some(Row {
        node,
        page_bytes: size.bytes() as u64,
        total: counts.total,
        free: counts.free,
        surplus: counts.surplus,
    })
}

pub(super) fn run(sysfs: &Sysfs, json: Option<&Path>, out: &mut dyn Write) -> Result<(), Failure> {
    let pages = rows(sysfs);
    let machine: Vec<_> = PageSize::ALL.into_iter().filter_map(|size| whole(sysfs, size)).collect();
    if let Some(path) = json {
        return write_json(&Report { schema: "memwire/hugepages/1", pages, machine }, path, out);
    }
    if pages.is_empty() {
        writeln!(out, "this kernel has no hugepages of 2M or 1G")?;
        return Ok(());
    }
    write!(out, "{}", table(&pages))?;
    for Whole { page_bytes, promised, overcommit } in machine {
        let size = size_name(page_bytes);
        if promised > 0 {
            writeln!(out, "{promised} of the free {size} pages are promised to mappings")?;
        }
        if overcommit > 0 {
            writeln!(out, "{overcommit} more {size} pages may be made on demand")?;
        }
    }
    Ok(())
}

fn whole(sysfs: &Sysfs, size: PageSize) -> Option<Whole> {
    let counts = sysfs.hugepages(size, None)?;
    let (promised, overcommit) = (counts.reserved, counts.overcommit);
    Some(Whole { page_bytes: size.bytes() as u64, promised, overcommit })
}

/// The table, as `dpdk-hugepages --show` has it, and what is free of it.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["Node", "Pages", "Size", "Total", "Free", "In use", "Surplus"]);
    for row in rows {
        let in_use = row.total.saturating_sub(row.free);
        table.row([
            row.node.to_string(),
            row.total.to_string(),
            size_name(row.page_bytes),
            format_bytes(row.total * row.page_bytes),
            row.free.to_string(),
            in_use.to_string(),
            row.surplus.to_string(),
        ]);
    }
    table
}

fn size_name(bytes: u64) -> String {
    PageSize::from_bytes(bytes).map_or_else(|| format_bytes(bytes), |size| size.to_string())
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::machine, *};

    #[test]
    fn each_node_and_size_has_a_row() {
        let machine = machine([(512, 100), (8, 8)], 3, 1 << 20);
        let mut out = Vec::new();
        run(&machine.sysfs, None, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Node  Pages  Size   Total  Free  In use  Surplus\n\
             0       512    2M   1 GiB   100     412        0\n\
             1         8    2M  16 MiB     8       0        0\n\
             3 of the free 2M pages are promised to mappings\n"
        );
    }

    #[test]
    fn a_kernel_without_numa_shows_the_machines_pages() {
        let machine = machine([(4, 1), (0, 0)], 0, 1 << 20);
        let root = machine.sysfs.hugepage_file(PageSize::TwoMiB, None);
        let root = root.ancestors().find(|path| path.ends_with("sys")).unwrap();
        std::fs::remove_dir_all(root.join("devices")).unwrap();
        let rows = rows(&machine.sysfs);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].node, rows[0].total, rows[0].free), (0, 4, 1));
    }

    #[test]
    fn a_kernel_without_hugepages_says_so() {
        let root = tempfile::tempdir().unwrap();
        let mut out = Vec::new();
        run(&Sysfs::at(root.path()), None, &mut out).unwrap();
        assert_eq!(out, b"this kernel has no hugepages of 2M or 1G\n");
    }
}
