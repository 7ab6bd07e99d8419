//! What an ordinary user sees: the unit tests and the README's first command without root. The
//! executables are those that root built; only who runs them changes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::cargo_tests::executables;
use crate::child::Child;
use crate::digest::Digest;
use crate::tally::Counts;
use crate::workspace::{PROGRAMS, Workspace, cargo, is_root, succeeds};

/// The user and group `nobody`.
const NOBODY: &str = "65534";
/// Tests that build something, so that they need to write to the target folder.
const BUILDING_TESTS: [&str; 1] = ["compile_fail"];

/// Runs each unit test executable as nobody.
pub(super) fn tests(workspace: &Workspace) -> Result<Counts> {
    const NAME: &str = "unprivileged";
    if !is_root() {
        return Ok(Counts::skip(NAME, "not root, so the unit stage was this already"));
    }
    if !succeeds("setpriv", &["--version"]) {
        return Ok(Counts::skip(NAME, "needs setpriv (util-linux)"));
    }
    let executables = executables(workspace)?;
    let scratch = Scratch::new(workspace)?;
    let mut digest = Digest::new(&workspace.test_log(NAME))?;
    let mut counts = Counts::default();
    for executable in executables {
        if BUILDING_TESTS.contains(&executable.target.as_str()) {
            continue;
        }
        if !nobody_reaches(&executable.path) {
            return Ok(Counts::skip(NAME, "an ordinary user cannot read this checkout"));
        }
        let command = as_nobody(&executable.path, &scratch).args(["--show-output"]);
        counts += executable.run(command, workspace, &mut digest)?;
    }
    counts.failing = digest.end();
    Ok(counts)
}

/// What a newcomer tries first: each works for anyone, and says in JSON how it went.
const FIRST_RUNS: [(&str, &str); 5] = [
    ("gpurx", "--duration 2s --json"),
    ("pktgen", "--duration 1s --json"),
    ("l2fwd", "-p null: -p null: --duration 1s --json"),
    ("capture", "-p null: -w capture.pcapng --count 1000 --json"),
    ("memwire", "info --json"),
];

/// The first commands of the READMEs, as an ordinary user where that can be arranged.
pub(super) fn fresh_run(workspace: &Workspace) -> Result<Counts> {
    let built = cargo(&["build", "--release"]).args(PROGRAMS).stream()?;
    if !built.success {
        return Ok(Counts::failure());
    }
    let scratch = Scratch::new(workspace)?;
    let mut counts = Counts::default();
    for (app, arguments) in FIRST_RUNS {
        counts += first_run(&workspace.target.join("release").join(app), arguments, &scratch)?;
    }
    Ok(counts)
}

fn first_run(program: &Path, arguments: &str, scratch: &Scratch) -> Result<Counts> {
    let as_other = is_root() && succeeds("setpriv", &["--version"]) && nobody_reaches(program);
    let run = if as_other { as_nobody(program, scratch) } else { Child::new(utf8(program)?) };
    let output = run.args(arguments.split_whitespace()).folder(&scratch.folder).output()?;
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let failed = match serde_json::from_str::<Value>(&output.stdout) {
        _ if !output.success => Some(format!("status {:?}\n{}", output.code, output.stderr)),
        Err(error) => Some(format!("something else than one JSON value: {error}")),
        Ok(_) => None,
    };
    println!("{name} {arguments}: {}", failed.as_deref().unwrap_or("ok"));
    Ok(Counts::check(failed.is_none()))
}

fn as_nobody(program: &Path, scratch: &Scratch) -> Child {
    Child::new("setpriv")
        .args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")])
        .args(["--clear-groups"])
        .args([program])
        .env("TMPDIR", scratch.folder.as_os_str())
        .env("HOME", scratch.folder.as_os_str())
}

fn nobody_reaches(program: &Path) -> bool {
    let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
    let program = program.to_string_lossy();
    succeeds("setpriv", &[&user, &group, "--clear-groups", "test", "-x", &program])
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// A folder that anyone may write to, gone when dropped.
struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    fn new(workspace: &Workspace) -> Result<Self> {
        let own = std::process::id();
        let candidates = [std::env::temp_dir(), workspace.target.clone()];
        for parent in candidates {
            let folder = parent.join(format!("memwire-unprivileged-{own}"));
            if fs::create_dir(&folder).is_ok() {
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777))?;
                return Ok(Self { folder });
            }
        }
        anyhow::bail!("no folder to hand to an ordinary user could be made")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover in the temporary folder is no reason to fail.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
