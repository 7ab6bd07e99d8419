//! Test executables of the crates below, run in the guest as they are: pmd's conformance suite, against each
//! kind of NIC, through each of the kernel's ways to map memory; and VFIO's own tests on real functions.

use std::time::{Duration, Instant};

use testbed::Output;

use crate::machine::Machine;

/// Variables that name executables: `cargo xtask test` builds them and sets these.
const PMD: &str = "MEMWIRE_PMD_TEST";
const VFIO: &str = "MEMWIRE_VFIO_TEST";
/// The whole suite, under emulation.
const LIMIT: Duration = Duration::from_secs(240);
/// How long a guest may take to say that it lives.
const ALIVE: Duration = Duration::from_secs(30);

/// Where pmd's executable is, or none, and on stderr why `test` is skipped.
pub(crate) fn executable(test: &str) -> Option<String> {
    named(test, PMD)
}

/// The executable that a variable names, or none, and on stderr why `test` is skipped.
pub(crate) fn named(test: &str, variable: &str) -> Option<String> {
    let Some(path) = std::env::var_os(variable) else {
        eprintln!("SKIP {test}: {variable} names no test executable");
        return None;
    };
    Some(path.to_string_lossy().into_owned())
}

fn suite(test: &str, nics: [&str; 2]) {
    let Some(executable) = executable(test) else {
        return;
    };
    for attempt in 1.. {
        let Some(machine) = Machine::open(test, "pairs") else {
            return;
        };
        let ports = nics.map(|nic| machine.address(nic).unwrap()).join(",");
        // Strays have a test of their own, which looks at the kernel's log too, and rates another clock.
        let line = format!(
            "MEMWIRE_PCI={ports} exec {executable} --test-threads=1 --nocapture --skip stray:: --skip rate::"
        );
        let start = Instant::now();
        match finished(&machine, &line) {
            Some(output) => return judge(test, &output, start),
            // An emulator that shares its cores may stop, as it may abort.
            None if attempt == 1 => {
                eprintln!("{test}: the guest does not answer any more, and is booted once more");
                machine.discard();
            }
            None => panic!("the guest stopped twice"),
        }
    }
}

/// Runs an executable, all of whose tests must pass and none be skipped.
pub(crate) fn run(test: &str, machine: &Machine, line: &str) {
    let start = Instant::now();
    let output = finished(machine, line).expect("a guest that answers");
    judge(test, &output, start);
}

/// Runs a line to its end; none if the whole guest has stopped. A guest that lives has a line that hangs.
fn finished(machine: &Machine, line: &str) -> Option<Output> {
    let mut job = machine.spawn(line).unwrap();
    match job.wait(LIMIT) {
        Ok(output) => Some(output),
        Err(error) => {
            let told = format!("{error}\n{}{}", job.stdout_so_far(), job.stderr_so_far());
            assert!(machine.run_for("true", ALIVE).is_err(), "{told}");
            eprintln!("{told}");
            None
        }
    }
}

fn judge(test: &str, output: &Output, start: Instant) {
    let text = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.status, 0, "{text}");
    assert!(!text.contains("SKIP"), "{text}");
    let result = output.stdout.lines().find(|line| line.starts_with("test result: ok. "));
    let result = result.unwrap_or_else(|| panic!("no test ran:\n{text}"));
    assert!(!result.contains(" 0 passed"), "no test ran:\n{text}");
    eprintln!("{test}: {result} ({:.1} s)", start.elapsed().as_secs_f64());
}

#[test]
fn an_82574_conforms_over_type1_and_iommufd() {
    suite("an_82574_conforms_over_type1_and_iommufd", ["e1000e0", "e1000e1"]);
}

#[test]
fn an_82576_conforms_over_type1_and_iommufd() {
    suite("an_82576_conforms_over_type1_and_iommufd", ["igb0", "igb1"]);
}

/// A test that is about a machine without an IOMMU.
const UNPROTECTED: &str =
    "rights::without_an_iommu_a_device_is_had_only_by_who_accepts_it_and_sees_physical_addresses";

#[test]
fn vfio_does_on_real_functions_what_it_promises() {
    let test = "vfio_does_on_real_functions_what_it_promises";
    let Some(executable) = named(test, VFIO) else { return };
    for (topology, ids, which) in [
        ("default", &["e1000e0", "igb0", "bar"][..], format!("--skip {UNPROTECTED}")),
        ("noiommu", &["e1000e0"][..], format!("--exact {UNPROTECTED}")),
    ] {
        let Some(machine) = Machine::open(test, topology) else { return };
        machine.bind(ids).unwrap();
        let functions: Vec<_> = ids.iter().map(|id| machine.address(id).unwrap()).collect();
        let functions = functions.join(",");
        let line = format!(
            "MEMWIRE_PCI={functions} exec {executable} --test-threads=1 --nocapture {which}"
        );
        run(test, &machine, &line);
    }
}
