//! A test in a process of its own, and what that process has: open files, threads, mapped files. Whoever does a
//! thing many times has no more of them afterwards.

use std::{
    env,
    ffi::OsString,
    fs,
    process::{Command, Stdio},
};

use crate::rig::Patience;

/// Set in such a process.
const ALONE: &str = "MEMWIRE_TEST_ALONE";

/// Does something in a process of its own, in which the test `name` is run again.
pub(crate) fn alone(name: &str, what: impl FnOnce()) {
    alone_with(name, Vec::new, what);
}

/// The same with more in the process's environment.
pub(crate) fn alone_with(
    name: &str,
    more: impl FnOnce() -> Vec<(&'static str, OsString)>,
    what: impl FnOnce(),
) {
    if env::var_os(ALONE).is_some() {
        what();
        return;
    }
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .envs(more())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    text.lines().filter(|line| line.starts_with(TOLD)).for_each(|line| println!("{line}"));
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{}\n{text}\n{errors}", child.status);
    assert!(text.contains("test result: ok. 1 passed"), "'{name}' did not run: {text}");
}

/// How a line begins that is to be read outside.
const TOLD: &str = "belongings: ";

/// What this process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Belongings {
    files: usize,
    threads: usize,
    mapped: usize,
}

impl Belongings {
    fn now() -> Self {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let entries = |folder: &str| fs::read_dir(folder).unwrap().count();
        Self {
            files: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            // Those without a name come and go with the C library's stacks.
            mapped: maps.lines().filter(|line| line.contains('/')).count(),
        }
    }
}

/// Does something `rounds` times, each of which may leave as many open files as `round` says. After the second
/// time the process has all else that it needs.
pub(crate) fn again_and_again(rounds: usize, mut round: impl FnMut(usize) -> usize) {
    let (mut before, mut left) = (None, 0);
    for number in 0..rounds {
        left += round(number);
        if number == 1 {
            (before, left) = (Some(Belongings::now()), 0);
        }
    }
    let Some(before) = before else { panic!("{rounds} rounds show no growth") };
    let patience = Patience::short();
    loop {
        let now = Belongings::now();
        let is_same = now.files <= before.files + left
            && now.threads <= before.threads
            && now.mapped <= before.mapped;
        if is_same {
            println!("{TOLD}after 2 of {rounds} rounds {before:?}, at the end {now:?}");
            return;
        }
        assert!(!patience.is_over(), "{rounds} rounds: {before:?} grew to {now:?}");
    }
}
