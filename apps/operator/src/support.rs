//! What works with what, and how that is known: the one table. README's copy is held against it.

use std::fmt::Write;

use memwire_apps::table::Table;
use serde::Serialize;

/// How it stands with one pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Tested, in the way the notes say.
    Works(&'static [usize]),
    /// Cannot work; the note says why.
    Cannot(usize),
    /// Should work; nobody has tried.
    Untested,
}

use Cell::{Cannot, Untested, Works};

/// The columns: drivers.
const DRIVERS: [&str; 7] = ["ring", "pcap", "af_packet", "dgram", "pci", "dpdk", "null"];

/// The rows: what frames are received into.
const ROWS: [(&str, [Cell; DRIVERS.len()]); 9] = [
    (
        "`host`, whole frames",
        [
            Works(&[1]),
            Works(&[1, 2]),
            Works(&[1, 3]),
            Works(&[1]),
            Works(&[7]),
            Works(&[10]),
            Works(&[4]),
        ],
    ),
    (
        "`hugepage:2M`, whole frames",
        [Works(&[5]), Untested, Works(&[3]), Untested, Works(&[7]), Works(&[11]), Works(&[4])],
    ),
    ("`hugepage:1G`, `private`, whole frames", [Untested; DRIVERS.len()]),
    (
        "`fake` (device memory), split by the driver: path `direct`",
        [Works(&[1, 5]), Cannot(6), Cannot(6), Cannot(6), Works(&[7]), Works(&[12]), Cannot(6)],
    ),
    (
        "`fake` (device memory), path `bounce`",
        [
            Works(&[1, 5]),
            Works(&[5]),
            Works(&[1, 5]),
            Works(&[1]),
            Untested,
            Works(&[10]),
            Untested,
        ],
    ),
    (
        "`p2p` (another device's BAR), path `direct`",
        [Untested, Cannot(6), Cannot(6), Cannot(6), Works(&[8]), Untested, Cannot(6)],
    ),
    (
        "`p2p` (another device's BAR), path `bounce`",
        [Untested, Untested, Untested, Untested, Works(&[8]), Untested, Untested],
    ),
    (
        "`dmabuf`, path `direct`",
        [Untested, Cannot(6), Cannot(6), Cannot(6), Works(&[9]), Untested, Cannot(6)],
    ),
    (
        "`host` as payload memory",
        [Works(&[5]), Untested, Untested, Untested, Untested, Untested, Untested],
    ),
];

/// How it is known, by the number in the cells, from 1.
const NOTES: [&str; 12] = [
    "The conformance suite that every driver runs against a reference queue: `ring`, `pcap` \
     and `dgram` in `cargo test`, `af_packet` over veth in network namespaces (root).",
    "Captures that go through `l2fwd` come out byte for byte; tshark and capinfos agree with what is \
     written; broken files name their record.",
    "`l2fwd` between network namespaces joined by veth: `iperf3` TCP and UDP both ways, 0 \
     retransmissions and 0 datagrams lost on the way. Physical NICs are untested.",
    "`l2fwd -p null: -p null:`.",
    "`gpurx`: its demo wire by both paths, captures of tcpdump's, tcpreplay and ffmpeg's RTP over \
     veth.",
    "The driver has no header/data split; `gpurx` takes the bounce path and says so.",
    "The conformance suite between two emulated 82574L and between two emulated 82576 (QEMU 10.0), \
     over type1 and iommufd, whole and split; a million frames of each chip in each mode, none lost. \
     Hardware is untested.",
    "In the testbed: both chips write payloads into the BAR of another device, over type1 and iommufd, and \
     without an IOMMU by its address on the bus; the host finds every row in the file behind it, and the IOMMU \
     logs no fault. Hardware is untested.",
    "In the testbed: an 82574L writes into a udmabuf over type1, an 82576 into one of hugepages and into a BAR's \
     dma-buf over iommufd; the buffer comes from one process, and another reads every row. Hardware is untested.",
    "Feature `dpdk`, libdpdk 22.11: the conformance suite over net_ring, net_memif, net_af_packet, and \
     net_virtio_user with net_vhost; testpmd as the other end over memif, vhost and virtio_user; the apps with each \
     other and with testpmd.",
    "In the testbed: the conformance suite between two emulated 82574L and between two emulated 82576 by DPDK's \
     drivers and vfio-pci, each segment proved to lie in its slot by its address. Hardware is untested.",
    "By a model in C that has ports of DPDK's split as mlx5 and ice do (buffer split): the conformance suite, and \
     `gpurx`. Hardware is untested.",
];

impl Cell {
    fn notes(self) -> String {
        let notes = match &self {
            Works(notes) => notes,
            Cannot(note) => std::slice::from_ref(note),
            Untested => &[],
        };
        notes.iter().map(|note| format!(" {note}")).collect()
    }

    fn markdown(self) -> String {
        match self {
            Works(_) => format!("✅{}", self.notes()),
            Cannot(_) => format!("❌{}", self.notes()),
            Untested => "*untested*".to_owned(),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Works(_) => "yes",
            Cannot(_) => "no",
            Untested => "untested",
        }
    }
}

/// The table as README has it: its rows, one a line, and the notes, one a line.
#[must_use]
pub fn markdown() -> (Vec<String>, Vec<String>) {
    let drivers = DRIVERS.map(|driver| format!("`{driver}`")).join(" | ");
    let mut rows = vec![format!("| receive into | {drivers} |")];
    for (memory, cells) in &ROWS {
        rows.push(format!("| {memory} | {} |", cells.map(Cell::markdown).join(" | ")));
    }
    let notes = (1..).zip(NOTES).map(|(number, note)| format!("{number}. {note}")).collect();
    (rows, notes)
}

/// The table for a terminal.
pub(crate) fn text() -> String {
    let mut table = Table::new(&[&["receive into"], &DRIVERS[..]].concat()).words(5);
    for (memory, cells) in &ROWS {
        let cells = cells.map(|cell| format!("{}{}", cell.word(), cell.notes()));
        table.row(std::iter::once(plain(memory)).chain(cells));
    }
    let mut text = table.to_string();
    for (number, note) in (1..).zip(NOTES) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{number}. {}", plain(note));
    }
    text
}

fn plain(markdown: &str) -> String {
    markdown.replace('`', "")
}

/// One cell, for programs.
#[derive(Serialize)]
pub(crate) struct Entry {
    memory: String,
    driver: &'static str,
    works: &'static str,
    notes: Vec<String>,
}

/// Every cell, for programs.
pub(crate) fn entries() -> Vec<Entry> {
    let entry = |memory: &str, driver, cell: Cell| Entry {
        memory: plain(memory),
        driver,
        works: cell.word(),
        notes: match cell {
            Works(notes) => notes.iter().map(|note| plain(NOTES[note - 1])).collect(),
            Cannot(note) => vec![plain(NOTES[note - 1])],
            Untested => Vec::new(),
        },
    };
    let row = |(memory, cells): &(&str, [Cell; DRIVERS.len()])| -> Vec<Entry> {
        DRIVERS.into_iter().zip(*cells).map(|(driver, cell)| entry(memory, driver, cell)).collect()
    };
    ROWS.iter().flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line, whatever lines it was broken into.
    fn joined(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn readme_has_this_table_and_no_other() {
        let readme = include_str!("../../../README.md");
        let (rows, notes) = markdown();
        for row in &rows {
            assert!(readme.lines().any(|line| line == row), "README lacks this row:\n{row}");
        }
        let first = readme.lines().position(|line| *line == rows[0]).unwrap_or_default();
        let table = readme.lines().skip(first).take_while(|line| line.starts_with('|')).count();
        assert_eq!(table, rows.len() + 1, "README's table has rows that are not known here");
        let flat = joined(readme);
        for note in &notes {
            assert!(flat.contains(note.as_str()), "README lacks this note:\n{note}");
        }
    }

    #[test]
    fn every_driver_of_the_table_exists_and_every_driver_is_in_it() {
        let mut known: Vec<_> = pmd::Registry::drivers().iter().map(|driver| driver.name).collect();
        if !known.contains(&"dpdk") {
            // It is there with its feature.
            known.push("dpdk");
        }
        let mut here = DRIVERS.to_vec();
        known.sort_unstable();
        here.sort_unstable();
        assert_eq!(here, known);
    }

    #[test]
    fn every_note_is_used_and_every_number_has_a_note() {
        let mut used: Vec<usize> = Vec::new();
        for cell in ROWS.iter().flat_map(|(_, cells)| cells) {
            match cell {
                Works(notes) => used.extend(*notes),
                Cannot(note) => used.push(*note),
                Untested => {}
            }
        }
        used.sort_unstable();
        used.dedup();
        assert_eq!(used, (1..=NOTES.len()).collect::<Vec<_>>());
    }
}
