//! dma-bufs: the kernel's exporters, BARs included, between processes that end in any order. `providers`' own
//! tests run in the guest as they are; what users do is done with the `memwire` command.

use std::time::Duration;

use testbed::Signal;

use crate::{
    conformance,
    machine::{App, DEADLINE, Machine, binary, pause},
    probe::{ask, free_hugepages},
};

/// The variable that names the executable: `cargo xtask test` builds it and sets this.
const EXECUTABLE: &str = "MEMWIRE_DMABUF_TEST";

#[test]
fn dma_bufs_are_shared_between_processes_that_end_in_any_order() {
    let test = "dma_bufs_are_shared_between_processes_that_end_in_any_order";
    let Some(executable) = conformance::named(test, EXECUTABLE) else { return };
    let Some(machine) = Machine::open(test, "default") else { return };
    machine.bind(&["bar"]).unwrap();
    let [bar, nic] = ["bar", "e1000e0"].map(|device| machine.address(device).unwrap());
    let line = format!(
        "MEMWIRE_DMABUF_BAR={bar} MEMWIRE_DMABUF_NIC={nic} exec {executable} --test-threads=1 --nocapture"
    );
    conformance::run(test, &machine, &line);
}

/// Where it is offered.
pub(crate) const SOCKET: &str = "/tmp/dmabuf-guest";

/// Starts an export and waits until it is offered.
pub(crate) fn export<'a>(machine: &'a Machine, what: &str) -> App<'a> {
    let mut exporter = machine.start("memwire", &format!("dmabuf export {what} --socket {SOCKET}"));
    exporter.wait_for(" offered at ");
    exporter
}

/// What `memwire dmabuf info` prints.
fn info(machine: &Machine) -> String {
    ask(machine, &format!("{} dmabuf info {SOCKET}", binary("memwire")))
}

/// The line of that importer or property.
fn line<'a>(info: &'a str, key: &str) -> &'a str {
    let found = info.lines().find_map(|line| line.strip_prefix(key));
    found.unwrap_or_else(|| panic!("no '{key}' in:\n{info}")).trim()
}

/// Descriptors of dma-bufs that a process has.
fn dma_bufs(machine: &Machine, pid: i32) -> u64 {
    ask(machine, &format!("ls -l /proc/{pid}/fd | grep -c dmabuf || true")).parse().unwrap()
}

/// dma-bufs that anybody has, by the kernel's own books where it keeps them.
pub(crate) fn dma_bufs_of_all(machine: &Machine) -> Option<u64> {
    let books = "/sys/kernel/debug/dma_buf/bufinfo";
    let line = format!(
        "mount -t debugfs none /sys/kernel/debug 2>/dev/null; awk '/^Total/ {{print $2}}' {books}"
    );
    ask(machine, &line).parse().ok()
}

#[test]
fn each_kind_of_dma_buf_is_exported_and_says_who_can_import_it() {
    let test = "each_kind_of_dma_buf_is_exported_and_says_who_can_import_it";
    let Some(machine) = Machine::open(test, "default") else { return };
    machine.bind(&["bar"]).unwrap();
    let bar = machine.address("bar").unwrap();
    let pages = free_hugepages(&machine);
    let all = dma_bufs_of_all(&machine);
    eprintln!("{test}: dma-bufs by the kernel's books: {all:?}");
    for (what, exporter, mapping, [software, type1, iommufd]) in [
        ("--udmabuf 4M", "udmabuf", "yes", ["yes"; 3]),
        ("--udmabuf 4M --pages 2M", "udmabuf", "yes", ["yes"; 3]),
        ("--heap system,4M", "", "yes", ["yes", "no: type1 takes neither", "no: the kernel takes"]),
        (
            &format!("--bar {bar}/bar2,1M,4M"),
            "vfio",
            "no: its exporter gives no mapping (Invalid argument",
            ["no: ", "no: type1 takes neither", "yes"],
        ),
    ] {
        let mut app = export(&machine, what);
        let text = info(&machine);
        eprintln!("{test}: {what}\n{text}");
        assert!(line(&text, "exporter").starts_with(exporter), "{what}: {text}");
        assert_eq!(line(&text, "size"), "4 MiB (4194304 B)", "{what}");
        assert!(line(&text, "CPU mapping").starts_with(mapping), "{what}: {text}");
        for (key, answer) in [
            ("software NICs", software),
            ("NICs, iommu=type1", type1),
            ("NICs, iommu=iommufd", iommufd),
        ] {
            assert!(line(&text, key).starts_with(answer), "{what}: {text}");
        }
        app.wait_for("has let it go");
        if let (Some(before), Some(now)) = (all, dma_bufs_of_all(&machine)) {
            assert!(now > before, "{what}: the kernel's books know nothing of it");
        }
        app.interrupt();
        let output = app.finish();
        assert_eq!(output.status, 0, "{what}: {}", output.stderr);
        assert_eq!(ask(&machine, &format!("test -e {SOCKET} && echo there || echo gone")), "gone");
        assert_eq!(free_hugepages(&machine), pages, "{what}: memory did not come back");
        assert_eq!(dma_bufs_of_all(&machine), all, "{what}: a dma-buf is left");
    }
}

#[test]
fn an_exporter_of_a_bar_may_die_and_the_next_one_takes_its_place() {
    let test = "an_exporter_of_a_bar_may_die_and_the_next_one_takes_its_place";
    let Some(machine) = Machine::open(test, "default") else { return };
    machine.bind(&["bar"]).unwrap();
    let bar = machine.address("bar").unwrap();
    for round in 0..3 {
        let mut app = export(&machine, &format!("--bar {bar}/bar2"));
        let pid = app.job.pid().unwrap();
        assert!(dma_bufs(&machine, pid) > 0, "round {round}");
        assert!(line(&info(&machine), "size").starts_with("64 MiB"));
        app.job.kill(Signal::Kill).unwrap();
        assert_eq!(app.job.wait(DEADLINE).unwrap().status, 128 + 9);
        let refused = machine.run(&format!("{} dmabuf info {SOCKET}", binary("memwire"))).unwrap();
        assert_eq!(refused.status, 3, "{}", refused.stderr);
        assert!(refused.stderr.contains("who offered there has ended"), "{}", refused.stderr);
    }
    // Whoever takes it once ends it.
    let app = export(&machine, &format!("--bar {bar}/bar2 --once"));
    info(&machine);
    assert_eq!(app.finish().status, 0);
    pause(Duration::from_millis(10));
}

#[test]
fn what_cannot_be_exported_or_is_no_dma_buf_ends_with_its_exit_code() {
    let test = "what_cannot_be_exported_or_is_no_dma_buf_ends_with_its_exit_code";
    let Some(machine) = Machine::open(test, "default") else { return };
    machine.bind(&["bar"]).unwrap();
    let (bar, memwire) = (machine.address("bar").unwrap(), binary("memwire"));
    for (line, status, words) in [
        (format!("export --udmabuf 1T --socket {SOCKET}"), 3, "needs 1 TiB, but only"),
        (format!("export --heap none,4M --socket {SOCKET}"), 3, "there are: "),
        (format!("export --bar {bar}/bar0 --socket {SOCKET}"), 3, "too small to be shared"),
        (format!("export --bar {bar}/bar2,0,128M --socket {SOCKET}"), 3, "and the BAR has 64 MiB"),
        (format!("export --bar {bar}/bar2,1,4096 --socket {SOCKET}"), 3, "no multiple of 4096"),
        (format!("export --udmabuf 1M --socket /nowhere/{test}"), 3, "the folder is not there"),
        (format!("export --socket {SOCKET}"), 2, "--udmabuf"),
        (
            "info 9 9</etc/passwd".to_owned(),
            2,
            "fd 9 is a regular file (/etc/passwd), not a dma-buf",
        ),
        ("info 9 9<&-".to_owned(), 2, "fd 9 is not open in this process"),
        (
            "info 9 9</dev/dma_heap/system".to_owned(),
            2,
            "fd 9 is a dma-heap (/dev/dma_heap/system)",
        ),
        (format!("info {SOCKET}"), 3, "nobody offers there"),
    ] {
        let output = machine.run(&format!("{memwire} dmabuf {line}")).unwrap();
        assert_eq!(output.status, status, "{line}: {}", output.stderr);
        assert!(output.stderr.contains(words), "{line}: {}", output.stderr);
    }
}
