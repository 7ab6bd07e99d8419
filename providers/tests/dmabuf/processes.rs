//! Two processes that share a buffer and end in any order: this one, and another of the same executable, which
//! runs a test that plays its role and does nothing when it is run by itself.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use mempool::{ProviderError, Region};
use providers::{
    DmaBuf, PageSize, Sysfs,
    dmabuf::{Event, Offer},
};

use crate::{DEADLINE, MIB, ask, has_hugepages, has_udmabuf, must};

/// Where the other process finds the offer, or makes it.
pub(crate) const PATH: &str = "MEMWIRE_DMABUF_PEER";

pub(crate) struct Other {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Other {
    /// Starts a process that plays that role.
    pub(crate) fn start(role: &str, path: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", role, "--nocapture", "--test-threads=1"]).env(PATH, path);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { input: child.stdin.take().unwrap(), output, child }
    }

    /// Waits until it says that it has come so far.
    pub(crate) fn await_word(&mut self, word: &str) {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if line.contains(word) {
                return;
            }
            line.clear();
        }
        panic!("the other process ended before it said '{word}'");
    }

    /// Lets it go on.
    fn go_on(&mut self) {
        self.input.write_all(b"\n").unwrap();
    }

    fn end(mut self) {
        assert!(self.child.wait().unwrap().success(), "the other process failed");
    }

    pub(crate) fn kill(mut self) {
        // SIGKILL.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

pub(crate) fn say(word: &str) {
    println!("{word}");
}

fn wait_to_go_on() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn pattern(seed: u8) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(SHARED).map(|byte| byte.wrapping_mul(29) ^ seed).collect()
}

/// Bytes that two processes share: two hugepages.
pub(crate) const SHARED: usize = 4 * MIB;

/// Imports, writes into every byte as a pool's owner would, and says so; ends when told.
#[test]
fn role_importer() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let provider = must(DmaBuf::receive(Path::new(&path)));
    assert_eq!(provider.buffer().identity().exporter, "udmabuf");
    assert_eq!(provider.buffer().page_size(), 2 * MIB);
    assert!(provider.buffer().memory().is_some(), "its memory file came along");
    let mut region = must(ask(&provider, SHARED));
    region.write(0, &pattern(1)).unwrap();
    provider.check().unwrap();
    say("written");
    wait_to_go_on();
    if let Err(gone) = provider.check() {
        assert!(gone.to_string().ends_with("takes it back"), "{gone}");
        assert!(region.handle().is_revoked() && ask(&provider, 1).is_err());
        assert_eq!(provider.check(), Err(gone), "and so for ever");
        let mut bytes = vec![0; SHARED];
        region.read(0, &mut bytes).unwrap();
        assert!(bytes == pattern(1), "memory goes with its last user, not with its exporter");
        say("revoked");
    }
}

/// Exports until it is ended.
#[test]
fn role_exporter() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let provider = must(DmaBuf::udmabuf(SHARED, Some(PageSize::TwoMiB)));
    let mut offer = must(provider.offer(Path::new(&path)));
    say("offered");
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        must(offer.serve(Duration::from_millis(100)));
    }
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn mappings() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("dmabuf") || line.contains("memwire:dma-buf")).count()
}

fn free_pages() -> u64 {
    Sysfs::system().hugepages(PageSize::TwoMiB, None).unwrap().free
}

fn await_event(offer: &mut Offer, what: impl Fn(&Event) -> bool) {
    let end = Instant::now() + DEADLINE;
    while !must(offer.serve(Duration::from_millis(100))).iter().any(&what) {
        assert!(Instant::now() < end, "{:?}: nothing of the kind in {DEADLINE:?}", offer.path());
    }
}

/// Two processes in every order of going; afterwards everything is as it was.
fn two_processes(test: &str, scene: impl Fn(&Path)) {
    if !has_udmabuf(test) || !has_hugepages(test, 4) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("offer");
    let before = (descriptors(), mappings(), free_pages());
    for _ in 0..3 {
        scene(&path);
        let end = Instant::now() + DEADLINE;
        while (descriptors(), mappings(), free_pages()) != before {
            let now = (descriptors(), mappings(), free_pages());
            assert!(
                Instant::now() < end,
                "descriptors, mappings, free pages: {now:?} of {before:?}"
            );
            std::thread::yield_now();
        }
    }
}

/// Exports, has another process write, and sees its bytes.
fn shown(path: &Path) -> (DmaBuf, Region, Offer, Other) {
    let provider = must(DmaBuf::udmabuf(SHARED, Some(PageSize::TwoMiB)));
    let mut offer = must(provider.offer(path));
    let region = must(ask(&provider, SHARED));
    let mut importer = Other::start("processes::role_importer", path);
    await_event(&mut offer, |event| matches!(event, Event::Taken { .. }));
    importer.await_word("written");
    assert_eq!(offer.importers(), 1);
    let mut bytes = vec![0; SHARED];
    region.read(0, &mut bytes).unwrap();
    assert!(bytes == pattern(1), "the exporter sees other bytes than the importer wrote");
    (provider, region, offer, importer)
}

#[test]
fn an_importer_that_ends_first_leaves_nothing() {
    two_processes("an_importer_that_ends_first_leaves_nothing", |path| {
        let (_provider, _region, mut offer, mut importer) = shown(path);
        importer.go_on();
        importer.end();
        await_event(&mut offer, |event| matches!(event, Event::Left { .. }));
        assert_eq!(offer.importers(), 0);
    });
}

#[test]
fn an_importer_that_is_killed_leaves_nothing() {
    two_processes("an_importer_that_is_killed_leaves_nothing", |path| {
        let (_provider, _region, mut offer, importer) = shown(path);
        importer.kill();
        await_event(&mut offer, |event| matches!(event, Event::Left { .. }));
    });
}

#[test]
fn an_exporter_that_ends_first_takes_its_memory_back() {
    two_processes("an_exporter_that_ends_first_takes_its_memory_back", |path| {
        let (provider, region, offer, mut importer) = shown(path);
        drop((provider, region, offer));
        importer.go_on();
        importer.await_word("revoked");
        importer.end();
    });
}

#[test]
fn an_exporter_that_is_killed_is_noticed_and_its_place_can_be_taken() {
    let test = "an_exporter_that_is_killed_is_noticed_and_its_place_can_be_taken";
    two_processes(test, |path| {
        let mut exporter = Other::start("processes::role_exporter", path);
        exporter.await_word("offered");
        let provider = must(DmaBuf::receive(path));
        let mut region = must(ask(&provider, SHARED));
        provider.check().unwrap();
        exporter.kill();
        let gone = provider.check().unwrap_err().to_string();
        assert!(gone.contains("has ended, or closed the connection"), "{gone}");
        assert!(region.handle().is_revoked());
        let refused = ask(&provider, 1);
        assert!(matches!(refused, Err(ProviderError::Revoked { .. })), "{refused:?}");
        region.write(0, &pattern(2)).unwrap();
        drop((provider, region));
        assert!(path.exists(), "who is killed cannot tidy up");
        drop(must(DmaBuf::udmabuf(2 * MIB, Some(PageSize::TwoMiB)).and_then(|it| it.offer(path))));
    });
}
