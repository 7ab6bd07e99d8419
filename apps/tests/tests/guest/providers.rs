//! Kinds of memory, against the promises of all providers and against a NIC's address space; and device memory
//! that is pulled out of a running machine. The suite is pmd's test executable `memory`, run in the guest as it
//! is.

use std::{
    ffi::OsStr,
    time::{Duration, Instant},
};

use testbed::{Clock, Job};

use crate::{
    machine::{DEADLINE, Machine, is_full},
    probe::ask,
};

/// The variable that names the executable: `cargo xtask test` builds it and sets this.
const EXECUTABLE: &str = "MEMWIRE_MEMORY_TEST";
/// The whole suite, under emulation.
const LIMIT: Duration = Duration::from_secs(180);
/// How long QEMU is waited for, from the request until the device is gone.
const DELETED: Duration = Duration::from_secs(30);
/// Who has no right to pin more than this.
const USER: u32 = 1000;
const MEMLOCK_MIB: u32 = 8;

/// How tests that share functions are run.
const FLAGS: &str = "--test-threads=1 --nocapture";

/// A NIC, a BAR, and a drive whose kernel driver gives memory away.
const NAMED: [&str; 3] = ["e1000e0", "bar", "cmb"];

/// The suite, and the guest to run it in.
struct Suite {
    machine: Machine,
    path: String,
    /// What it is told by the environment.
    variables: String,
}

impl Suite {
    /// None, and on stderr why `test` is skipped.
    fn open(test: &str) -> Option<Self> {
        let Some(path) = std::env::var_os(EXECUTABLE) else {
            eprintln!("SKIP {test}: {EXECUTABLE} does not name pmd's test executable memory");
            return None;
        };
        // By a clock that leaves QEMU one thread: with more, 10.0 aborts in iotlb_to_section sometimes when a
        // BAR of memory comes or goes.
        Some(Self::on(Machine::open_by(Clock::Instructions, test, "default")?, &path))
    }

    fn on(machine: Machine, path: &OsStr) -> Self {
        machine.bind(&["bar"]).unwrap();
        let functions = NAMED.map(|name| machine.address(name).unwrap().to_string()).join(",");
        let variables = format!("MEMWIRE_MEMORY={functions}");
        Self { machine, path: path.to_string_lossy().into_owned(), variables }
    }

    /// The line that runs it; `more` are variables.
    fn line(&self, more: &str) -> String {
        format!("{more} {} {} {FLAGS}", self.variables, self.path)
    }
}

#[test]
fn every_kind_of_memory_conforms_and_the_list_says_who_maps_it() {
    let test = "every_kind_of_memory_conforms_and_the_list_says_who_maps_it";
    let Some(suite) = Suite::open(test) else { return };
    let output = suite.machine.run_for(&suite.line(""), LIMIT).unwrap();
    let text = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.status, 0, "{text}");
    let told: Vec<&str> = text.lines().filter(|line| line.contains(" promises kept ")).collect();
    told.iter().for_each(|line| eprintln!("{test}: {line}"));
    for kind in [
        "hugepages of 2M: ",
        "private hugepages: ",
        "host pages: ",
        "fake device memory: ",
        "a BAR by type1: ",
        "a BAR by iommufd: ",
        "a BAR by sysfs: ",
        "p2pmem: ",
    ] {
        assert!(told.iter().any(|line| line.contains(kind)), "{kind}not in the list\n{text}");
    }
    // Pages of 1 GiB are not in every guest; the other two have tests of their own here.
    let skipped: Vec<&str> = text.lines().filter(|line| line.contains("SKIP ")).collect();
    let known = ["hugepages of 1G", "this user may pin", "MEMWIRE_HARM", "udmabuf", "dma-heap"];
    let unknown = skipped.iter().find(|line| !known.iter().any(|word| line.contains(word)));
    assert_eq!(unknown, None, "{text}");
}

/// KiB of memory that nobody uses here.
fn available_kib() -> u64 {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn hugepages_of_1g_conform_in_a_guest_that_has_them() {
    let test = "hugepages_of_1g_conform_in_a_guest_that_has_them";
    let Some(path) = std::env::var_os(EXECUTABLE) else {
        eprintln!("SKIP {test}: {EXECUTABLE} does not name pmd's test executable memory");
        return;
    };
    if !is_full() {
        eprintln!("SKIP {test}: takes minutes; MEMWIRE_FULL=1");
        return;
    }
    if available_kib() < 8 << 20 {
        eprintln!(
            "SKIP {test}: less than 8 GiB of memory to be had, for a guest with 4 pages of 1 GiB"
        );
        return;
    }
    let Some(machine) = Machine::with_gigantic_pages(4, test, "default") else { return };
    let suite = Suite::on(machine, &path);
    let limit = Duration::from_secs(900);
    let output = suite.machine.run_for(&suite.line(""), limit).unwrap();
    let text = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.status, 0, "{text}");
    let told = text.lines().find(|line| line.contains("hugepages of 1G: "));
    let told = told.unwrap_or_else(|| panic!("not in the list\n{text}"));
    assert!(told.contains(" promises kept "), "{told}");
    eprintln!("{test}: {told}");
    // Its memory is much of the machine's.
    suite.machine.discard();
}

#[test]
fn a_bar_larger_than_what_a_user_may_pin_is_mapped_for_him() {
    let test = "a_bar_larger_than_what_a_user_may_pin_is_mapped_for_him";
    let Some(suite) = Suite::open(test) else { return };
    let Suite { machine, path, variables } = &suite;
    let program = "/run/memory-of-a-user";
    // Not every user may look into the folder that it was built in.
    ask(machine, &format!("install -m 755 {path} {program}"));
    let own = |user: u32| {
        for name in ["e1000e0", "bar"] {
            let function = format!("/sys/bus/pci/devices/{}", machine.address(name).unwrap());
            let group = format!("/dev/vfio/$(basename $(readlink {function}/iommu_group))");
            let device = format!("/dev/vfio/devices/$(ls {function}/vfio-dev)");
            ask(machine, &format!("chown {user} {group} {device} /dev/iommu"));
        }
    };
    own(USER);
    let output = machine
        .run_for(
            &format!(
                "cd / && {variables} prlimit --memlock={} setpriv --reuid={USER} --regid={USER} \
                 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs {program} {FLAGS} \
                 a_bar_counts_against_no_limit_of_pinned_memory",
                MEMLOCK_MIB << 20
            ),
            LIMIT,
        )
        .unwrap();
    own(0);
    let text = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.status, 0, "{text}");
    let told: Vec<&str> =
        text.lines().filter(|line| line.contains("MiB of a BAR beside")).collect();
    assert_eq!(told.len(), 2, "by type1 and by iommufd\n{text}");
    told.iter().for_each(|line| eprintln!("{test}: {line}"));
}

/// Who holds regions of the BAR until something happens to it, and what it said in the end.
struct Holder<'a>(Job<'a>);

impl<'a> Holder<'a> {
    fn start(suite: &'a Suite, kind: &str, harm: &str) -> Self {
        let line = suite.line(&format!("MEMWIRE_HARM={harm} MEMWIRE_IOMMU={kind}"));
        let line = format!("{line} a_bar_that_comes_to_harm_goes_with_its_last_region");
        let mut job = suite.machine.spawn(&line).unwrap();
        job.wait_for("regions are out", DEADLINE).unwrap();
        Self(job)
    }

    fn end(mut self, cause: &str) {
        let output = self.0.wait(DEADLINE).unwrap();
        assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
        for words in [&format!("revoked: {cause}"), "held: p2p:", "released"] {
            assert!(output.stdout.contains(words), "{words}: {}", output.stdout);
        }
    }
}

/// Plugs the BAR in again.
fn bring_back(machine: &Machine) {
    machine.device_add("bar").unwrap();
    machine.bind(&["bar"]).unwrap();
}

#[test]
fn device_memory_that_is_unplugged_goes_when_its_last_region_is_given_up_and_comes_back() {
    let test =
        "device_memory_that_is_unplugged_goes_when_its_last_region_is_given_up_and_comes_back";
    let Some(suite) = Suite::open(test) else { return };
    let machine = &suite.machine;
    let rounds = if is_full() { 10 } else { 1 };
    for round in 0..2 * rounds {
        let kind = ["type1", "iommufd"][round % 2];
        let holder = Holder::start(&suite, kind, "unplug");
        let (from, start) = (machine.console().len(), Instant::now());
        machine.qmp().device_del("bar", DELETED).unwrap();
        let gone = start.elapsed();
        holder.end("removed: the kernel wants");
        // Held for 300 ms more: the kernel waited, and so did QEMU.
        assert!(gone >= Duration::from_millis(300), "deleted under its user, after {gone:?}");
        let log = machine.console();
        assert!(!log[from..].contains("DMAR: [DMA"), "{}", &log[from..]);
        eprintln!("{test}: {kind}: deleted after {} ms, 300 of them held", gone.as_millis());
        bring_back(machine);
    }
}

#[test]
fn device_memory_whose_bus_reports_an_error_is_revoked_for_that() {
    let test = "device_memory_whose_bus_reports_an_error_is_revoked_for_that";
    let Some(suite) = Suite::open(test) else { return };
    let machine = &suite.machine;
    for kind in ["type1", "iommufd"] {
        let holder = Holder::start(&suite, kind, "error");
        machine.inject_aer("bar", "COMP_TIME").unwrap();
        holder.end("PCIe error: the bus reported");
        // The emulated link may not have survived it.
        machine.qmp().device_del("bar", DELETED).unwrap();
        bring_back(machine);
        eprintln!("{test}: {kind}: told, given up, and closed");
    }
}
