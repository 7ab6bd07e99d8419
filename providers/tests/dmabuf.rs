//! dma-bufs of the kernel's own exporters, in one process and in two: needs `/dev/udmabuf` and a dma-heap, as the
//! testbed's guest has them, and says SKIP elsewhere. Counts of descriptors are exact with `--test-threads=1`.
#![allow(unsafe_code, reason = "asks a dma-heap for a dma-buf that may only be read")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use mempool::{
    Backing, Cpu, CpuAccess, Device, Error, Peer, Pool, Provider, ProviderError, Region,
    RegionRequest,
};
use providers::{
    DmaBuf, PageSize, Sysfs,
    conformance::{self, Subject},
    dmabuf::{Buffer, Event, Offer},
};

const MIB: usize = 1 << 20;
/// Nothing here takes longer, under emulation.
const DEADLINE: Duration = Duration::from_secs(60);

/// Whether there is such a device; says SKIP if not.
fn has(test: &str, path: &str) -> bool {
    let is_here = Path::new(path).exists();
    if !is_here {
        eprintln!("SKIP {test}: {path} is not here");
    }
    is_here
}

fn has_udmabuf(test: &str) -> bool {
    has(test, "/dev/udmabuf")
}

fn has_heap(test: &str) -> bool {
    has(test, "/dev/dma_heap/system")
}

fn has_hugepages(test: &str, pages: u64) -> bool {
    let free = Sysfs::system().available_hugepages(PageSize::TwoMiB, None).unwrap_or(0);
    if free < pages {
        eprintln!("SKIP {test}: {free} hugepages of 2M can be had, it needs {pages}");
    }
    free >= pages
}

fn must<T>(made: Result<T, ProviderError>) -> T {
    made.unwrap_or_else(|error| panic!("{error}"))
}

fn udmabuf(bytes: usize) -> DmaBuf {
    must(DmaBuf::udmabuf(bytes, None))
}

fn ask(provider: &DmaBuf, len: usize) -> Result<Region, ProviderError> {
    provider.alloc(&RegionRequest { name: "rx".into(), len, align: 64 })
}

/// As if another library had made it: nothing is known but the descriptor.
fn imported(provider: DmaBuf) -> DmaBuf {
    let fd = provider.buffer().fd().try_clone().unwrap();
    drop(provider);
    DmaBuf::new(must(Buffer::from_fd(fd)))
}

#[test]
fn a_udmabuf_conforms() {
    if has_udmabuf("a_udmabuf_conforms") {
        conformance::run(&|| Subject::new(udmabuf(MIB)));
    }
}

#[test]
fn a_udmabuf_of_hugepages_conforms() {
    let test = "a_udmabuf_of_hugepages_conforms";
    if has_udmabuf(test) && has_hugepages(test, 16) {
        conformance::run(&|| Subject::new(must(DmaBuf::udmabuf(16 * MIB, Some(PageSize::TwoMiB)))));
    }
}

#[test]
fn an_imported_udmabuf_conforms() {
    if has_udmabuf("an_imported_udmabuf_conforms") {
        conformance::run(&|| Subject::new(imported(udmabuf(MIB))));
    }
}

#[test]
fn a_udmabuf_without_the_cpu_conforms() {
    if has_udmabuf("a_udmabuf_without_the_cpu_conforms") {
        conformance::run(&|| Subject::new(udmabuf(MIB).without_cpu()));
    }
}

#[test]
fn a_dma_heap_conforms() {
    if has_heap("a_dma_heap_conforms") {
        conformance::run(&|| Subject::new(must(DmaBuf::heap("system", MIB))));
    }
}

#[test]
fn each_exporter_is_known_by_name_size_and_what_the_cpu_may_do() {
    let test = "each_exporter_is_known_by_name_size_and_what_the_cpu_may_do";
    if !has_udmabuf(test) || !has_heap(test) {
        return;
    }
    // Rounded up to pages.
    let made = udmabuf(MIB - 1);
    let buffer = made.buffer();
    assert_eq!((buffer.identity().exporter.as_str(), buffer.bytes()), ("udmabuf", MIB as u64));
    assert!(buffer.cpu_mapping().is_ok() && buffer.memory().is_some());
    assert_eq!(made.info().cpu_access, CpuAccess::ReadWrite);
    let region = must(ask(&made, 1));
    let Backing::DmaBuf { offset: 0, memory: Some(_), .. } = region.backing() else {
        panic!("{:?}", region.backing());
    };
    let heap = must(DmaBuf::heap("system", MIB));
    let buffer = heap.buffer();
    assert_eq!(buffer.bytes(), MIB as u64);
    assert!(buffer.cpu_mapping().is_ok() && buffer.memory().is_none());
    eprintln!("{test}: a heap's exporter is '{}'", buffer.identity().exporter);
    let other = imported(heap);
    assert_eq!(other.info().cpu_access, CpuAccess::Volatile);
    let refused = Pool::<Cpu>::builder().slots(4).stride(2048).memory(&other).build();
    assert!(matches!(refused, Err(Error::WrongAccess { .. })), "others may write: no slices");
    drop(Pool::<Peer>::builder().slots(4).stride(2048).memory(&other).build().unwrap());
    drop(Pool::<Device>::builder().slots(4).stride(2048).memory(&other).build().unwrap());
}

#[test]
fn the_same_dma_buf_is_imported_once() {
    if !has_udmabuf("the_same_dma_buf_is_imported_once") {
        return;
    }
    let first = udmabuf(MIB);
    let number = first.buffer().fd().as_raw_fd();
    let error = DmaBuf::from_number(number).unwrap_err().to_string();
    let says = format!(
        "dmabuf:fd={number}: fd {number} is a dma-buf that this process has already, as dmabuf:udm"
    );
    assert!(error.starts_with(&says), "{error}");
    let kept = first.buffer().fd().try_clone().unwrap();
    let region = must(ask(&first, 1));
    drop(first);
    let error = DmaBuf::from_number(kept.as_raw_fd()).unwrap_err().to_string();
    assert!(error.contains("this process has already"), "a region still uses it: {error}");
    drop(region);
    drop(must(DmaBuf::from_number(kept.as_raw_fd())));
}

#[test]
fn more_than_there_is_says_how_much_that_is() {
    if !has_udmabuf("more_than_there_is_says_how_much_that_is") {
        return;
    }
    let pool = Pool::<Device>::builder().slots(2048).stride(2048).memory(&udmabuf(MIB)).build();
    let error = pool.unwrap_err().to_string();
    assert!(error.contains("dmabuf:udmabuf: needs 4 MiB, but only 1 MiB can be had"), "{error}");
    let limit = fs::read_to_string("/sys/module/udmabuf/parameters/size_limit_mb");
    let limit: usize = limit.expect("a parameter of udmabuf").trim().parse().unwrap();
    let error = DmaBuf::udmabuf((limit + 1) * MIB, None).unwrap_err().to_string();
    assert!(error.contains(&format!("can be had; as root: echo {} >", limit + 1)), "{error}");
}

/// `struct dma_heap_allocation_data` of `<linux/dma-heap.h>`.
#[repr(C)]
struct HeapAllocation {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

#[test]
fn a_dma_buf_that_may_only_be_read_is_refused() {
    if !has_heap("a_dma_buf_that_may_only_be_read_is_refused") {
        return;
    }
    let heap = fs::File::open("/dev/dma_heap/system").unwrap();
    let fd_flags = (libc::O_RDONLY | libc::O_CLOEXEC).cast_unsigned();
    let mut allocation = HeapAllocation { len: 4096, fd: 0, fd_flags, heap_flags: 0 };
    // SAFETY: `DMA_HEAP_IOCTL_ALLOC` takes this structure.
    let done = unsafe { libc::ioctl(heap.as_raw_fd(), 0xc018_4800, &raw mut allocation) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: made for us just now.
    let fd = unsafe { OwnedFd::from_raw_fd(allocation.fd.cast_signed()) };
    let error = Buffer::from_fd(fd).unwrap_err().to_string();
    assert!(
        error.contains("is open for reading only (O_RDONLY), and payloads are written"),
        "{error}"
    );
}

#[test]
fn who_is_alone_with_a_buffer_stays_so() {
    if !has_udmabuf("who_is_alone_with_a_buffer_stays_so") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let alone = udmabuf(MIB);
    drop(must(ask(&alone, 1)));
    let error = alone.offer(&folder.path().join("a")).unwrap_err().to_string();
    assert!(error.contains("offer it to others before the first pool"), "{error}");
    let shared = udmabuf(MIB);
    let offer = must(shared.offer(&folder.path().join("b")));
    assert_eq!(must(ask(&shared, 1)).cpu_access(), CpuAccess::Volatile);
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(offer.path()).unwrap());
    assert_eq!(mode & 0o777, 0o600, "other users' processes could connect");
    let error = must_fail(udmabuf(MIB).offer(offer.path()));
    assert!(error.contains("another process offers there"), "{error}");
    let path = offer.path().to_owned();
    drop(offer);
    assert!(!path.exists(), "the socket goes with its offer");
    fs::write(&path, "somebody's").unwrap();
    must_fail(udmabuf(MIB).offer(&path));
    assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's", "no file of others is replaced");
}

fn must_fail(offer: Result<Offer, ProviderError>) -> String {
    offer.unwrap_err().to_string()
}

// Two processes: this one, and another of the same executable that runs one test of the same name.

/// Where the other process finds the offer, or makes it.
const PATH: &str = "MEMWIRE_DMABUF_PEER";

struct Other {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Other {
    /// Starts a process that plays that role.
    fn start(role: &str, path: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", role, "--nocapture", "--test-threads=1"]).env(PATH, path);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { input: child.stdin.take().unwrap(), output, child }
    }

    /// Waits until it says that it has come so far.
    fn await_word(&mut self, word: &str) {
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

    fn kill(mut self) {
        // SIGKILL.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn say(word: &str) {
    println!("{word}");
}

fn wait_to_go_on() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn pattern(seed: u8) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(SHARED).map(|byte| byte.wrapping_mul(29) ^ seed).collect()
}

/// Bytes that two processes share: two hugepages.
const SHARED: usize = 4 * MIB;

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
    let mut importer = Other::start("role_importer", path);
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
        let mut exporter = Other::start("role_exporter", path);
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
