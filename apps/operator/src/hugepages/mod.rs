//! `memwire hugepages`: how many there are, and setting it. The kernel's files are read and written
//! here; what is in them is `providers`' business.

mod plan;
mod set;
mod show;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use providers::{PageSize, Sysfs};

pub(crate) use show::{Row, rows, table};

use crate::{
    Failure,
    args::{HugepagesAction, HugepagesArgs, WhichPages},
};

pub(crate) fn run(args: &HugepagesArgs, root: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let sysfs = Sysfs::at(root);
    let change = |amount: usize, which: &WhichPages, out: &mut dyn Write| {
        let wish = plan::Wish {
            bytes: amount as u64,
            size: which.size.unwrap_or(PageSize::TwoMiB),
            node: which.node,
        };
        set::run(&sysfs, wish, which.dry_run, out)
    };
    let show =
        |json: &Option<PathBuf>, out: &mut dyn Write| show::run(&sysfs, json.as_deref(), out);
    match &args.action {
        Some(HugepagesAction::Set { amount, which }) => change(*amount, which, out),
        Some(HugepagesAction::Clear { which }) => change(0, which, out),
        Some(HugepagesAction::Show { json }) => show(json, out),
        None => match args.setup {
            Some(amount) => change(amount, &args.which, out),
            None if args.clear => change(0, &args.which, out),
            None => show(&args.json, out),
        },
    }
}

/// A fake kernel for tests: a tree of files with two nodes.
#[cfg(test)]
mod fixture {
    use std::fs;

    use providers::{PageSize, Sysfs};

    pub(super) struct Machine {
        _root: tempfile::TempDir,
        pub(super) sysfs: Sysfs,
    }

    /// Two nodes with pages of 2 MiB: total and free of each; promised pages; available memory in KiB.
    pub(super) fn machine(nodes: [(u64, u64); 2], promised: u64, available_kib: u64) -> Machine {
        let root = tempfile::tempdir().unwrap();
        let sysfs = Sysfs::at(root.path());
        let write = |node, total: u64, free: u64| {
            let file = sysfs.hugepage_file(PageSize::TwoMiB, node);
            let folder = file.parent().unwrap();
            fs::create_dir_all(folder).unwrap();
            fs::write(&file, format!("{total}\n")).unwrap();
            fs::write(folder.join("free_hugepages"), format!("{free}\n")).unwrap();
            fs::write(folder.join("surplus_hugepages"), "0\n").unwrap();
            folder.to_path_buf()
        };
        for (node, (total, free)) in (0..).zip(nodes) {
            write(Some(node), total, free);
        }
        let sum = |of: fn(&(u64, u64)) -> u64| nodes.iter().map(of).sum::<u64>();
        let whole = write(None, sum(|node| node.0), sum(|node| node.1));
        fs::write(whole.join("resv_hugepages"), format!("{promised}\n")).unwrap();
        fs::write(root.path().join("sys/devices/system/node/has_memory"), "0-1\n").unwrap();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        let memory = format!("MemAvailable: {available_kib} kB\nHugepagesize: 2048 kB\n");
        fs::write(root.path().join("proc/meminfo"), memory).unwrap();
        Machine { _root: root, sysfs }
    }
}
