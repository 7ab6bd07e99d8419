//! Counting: what the tests of a stage print, turned into passed, failed and skipped.
//!
//! Cargo's harness has no word for "skipped at run time", so a test that cannot run here prints
//! `SKIP <name>: <reason>` and returns; it is then counted as skipped and not as passed.

use std::collections::HashSet;
use std::ops::AddAssign;

use crate::child::Output;
use crate::digest::skip_in;

/// How many checks came out how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// The names of failed tests, as far as they are known.
    pub(crate) failing: Vec<String>,
}

impl Counts {
    /// One check with this outcome.
    pub(crate) fn check(passed: bool) -> Self {
        if passed { Self { passed: 1, ..Self::default() } } else { Self::failure() }
    }

    /// One failed check.
    pub(crate) fn failure() -> Self {
        Self { failed: 1, ..Self::default() }
    }

    /// One check that cannot be made here; says so.
    pub(crate) fn skip(name: &str, reason: &str) -> Self {
        println!("SKIP {name}: {reason}");
        Self { skipped: 1, ..Self::default() }
    }

    /// Reads what `cargo test` or a test executable printed. A run that went wrong without naming
    /// a failed test (it did not build, a test crashed) counts as one failure.
    pub(crate) fn of_tests(output: &Output) -> Self {
        let mut counts = Self::default();
        let skips = skipped_tests(&output.stdout);
        for line in output.stdout.lines() {
            if let Some(result) = line.trim_start().strip_prefix("test result: ") {
                counts.passed += number_before(result, " passed");
                counts.failed += number_before(result, " failed");
                counts.skipped += number_before(result, " ignored");
            }
        }
        let skips = skips.min(counts.passed);
        counts.passed -= skips;
        counts.skipped += skips;
        if !output.success && counts.failed == 0 {
            counts.failed = 1;
        }
        counts
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failing.extend(other.failing);
    }
}

/// How many tests said that they skip. A test that says so twice counts once: names are compared
/// within one test executable, whose output ends with its result or where cargo announces the next.
fn skipped_tests(output: &str) -> u64 {
    let mut names = HashSet::new();
    let mut count = 0;
    for line in output.lines().map(str::trim_start) {
        if line.starts_with("test result: ")
            || line.starts_with("Running ")
            || line.starts_with("Doc-tests ")
        {
            names.clear();
        }
        if let Some(skip) = skip_in(line) {
            let name = skip.split(": ").next().unwrap_or(skip);
            count += u64::from(names.insert(name));
        }
    }
    count
}

fn number_before(line: &str, word: &str) -> u64 {
    let Some(end) = line.find(word) else { return 0 };
    line[..end].rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(success: bool, printed: &str) -> Output {
        let (stdout, stderr) = (printed.to_owned(), String::new());
        Output { success, code: Some(i32::from(!success)), stdout, stderr }
    }

    fn counts(passed: u64, failed: u64, skipped: u64) -> Counts {
        Counts { passed, failed, skipped, failing: Vec::new() }
    }

    #[test]
    fn results_of_several_executables_add_up() {
        let printed = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out\n\
                       test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered\n";
        assert_eq!(Counts::of_tests(&output(false, printed)), counts(15, 2, 1));
    }

    #[test]
    fn a_test_that_skips_is_not_passed() {
        let printed = "running 2 tests\n  SKIP ring_over_veth: needs root\n\
                       test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\n";
        assert_eq!(Counts::of_tests(&output(true, printed)), counts(1, 0, 1));
    }

    #[test]
    fn a_skip_is_counted_wherever_it_was_printed() {
        let printed = "test veth ... SKIP veth: needs root\nok\n\
                       SKIP tap: needs root\n\
                       test result: ok. 3 passed; 0 failed; 0 ignored\n";
        assert_eq!(Counts::of_tests(&output(true, printed)), counts(1, 0, 2));
    }

    #[test]
    fn a_test_that_says_twice_that_it_skips_counts_once() {
        let printed = "SKIP veth: needs root\nSKIP veth: needs ip\n\
                       test result: ok. 2 passed; 0 failed; 0 ignored\n\
                       SKIP veth: needs root\n\
                       test result: ok. 1 passed; 0 failed; 0 ignored\n";
        assert_eq!(Counts::of_tests(&output(true, printed)), counts(1, 0, 2));
    }

    #[test]
    fn a_run_that_breaks_off_is_a_failure() {
        assert_eq!(Counts::of_tests(&output(false, "error[E0308]\n")), counts(0, 1, 0));
    }
}
