//! pmd's own conformance suite, against each kind of NIC, through each of the kernel's ways to map
//! memory. The suite is pmd's test executable `vfio`, run in the guest as it is.

use std::time::{Duration, Instant};

use crate::machine::Machine;

/// The variable that names the executable: `cargo xtask test` builds it and sets this.
const EXECUTABLE: &str = "MEMWIRE_VFIO_TEST";
/// The whole suite, under emulation.
const LIMIT: Duration = Duration::from_secs(180);

/// Where the executable is, or none, and on stderr why `test` is skipped.
pub(crate) fn executable(test: &str) -> Option<String> {
    let Some(path) = std::env::var_os(EXECUTABLE) else {
        eprintln!("SKIP {test}: {EXECUTABLE} does not name pmd's test executable vfio");
        return None;
    };
    Some(path.to_string_lossy().into_owned())
}

fn suite(test: &str, nics: [&str; 2]) {
    let Some(executable) = executable(test) else {
        return;
    };
    let Some(machine) = Machine::open(test, "pairs") else {
        return;
    };
    let start = Instant::now();
    let ports = nics.map(|nic| machine.address(nic).unwrap()).join(",");
    // Strays have a test of their own, which looks at the kernel's log too, and rates another clock.
    let line = format!(
        "MEMWIRE_PCI={ports} exec {executable} --test-threads=1 --nocapture --skip stray:: --skip rate::"
    );
    let output = machine.run_for(&line, LIMIT).unwrap();
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
