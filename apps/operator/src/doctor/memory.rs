//! Hugepages: sizes, what is free, per node, and what control groups allow.

use mempool::format_bytes;
use providers::{PageSize, Sysfs};

use super::{finding::Finding, machine::Machine};
use crate::hugepages;

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let sysfs = Sysfs::at(&machine.root);
    let rows = hugepages::rows(&sysfs);
    let mut findings: Vec<Finding> =
        PageSize::ALL.into_iter().filter_map(|size| one(machine, &sysfs, size, &rows)).collect();
    if findings.is_empty() {
        return vec![Finding::skip("sizes", "this kernel has no hugepages of 2M or 1G")];
    }
    let has_any = PageSize::ALL
        .into_iter()
        .any(|size| sysfs.available_hugepages(size, None).is_some_and(|pages| pages > 0));
    if !has_any {
        let says = "none to be had: pools fall back to ordinary pages, which cost TLB misses";
        findings.push(Finding::warn("any", says).fix("as root: memwire hugepages set 1G"));
    }
    findings
}

fn one(
    machine: &Machine,
    sysfs: &Sysfs,
    size: PageSize,
    rows: &[hugepages::Row],
) -> Option<Finding> {
    let counts = sysfs.hugepages(size, None)?;
    let (what, bytes) = (size.to_string(), size.bytes() as u64);
    if counts.total == 0 && counts.overcommit == 0 {
        return Some(Finding::skip(what, "none set aside"));
    }
    let rows: Vec<_> = rows.iter().filter(|row| row.page_bytes == bytes).collect();
    let nodes: Vec<_> = rows
        .iter()
        .map(|row| format!("node {}: {} of {}", row.node, row.free, row.total))
        .collect();
    let mut says = format!(
        "{} of {} free ({})",
        counts.free,
        counts.total,
        format_bytes(counts.available() * bytes)
    );
    if rows.len() > 1 {
        says += &format!("; {}", nodes.join(", "));
    }
    let limit = sysfs.hugepage_limit(size).filter(|(left, _)| *left < counts.available() * bytes);
    if let Some((left, file)) = limit {
        let file = machine.shown(&file);
        let says = format!("{says}, but the control group allows {} more", format_bytes(left));
        return Some(Finding::warn(what, says).fix(format!("as root: raise {file}")));
    }
    Some(match counts.available() {
        0 => {
            let mib = (counts.total + 512 / (bytes >> 21)).max(1) * (bytes >> 20);
            Finding::warn(what, says).fix(format!(
                "end what uses them, or as root: memwire hugepages set {mib}M --size {size}"
            ))
        }
        _ => Finding::ok(what, says),
    })
}
