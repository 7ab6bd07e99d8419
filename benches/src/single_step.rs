//! Exact user instructions of a loop in another program, where there is no performance counter: one of its threads is
//! traced, and made to stop after every instruction. Knows no program: the loop is found in the trace.
#![allow(unsafe_code, reason = "ptrace and waitpid")]

use std::{collections::HashMap, fs};

use rustix::{
    process::Pid,
    thread::{sched_getaffinity, sched_setaffinity},
};

/// The loop is passed as often, or it is not told from chance.
const PASSES_LEAST: usize = 3;
/// Passes that are traced, if they are as long as they may be. An instruction takes about 20 microseconds.
const PASSES: usize = 4;

/// Where a thread was: the instruction, and its stack pointer.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    instruction: u64,
    stack: u64,
}

/// User instructions of one pass of the outermost loop that another program's thread is in, on average over some passes;
/// none where nobody may trace it, or where there is no such loop. A pass must have no more than `most` instructions:
/// else a loop within it may be taken for it.
#[must_use]
pub fn of_a_pass(thread: Pid, most: usize) -> Option<f64> {
    let ours = sched_getaffinity(None).ok()?;
    // On its core, a stop wakes nobody elsewhere: half the time.
    sched_setaffinity(None, &sched_getaffinity(Some(thread)).ok()?).ok()?;
    let places = trace(thread.as_raw_nonzero().get(), PASSES * most);
    sched_setaffinity(None, &ours).ok()?;
    pass(&places?)
}

/// A program's thread whose name has these words in it, and nanoseconds of CPU that it has used; the busiest of several.
#[must_use]
pub fn thread(process: u32, name: &str) -> Option<(Pid, u64)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let threads = tasks.filter_map(|task| {
        let path = task.ok()?.path();
        fs::read_to_string(path.join("comm")).ok()?.contains(name).then_some(())?;
        let used = fs::read_to_string(path.join("schedstat")).ok()?;
        let thread: i32 = path.file_name()?.to_str()?.parse().ok()?;
        Some((Pid::from_raw(thread)?, used.split(' ').next()?.parse().ok()?))
    });
    threads.max_by_key(|(_, nanos)| *nanos)
}

/// Instructions between two passes of a loop's head: of the instructions in the outermost function, which has the least
/// on its stack, one that is executed least often, but from the first to the last part of the trace.
fn pass(trace: &[Place]) -> Option<f64> {
    /// Of one instruction.
    #[derive(Clone, Copy)]
    struct Seen {
        times: usize,
        first: usize,
        last: usize,
    }
    let outermost = trace.iter().map(|place| place.stack).max()?;
    let mut instructions: HashMap<u64, Seen> = HashMap::new();
    for (at, place) in trace.iter().enumerate().filter(|(_, place)| place.stack == outermost) {
        let new = Seen { times: 0, first: at, last: at };
        let seen = instructions.entry(place.instruction).or_insert(new);
        (seen.times, seen.last) = (seen.times + 1, at);
    }
    let part = trace.len() / PASSES_LEAST;
    let all_along = |seen: &&Seen| {
        seen.times >= PASSES_LEAST && seen.first <= part && seen.last >= trace.len() - part
    };
    let head =
        instructions.values().filter(all_along).min_by_key(|seen| (seen.times, seen.first))?;
    #[expect(clippy::cast_precision_loss, reason = "counts of one trace are far below 2^52")]
    let mean = (head.last - head.first) as f64 / (head.times - 1) as f64;
    Some(mean)
}

/// Where a thread was before each of its next instructions. It runs on afterwards.
#[cfg(target_arch = "x86_64")]
fn trace(thread: i32, steps: usize) -> Option<Vec<Place>> {
    let request = |what: libc::c_uint, data: usize| {
        // SAFETY: none of the requests made here writes to this process: `address` is not used, and `data` is a number.
        unsafe { libc::ptrace(what, thread, std::ptr::null_mut::<libc::c_void>(), data) }
    };
    (request(libc::PTRACE_SEIZE, 0) == 0).then_some(())?;
    (request(libc::PTRACE_INTERRUPT, 0) == 0).then_some(())?;
    stopped(thread)?;
    let mut places = Vec::with_capacity(steps);
    let mut signal = 0;
    while places.len() < steps {
        places.push(place(thread));
        if request(libc::PTRACE_SINGLESTEP, usize::try_from(signal).unwrap_or(0)) != 0 {
            break;
        }
        // What others sent it, it gets with the next step.
        signal = stopped(thread).map(|why| if why == libc::SIGTRAP { 0 } else { why })?;
    }
    request(libc::PTRACE_DETACH, 0);
    Some(places)
}

#[cfg(not(target_arch = "x86_64"))]
fn trace(_thread: i32, _steps: usize) -> Option<Vec<Place>> {
    None
}

/// Where a stopped thread is.
#[cfg(target_arch = "x86_64")]
fn place(thread: i32) -> Place {
    let word = |at: usize| {
        // SAFETY: reads a word of the thread's registers, which `struct user` begins with; writes nothing here.
        let word = unsafe { libc::ptrace(libc::PTRACE_PEEKUSER, thread, at, 0) };
        word.cast_unsigned()
    };
    Place {
        instruction: word(std::mem::offset_of!(libc::user_regs_struct, rip)),
        stack: word(std::mem::offset_of!(libc::user_regs_struct, rsp)),
    }
}

/// Waits until the thread has stopped; by which signal. None if it has ended.
#[cfg(target_arch = "x86_64")]
fn stopped(thread: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` is ours, and nobody else waits for this thread: it is traced by us.
    let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
    (waited == thread && libc::WIFSTOPPED(status)).then(|| libc::WSTOPSIG(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop of 10 instructions around a function that loops itself, 3 × 4, and every 16th time has 100 more.
    fn trace_of(passes: usize) -> Vec<Place> {
        let pass = |at: usize| {
            let inner = (0..3).flat_map(|_| 100..104);
            let rare = if at % 16 == 3 { 1000..1100 } else { 0..0 };
            let called = inner.chain(rare).map(|instruction| Place { instruction, stack: 8 });
            (0..10).map(|instruction| Place { instruction, stack: 64 }).chain(called)
        };
        (0..passes).flat_map(pass).collect()
    }

    #[test]
    fn a_pass_of_the_outermost_loop_is_counted_with_its_share_of_what_is_rare() {
        assert_eq!(pass(&trace_of(33)), Some(22.0 + 2.0 * 100.0 / 32.0));
    }

    #[test]
    fn what_the_outermost_function_does_seldom_is_no_pass() {
        let mut trace = trace_of(33);
        for at in [1, 2, 3] {
            trace.insert(at * 22, Place { instruction: 50, stack: 64 });
        }
        assert_eq!(pass(&trace), Some((22.0 * 32.0 + 203.0) / 32.0));
    }

    #[test]
    fn without_a_loop_there_is_nothing_to_count() {
        let straight = (0..1000).map(|instruction| Place { instruction, stack: 8 });
        assert_eq!(pass(&straight.collect::<Vec<_>>()), None);
        assert_eq!(pass(&[]), None);
    }

    #[test]
    fn a_thread_is_found_by_words_of_its_name() {
        std::thread::Builder::new()
            .name("a worker 7".to_owned())
            .spawn(|| {
                let (found, _) = thread(std::process::id(), "worker 7").expect("this one");
                assert_eq!(found, rustix::thread::gettid());
            })
            .expect("a thread")
            .join()
            .expect("no panic");
        assert!(thread(std::process::id(), "no such name").is_none());
    }
}
