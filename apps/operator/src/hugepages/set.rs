//! Writes a plan to the kernel and reads back what it gave.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use mempool::format_bytes;
use memwire_apps::AppError;
use providers::{PageSize, Sysfs};

use super::{
    plan::{Change, Wish, plan},
    show,
};
use crate::Failure;

/// How a count reaches the kernel.
type Put<'a> = &'a mut dyn FnMut(&Path, u64) -> io::Result<()>;

pub(super) fn run(
    sysfs: &Sysfs,
    wish: Wish,
    dry_run: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    set(sysfs, wish, dry_run, &mut |file, pages| fs::write(file, pages.to_string()), out)
}

fn set(
    sysfs: &Sysfs,
    wish: Wish,
    dry_run: bool,
    put: Put<'_>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let changes = plan(sysfs, wish)?;
    if dry_run {
        for change in &changes {
            writeln!(out, "{}", dry(change))?;
        }
        return Ok(());
    }
    let mut short = Vec::new();
    for change in changes.iter().filter(|change| change.had != change.want) {
        put(&change.file, change.want).map_err(|error| refused(&error, change, wish))?;
        let row = show::row(sysfs, change.node, wish.size);
        let got = row.map_or(0, |row| row.total.saturating_sub(row.surplus));
        writeln!(out, "{}", told(change, got, wish.size))?;
        if got < change.want {
            short.push((change, got));
        }
    }
    write!(out, "{}", show::table(&show::rows(sysfs)))?;
    match short.first() {
        None => Ok(()),
        Some((change, got)) => Err(shortage(sysfs, wish.size, change, *got).into()),
    }
}

fn dry(change: &Change) -> String {
    let Change { node, file, had, want } = change;
    if had == want {
        return format!("node {node}: {had} pages already, nothing to write");
    }
    format!("node {node}: {had} -> {want} pages: echo {want} > {}", file.display())
}

/// What happened, in a line: that pages were taken is said too.
fn told(change: &Change, got: u64, size: PageSize) -> String {
    let Change { node, had, want, .. } = change;
    if want < had {
        let (given, bytes) = (had.saturating_sub(got), size.bytes() as u64);
        let freed = format_bytes(given * bytes);
        return format!("node {node}: {given} {size} pages that nobody used given back, {freed}");
    }
    format!("node {node}: {got} {size} pages, {} more", got.saturating_sub(*had))
}

fn refused(error: &io::Error, change: &Change, wish: Wish) -> AppError {
    let file = change.file.display();
    let message = format!("{file}: {error}");
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            AppError::missing(message).hint(format!("as root: {}", command(wish)))
        }
        io::ErrorKind::ReadOnlyFilesystem => AppError::missing(message).hint(format!(
            "/sys is read-only here, as in a container; on the host: {}",
            command(wish)
        )),
        _ => AppError::failed(message),
    }
}

/// The command that asks the same again.
fn command(wish: Wish) -> String {
    let node = wish.node.map(|node| format!(" --node {node}")).unwrap_or_default();
    let what = match wish.bytes {
        0 => "clear".to_owned(),
        bytes if bytes.is_multiple_of(1 << 30) => format!("set {}G", bytes >> 30),
        bytes => format!("set {}M", bytes >> 20),
    };
    format!("sudo memwire hugepages {what} --size {}{node}", wish.size)
}

/// Why the kernel found fewer, and what helps.
fn shortage(sysfs: &Sysfs, size: PageSize, change: &Change, got: u64) -> AppError {
    let Change { node, want, .. } = change;
    let missing = want.saturating_sub(got).saturating_mul(size.bytes() as u64);
    let free = sysfs.available_memory();
    let why = match free {
        Some(free) if free < missing => {
            format!("{} of memory is left", format_bytes(free))
        }
        _ => format!("memory is too fragmented for more pieces of {size}"),
    };
    let boot = match size {
        PageSize::TwoMiB => "echo 1 > /proc/sys/vm/compact_memory, then try again".to_owned(),
        // Once memory is in use, so much of it in one piece is rare.
        PageSize::OneGiB => format!("boot with hugepagesz=1G hugepages={want}"),
    };
    let message = format!("node {node}: the kernel gave {got} of {want} {size} hugepages: {why}");
    AppError::missing(message).hint(format!("those {got} stay; for more, {boot}"))
}

#[cfg(test)]
mod tests {
    use memwire_apps::Exit;

    use super::{super::fixture::machine, *};

    const FOUR_MIB: Wish = Wish { bytes: 4 << 20, size: PageSize::TwoMiB, node: Some(0) };

    /// A kernel that has `most` pages and no more.
    fn kernel(most: u64) -> impl FnMut(&Path, u64) -> io::Result<()> {
        move |file, pages| fs::write(file, format!("{}\n", pages.min(most)))
    }

    fn outcome(
        wish: Wish,
        dry_run: bool,
        mut put: impl FnMut(&Path, u64) -> io::Result<()>,
    ) -> (String, Option<AppError>) {
        let machine = machine([(1, 1), (0, 0)], 0, 1 << 20);
        let mut out = Vec::new();
        let failure = set(&machine.sysfs, wish, dry_run, &mut put, &mut out).err();
        (String::from_utf8(out).unwrap(), failure.and_then(Failure::for_user))
    }

    #[test]
    fn what_the_kernel_gave_is_read_back() {
        let (says, error) = outcome(FOUR_MIB, false, kernel(100));
        assert!(says.starts_with("node 0: 2 2M pages, 1 more\nNode"), "{says}");
        assert!(error.is_none());
    }

    #[test]
    fn fewer_than_asked_is_an_error_with_what_was_got() {
        let (says, error) = outcome(Wish { bytes: 64 << 20, ..FOUR_MIB }, false, kernel(3));
        let error = error.expect("three are fewer than 32");
        assert_eq!(error.code(), Exit::Missing);
        assert!(says.starts_with("node 0: 3 2M pages, 2 more"), "{says}");
        let text = error.to_string();
        assert!(
            text.starts_with("node 0: the kernel gave 3 of 32 2M hugepages: memory is too frag")
        );
        assert!(
            text.contains("hint: those 3 stay; for more, echo 1 > /proc/sys/vm/compact_memory")
        );
    }

    #[test]
    fn pages_that_are_given_back_are_said() {
        let (says, error) = outcome(Wish { bytes: 0, ..FOUR_MIB }, false, kernel(100));
        assert!(
            says.starts_with("node 0: 1 2M pages that nobody used given back, 2 MiB"),
            "{says}"
        );
        assert!(error.is_none());
    }

    #[test]
    fn a_dry_run_writes_nothing() {
        let (says, error) = outcome(FOUR_MIB, true, |_, _| panic!("a dry run wrote"));
        assert!(error.is_none());
        assert!(says.starts_with("node 0: 1 -> 2 pages: echo 2 > "), "{says}");
        assert!(says.ends_with("nr_hugepages\n"), "{says}");
    }

    #[test]
    fn who_may_not_write_is_told_the_command() {
        for (kind, hint) in [
            (
                io::ErrorKind::PermissionDenied,
                "hint: as root: sudo memwire hugepages set 4M --size 2M --node 0",
            ),
            (
                io::ErrorKind::ReadOnlyFilesystem,
                "on the host: sudo memwire hugepages set 4M --size 2M --node 0",
            ),
        ] {
            let (_, error) = outcome(FOUR_MIB, false, |_, _| Err(kind.into()));
            let error = error.expect("not permitted");
            assert_eq!(error.code(), Exit::Missing);
            assert!(error.to_string().ends_with(hint), "{error}");
        }
        let spread = Wish { bytes: 2 << 30, size: PageSize::OneGiB, node: None };
        assert_eq!(command(spread), "sudo memwire hugepages set 2G --size 1G");
        let none = Wish { bytes: 0, ..spread };
        assert_eq!(command(none), "sudo memwire hugepages clear --size 1G");
    }
}
