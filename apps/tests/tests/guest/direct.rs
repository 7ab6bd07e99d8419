//! Payloads straight into another device's memory: frames from the host go through a NIC into the BAR of a
//! device that is no NIC, and the host, which has the file behind that BAR, plays the device: it reads every
//! row of the tensor there. The guest's CPU touches no payload; in one run it has no mapping of the BAR at all.

use std::{fs::File, os::unix::fs::FileExt};

use memwire_apps::traffic::Stamp;
use serde_json::Value;

use crate::{
    apps::Host,
    machine::{App, Machine, binary, is_full, number, sum},
    probe::ask,
};

/// Bytes of a UDP payload, which is a row; and from one row to the next.
const ROW: usize = 1024;
/// Headers before it: Ethernet, IPv4, UDP.
const HEADERS: usize = 42;
/// Rows of a block.
const BLOCK: u64 = 256;
/// Descriptors: an 82576 of QEMU's that finds none free drops frames and counts nothing.
const RING: u64 = 4096;
/// Rows of a round: as many as stay in 64 MiB beside those of the buffers that are posted.
const ROUND: u64 = 50_000;
/// Frames per NIC and interface of a short run, and of a full one.
const FRAMES: [u64; 2] = [10_000, 200_000];
/// What an emulated NIC takes without loss, on a busy machine.
const RATE: &str = "--rate 3kpps";

/// The interfaces to the IOMMU, and what they need beside: type1 takes a BAR by its mapping in this process,
/// iommufd by a dma-buf, without any.
const WAYS: [(&str, &str); 3] = [("type1", ""), ("iommufd", ""), ("iommufd", ",cpu=off")];

/// One way from the host into the BAR.
struct Way<'a> {
    machine: &'a Machine,
    nic: &'a str,
    iommu: &'a str,
    /// Options of the memory.
    options: &'a str,
}

impl Way<'_> {
    fn receiver(&self, rows: u64, sink: &str) -> App<'_> {
        let Self { machine, nic, iommu, options } = self;
        let (port, bar) = (machine.port(nic), machine.address("bar").unwrap());
        // Every row stays where it landed: as many blocks as come, what is posted, and what is open.
        let blocks = rows.div_ceil(BLOCK) + RING / BLOCK + 5;
        let line = format!(
            "-p {port},iommu={iommu} -m p2p:{bar}/bar2{options} --path direct --sink {sink} --seq ipid \
             --udp-port 9000 -c {rows} --rows {BLOCK} --blocks {blocks} --ring {RING} --buffer-size {ROW} \
             --deadline 60s --max-loss 0%"
        );
        machine.receive("gpurx", &line)
    }

    /// Has the host send so many frames, and returns what the receiver says of them.
    fn round(&self, rows: u64, sink: &str) -> Value {
        let receiver = self.receiver(rows, sink);
        self.send(rows);
        receiver.end_when_quiet()
    }

    fn send(&self, rows: u64) {
        let end = self.machine.host_end(self.nic).unwrap();
        let line = format!("--ip-id --size {} -c {rows} {RATE}", HEADERS + ROW);
        Host::start("pktgen", &end, &line).summary();
    }
}

/// The file behind the BAR, emptied.
fn emptied(machine: &Machine) -> File {
    let path = machine.out().join("bar.img");
    let file = File::options().read(true).write(true).open(path).unwrap();
    let zeros = vec![0; 1 << 20];
    for at in (0..file.metadata().unwrap().len()).step_by(zeros.len()) {
        file.write_all_at(&zeros, at).unwrap();
    }
    file
}

/// Holds what the BAR's file has against what was sent: so many rows, each whole and once, in order, and those of
/// a block one behind the other, as a tensor has them.
fn check_rows(bar: &File, rows: u64) {
    let slots = bar.metadata().unwrap().len() / ROW as u64;
    let (mut row, mut next, mut last) = ([0; ROW], 0, None);
    for slot in 0..slots {
        bar.read_exact_at(&mut row, slot * ROW as u64).unwrap();
        let Some(stamp) = Stamp::read(&row) else { continue };
        assert_eq!(stamp.sequence, next, "another row in slot {slot}");
        assert_eq!(crc32c::crc32c(&row[stamp.len..]), stamp.crc, "row {next} is not what was sent");
        let is_first = next % BLOCK == 0;
        assert!(
            is_first || last == Some(slot - 1),
            "row {next} of a tensor is elsewhere, in slot {slot}"
        );
        (next, last) = (next + 1, Some(slot));
    }
    assert_eq!(next, rows, "rows in the BAR");
}

/// What the IOMMU has refused, since that place in the kernel's log.
fn faults(machine: &Machine, since: usize) -> Vec<String> {
    let log = machine.console();
    log[since..].lines().filter(|line| line.contains("DMAR: [DMA")).map(str::to_owned).collect()
}

#[test]
fn the_host_finds_every_row_in_the_bar_that_a_nic_wrote_it_to() {
    let test = "the_host_finds_every_row_in_the_bar_that_a_nic_wrote_it_to";
    let Some(machine) = Machine::open(test, "default") else {
        return;
    };
    machine.bind(&["bar"]).unwrap();
    let (since, frames) = (machine.console().len(), FRAMES[usize::from(is_full())]);
    for nic in ["e1000e0", "igb0"] {
        for (iommu, options) in WAYS {
            let way = Way { machine: &machine, nic, iommu, options };
            let mut left = frames;
            while left > 0 {
                let rows = left.min(ROUND);
                let bar = emptied(&machine);
                let summary = way.round(rows, "place");
                assert_eq!(summary["path"], "direct");
                assert_eq!(number(&summary, "/frames/rows"), rows, "{summary:#}");
                assert_eq!(number(&summary, "/host_payload_bytes"), 0, "{summary:#}");
                assert_eq!(sum(&summary["drops"]), 0, "{summary:#}");
                let probe = &summary["probes"][0];
                match options {
                    // Nobody can look, and that is said.
                    ",cpu=off" => assert!(probe["not_probed"].is_string(), "{probe:#}"),
                    _ => assert_eq!(number(probe, "/places"), 2, "{probe:#}"),
                }
                let provider = summary["memory"]["provider"].as_str().unwrap();
                assert!(provider.starts_with("p2p:0000:03:00.0/bar2"), "{summary:#}");
                check_rows(&bar, rows);
                left -= rows;
            }
            eprintln!(
                "{test}: {nic} iommu={iommu}{options}: {frames} rows right in the BAR's file"
            );
        }
    }
    assert_eq!(faults(&machine, since), Vec::<String>::new());
    machine.unbind(&["bar"]).unwrap();
}

#[test]
fn without_an_iommu_a_bar_is_reached_by_its_address_on_the_bus() {
    let test = "without_an_iommu_a_bar_is_reached_by_its_address_on_the_bus";
    let Some(machine) = Machine::open(test, "noiommu") else {
        return;
    };
    let frames = FRAMES[usize::from(is_full())].min(ROUND);
    for nic in ["e1000e0", "igb0"] {
        let iommu = "none,i-accept-unsafe-dma";
        let way = Way { machine: &machine, nic, iommu, options: "" };
        let bar = emptied(&machine);
        let summary = way.round(frames, "place");
        assert_eq!(summary["path"], "direct");
        assert_eq!(number(&summary, "/frames/rows"), frames, "{summary:#}");
        assert_eq!(number(&summary, "/host_payload_bytes"), 0, "{summary:#}");
        assert_eq!(number(&summary["probes"][0], "/places"), 2, "{summary:#}");
        check_rows(&bar, frames);
        eprintln!("{test}: {nic}: {frames} rows right in the BAR's file");
    }
}

#[test]
fn rows_are_right_through_the_bars_own_window_too() {
    let test = "rows_are_right_through_the_bars_own_window_too";
    let Some(machine) = Machine::open(test, "default") else {
        return;
    };
    machine.bind(&["bar"]).unwrap();
    for (nic, iommu) in [("e1000e0", "type1"), ("igb0", "iommufd")] {
        let way = Way { machine: &machine, nic, iommu, options: "" };
        let summary = way.round(4_000, "verify");
        assert_eq!(number(&summary, "/verify/ok"), 4_000, "{summary:#}");
        assert_eq!(number(&summary, "/verify/bad"), 0, "{summary:#}");
    }
    machine.unbind(&["bar"]).unwrap();
}

/// Bytes of BARs that a process of that name has mapped.
fn mapped(machine: &Machine) -> u64 {
    let maps = ask(machine, "cat /proc/$(pgrep -x gpurx)/maps");
    let span = |line: &str| {
        let (from, to) = line.split_whitespace().next()?.split_once('-')?;
        Some(u64::from_str_radix(to, 16).ok()? - u64::from_str_radix(from, 16).ok()?)
    };
    maps.lines().filter(|line| line.contains("vfio")).filter_map(span).sum()
}

#[test]
fn without_a_cpu_mapping_no_byte_of_the_bar_is_in_the_process() {
    let test = "without_a_cpu_mapping_no_byte_of_the_bar_is_in_the_process";
    let Some(machine) = Machine::open(test, "default") else {
        return;
    };
    machine.bind(&["bar"]).unwrap();
    let bar = 64 << 20;
    for (options, is_mapped) in [("", true), (",cpu=off", false)] {
        let way = Way { machine: &machine, nic: "igb0", iommu: "iommufd", options };
        let receiver = way.receiver(1_000, "place");
        let mapped = mapped(&machine);
        assert_eq!(mapped >= bar, is_mapped, "{mapped} bytes of BARs with '{options}'");
        way.send(1_000);
        let summary = receiver.end_when_quiet();
        assert_eq!(number(&summary, "/frames/rows"), 1_000, "{summary:#}");
        eprintln!("{test}: igb0{options}: {mapped} bytes of BARs mapped");
    }
    // Who maps by addresses needs one.
    let (nic, memory) = (machine.port("igb0"), machine.address("bar").unwrap());
    let line = format!("-p {nic},iommu=type1 -m p2p:{memory}/bar2,cpu=off --seq ipid -t 1s");
    let refused = machine.run(&format!("{} {line}", binary("gpurx"))).unwrap();
    assert_eq!(refused.status, 3, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("leave cpu=off away, or use iommu=iommufd"),
        "{}",
        refused.stderr
    );
    machine.unbind(&["bar"]).unwrap();
}
