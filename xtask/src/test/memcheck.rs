//! The `memcheck` stage: tests of the crates with unsafe code, and the apps, under valgrind, which sees reads and
//! writes of memory that is not there, or was never written. Buffers that are lost on purpose (their device never
//! stopped) leak, so leaks are not asked for.

use std::path::Path;

use anyhow::Result;

use super::cargo_tests::executables;
use crate::child::Child;
use crate::digest::Digest;
use crate::tally::Counts;
use crate::workspace::{PROGRAMS, Workspace, cargo, succeeds};

/// By package and target, those that are done within seconds at valgrind's pace.
const TESTS: [(&str, &str); 8] = [
    ("mempool", "mempool"),
    ("mempool", "builder"),
    ("mempool", "drop_orders"),
    ("mempool", "frames"),
    ("pmd", "pmd"),
    ("pmd", "ports"),
    ("pmd", "rebind"),
    ("providers", "providers"),
];
const APPS: [(&str, &str); 4] = [
    ("gpurx", "--count 20000 --loss 1% --dup 1% --swap 1% --json"),
    ("gpurx", "--count 20000 --path bounce --json"),
    ("pktgen", "--count 20000 --json"),
    ("l2fwd", "-p null: -p null: --duration 1s --json"),
];

/// Runs them; each has to end as it does by itself.
pub(super) fn run(workspace: &Workspace) -> Result<Counts> {
    const NAME: &str = "memcheck";
    if !succeeds("valgrind", &["--version"]) {
        return Ok(Counts::skip(NAME, "needs valgrind: apt-get install valgrind"));
    }
    let mut digest = Digest::new(&workspace.test_log(NAME))?;
    let mut counts = Counts::default();
    let mut missing = TESTS.to_vec();
    for test in executables(workspace)? {
        let package = test.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(at) = missing.iter().position(|known| *known == (&package, &test.target)) else {
            continue;
        };
        missing.swap_remove(at);
        counts += test.run(under_valgrind(&test.path), workspace, &mut digest)?;
    }
    counts.failing = digest.end();
    for (package, test) in missing {
        println!("{package} has no test {test}");
        counts += Counts::failure();
    }
    if !cargo(&["build", "--release"]).args(PROGRAMS).stream()?.success {
        counts += Counts::failure();
        return Ok(counts);
    }
    for (app, arguments) in APPS {
        let program = workspace.target.join("release").join(app);
        let run = under_valgrind(&program).args(arguments.split_whitespace());
        let output = run.output()?;
        println!("{app} {arguments}: {}", if output.success { "ok" } else { &output.stderr });
        counts += Counts::check(output.success);
    }
    Ok(counts)
}

fn under_valgrind(program: &Path) -> Child {
    Child::new("valgrind").args(["--quiet", "--error-exitcode=99"]).args([program])
}
