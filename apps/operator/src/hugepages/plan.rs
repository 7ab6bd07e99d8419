//! What to write for a wish, and whether it may be. Reads counts; writes nothing.

use std::path::PathBuf;

use mempool::format_bytes;
use memwire_apps::AppError;
use providers::{PageSize, Sysfs};

use super::show;

/// How much memory in hugepages somebody wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// All of it, on `node` or on all nodes together.
    pub(super) bytes: u64,
    pub(super) size: PageSize,
    pub(super) node: Option<u32>,
}

/// One file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) node: u32,
    pub(super) file: PathBuf,
    /// Pages that were set before.
    pub(super) had: u64,
    /// Pages to be set.
    pub(super) want: u64,
}

/// The files to write for `wish`, those that hold the number already included.
///
/// # Errors
/// The wish cannot be: the size or the node is not here, pages in use would be taken, or there is not
/// that much memory.
pub(super) fn plan(sysfs: &Sysfs, wish: Wish) -> Result<Vec<Change>, AppError> {
    let size = wish.size;
    if sysfs.hugepages(size, None).is_none() {
        return Err(no_such_size(sysfs, size));
    }
    let nodes = nodes(sysfs, wish.node)?;
    let pages = whole_pages(wish)?;
    let count = nodes.len() as u64;
    let mut changes = Vec::new();
    for (at, node) in (0..).zip(nodes) {
        let row = show::row(sysfs, node, size)
            .ok_or_else(|| AppError::missing(format!("node {node} has no {size} hugepages")))?;
        // What does not divide goes to the first nodes.
        let want = pages / count + u64::from(at < pages % count);
        let in_use = row.total.saturating_sub(row.free);
        if want < in_use {
            let message = format!(
                "node {node}: {in_use} of its {} {size} hugepages are in use, and only {want} would \
                 be left",
                row.total
            );
            let least = format_bytes(in_use * row.page_bytes);
            return Err(AppError::missing(message)
                .hint(format!("end the programs that use them, or keep {least} on this node")));
        }
        let file = file(sysfs, size, node);
        changes.push(Change { node, file, had: row.total.saturating_sub(row.surplus), want });
    }
    check_promises(sysfs, size, &changes)?;
    check_memory(sysfs, size, &changes)?;
    Ok(changes)
}

/// The node's file; the machine's where the kernel has no nodes.
fn file(sysfs: &Sysfs, size: PageSize, node: u32) -> PathBuf {
    let file = sysfs.hugepage_file(size, Some(node));
    if file.exists() { file } else { sysfs.hugepage_file(size, None) }
}

fn no_such_size(sysfs: &Sysfs, size: PageSize) -> AppError {
    let here = PageSize::ALL.into_iter().filter(|size| sysfs.hugepages(*size, None).is_some());
    let here: Vec<_> = here.map(|size| size.to_string()).collect();
    let message = format!("this kernel has no {size} hugepages");
    AppError::missing(message).hint(match here.len() {
        0 => "it was built or booted without hugepages".to_owned(),
        _ => format!("it has: {}", here.join(", ")),
    })
}

fn nodes(sysfs: &Sysfs, asked: Option<u32>) -> Result<Vec<u32>, AppError> {
    let nodes = sysfs.nodes();
    match asked {
        None => Ok(nodes),
        Some(node) if nodes.contains(&node) => Ok(vec![node]),
        Some(node) => {
            let known: Vec<_> = nodes.iter().map(u32::to_string).collect();
            let message = format!("--node {node}: there is no NUMA node {node} with memory");
            Err(AppError::usage(message).hint(format!("there is {}", known.join(", "))))
        }
    }
}

fn whole_pages(wish: Wish) -> Result<u64, AppError> {
    let page = wish.size.bytes() as u64;
    if wish.bytes.is_multiple_of(page) {
        return Ok(wish.bytes / page);
    }
    let (asked, size) = (format_bytes(wish.bytes), wish.size);
    let next = format_bytes(wish.bytes.div_ceil(page).saturating_mul(page));
    Err(AppError::usage(format!("{asked} is not a whole number of {size} pages"))
        .hint(format!("{next} is the next that is")))
}

/// A promised page looks free; its owner has not touched it yet.
fn check_promises(sysfs: &Sysfs, size: PageSize, changes: &[Change]) -> Result<(), AppError> {
    let whole = sysfs.hugepages(size, None).unwrap_or_default();
    let taken: u64 = changes.iter().map(|change| change.had.saturating_sub(change.want)).sum();
    let added: u64 = changes.iter().map(|change| change.want.saturating_sub(change.had)).sum();
    if taken <= added || (whole.free + added).saturating_sub(taken) >= whole.reserved {
        return Ok(());
    }
    let message = format!(
        "{} of the {} free {size} hugepages are promised to programs that have mapped them",
        whole.reserved, whole.free
    );
    Err(AppError::missing(message).hint("end those programs, or keep so many more"))
}

/// More than there is would be refused page by page, after everybody else was pushed out.
fn check_memory(sysfs: &Sysfs, size: PageSize, changes: &[Change]) -> Result<(), AppError> {
    let added: u64 = changes.iter().map(|change| change.want.saturating_sub(change.had)).sum();
    let needed = added.saturating_mul(size.bytes() as u64);
    let Some(available) = sysfs.available_memory().filter(|available| *available < needed) else {
        return Ok(());
    };
    let set: u64 = changes.iter().map(|change| change.had).sum();
    let most = (set + available / size.bytes() as u64).saturating_mul(size.bytes() as u64);
    let message = format!(
        "{added} more {size} hugepages need {}, and {} of memory can be had",
        format_bytes(needed),
        format_bytes(available)
    );
    Err(AppError::missing(message).hint(format!("{} at most", format_bytes(most))))
}

#[cfg(test)]
mod tests {
    use memwire_apps::Exit;

    use super::{super::fixture::machine, *};

    fn wish(mib: u64, node: Option<u32>) -> Wish {
        Wish { bytes: mib << 20, size: PageSize::TwoMiB, node }
    }

    fn wants(changes: &[Change]) -> Vec<(u32, u64, u64)> {
        changes.iter().map(|change| (change.node, change.had, change.want)).collect()
    }

    fn refusal(nodes: [(u64, u64); 2], promised: u64, wish: Wish) -> (Exit, String) {
        let machine = machine(nodes, promised, 1 << 20);
        let error = plan(&machine.sysfs, wish).expect_err("a refusal");
        (error.code(), error.to_string())
    }

    #[test]
    fn an_amount_is_spread_over_the_nodes_and_the_rest_goes_to_the_first() {
        let machine = machine([(0, 0), (4, 4)], 0, 1 << 20);
        assert_eq!(wants(&plan(&machine.sysfs, wish(14, None)).unwrap()), [(0, 0, 4), (1, 4, 3)]);
    }

    #[test]
    fn a_named_node_gets_all_and_the_others_stay() {
        let machine = machine([(0, 0), (4, 4)], 0, 1 << 20);
        let changes = plan(&machine.sysfs, wish(20, Some(1))).unwrap();
        assert_eq!(wants(&changes), [(1, 4, 10)]);
        assert!(changes[0].file.ends_with("node1/hugepages/hugepages-2048kB/nr_hugepages"));
    }

    #[test]
    fn pages_in_use_are_never_taken() {
        let (code, says) = refusal([(512, 100), (0, 0)], 0, wish(200, Some(0)));
        assert_eq!(code, Exit::Missing);
        assert_eq!(
            says,
            "node 0: 412 of its 512 2M hugepages are in use, and only 100 would be left\n \
             hint: end the programs that use them, or keep 824 MiB on this node"
        );
        let machine = machine([(512, 100), (0, 0)], 0, 1 << 20);
        assert_eq!(wants(&plan(&machine.sysfs, wish(824, Some(0))).unwrap()), [(0, 512, 412)]);
    }

    #[test]
    fn promised_pages_are_never_taken() {
        let (code, says) = refusal([(10, 10), (0, 0)], 3, wish(4, Some(0)));
        assert_eq!(code, Exit::Missing);
        assert!(says.starts_with("3 of the 10 free 2M hugepages are promised"), "{says}");
        let machine = machine([(10, 10), (0, 0)], 3, 1 << 20);
        assert!(plan(&machine.sysfs, wish(6, Some(0))).is_ok());
    }

    #[test]
    fn more_than_the_memory_is_refused_before_anything_is_touched() {
        let machine = machine([(0, 0), (0, 0)], 0, 10 << 10);
        let error = plan(&machine.sysfs, wish(12, None)).expect_err("only 10 MiB");
        assert_eq!(error.code(), Exit::Missing);
        assert_eq!(
            error.to_string(),
            "6 more 2M hugepages need 12 MiB, and 10 MiB of memory can be had\n hint: 10 MiB at most"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_usage() {
        for (wish, says) in [
            (wish(3, None), "3 MiB is not a whole number of 2M pages\n hint: 4 MiB is the next"),
            (
                wish(2, Some(7)),
                "--node 7: there is no NUMA node 7 with memory\n hint: there is 0, 1",
            ),
        ] {
            let (code, text) = refusal([(0, 0), (0, 0)], 0, wish);
            assert_eq!(code, Exit::Usage, "{text}");
            assert!(text.starts_with(says), "{text}");
        }
    }

    #[test]
    fn a_size_that_the_kernel_lacks_is_missing_and_the_others_are_named() {
        let wish = Wish { bytes: 1 << 30, size: PageSize::OneGiB, node: None };
        let (code, says) = refusal([(0, 0), (0, 0)], 0, wish);
        assert_eq!(code, Exit::Missing);
        assert_eq!(says, "this kernel has no 1G hugepages\n hint: it has: 2M");
    }
}
