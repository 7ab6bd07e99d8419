//! Sound machines, in a table.

use vfio::topology::{Path, between};

use crate::tree::{Tree, address};

/// A machine, the two functions on it, and what is to be said of them.
struct Case {
    name: &'static str,
    lines: &'static str,
    cpu: &'static str,
    /// NIC and memory.
    ends: [&'static str; 2],
    /// Distance, the kernel's verdict, that through VFIO, letters.
    told: (u32, &'static str, &'static str, &'static str),
    /// Who redirects, or cannot be read.
    listed: &'static [&'static str],
}

const ZEN: &str = "vendor_id\t: AuthenticAMD\ncpu family\t: 25\n";

const CASES: [Case; 20] = [
    Case {
        name: "one function",
        lines: "pci0000:00/00:01.0 port acs=1d
                pci0000:00/00:01.0/01:00.0 dev group=1",
        cpu: "",
        ends: ["01:00.0", "01:00.0"],
        told: (0, "BUS_ADDR", "unproved", "X"),
        listed: &[],
    },
    Case {
        name: "two functions of a device",
        lines: "pci0000:00/00:01.0 port
                pci0000:00/00:01.0/01:00.0 dev group=1
                pci0000:00/00:01.0/01:00.1 dev group=1",
        cpu: "",
        ends: ["01:00.0", "01:00.1"],
        told: (2, "BUS_ADDR", "unproved", "PIX"),
        listed: &[],
    },
    Case {
        name: "two functions of a device whose port redirects: the common bridge counts",
        lines: "pci0000:00/00:01.0 port acs=1d
                pci0000:00/00:01.0/01:00.0 dev group=1
                pci0000:00/00:01.0/01:00.1 dev group=1",
        cpu: "",
        ends: ["01:00.0", "01:00.1"],
        told: (2, "NOT_SUPPORTED", "unproved", "PIX"),
        listed: &["00:01.0"],
    },
    Case {
        name: "two functions with ACS between themselves",
        lines: "pci0000:00/00:01.0 port
                pci0000:00/00:01.0/01:00.0 dev acs=0c group=1
                pci0000:00/00:01.0/01:00.1 dev acs=0c group=2",
        cpu: ZEN,
        ends: ["01:00.0", "01:00.1"],
        told: (2, "THRU_HOST_BRIDGE", "known", "PIX"),
        listed: &["01:00.1", "01:00.0"],
    },
    Case {
        name: "two root ports of a host bridge that nobody lists (q35)",
        lines: "pci0000:00/00:00.0 host id=8086:29c0
                pci0000:00/00:01.0 port acs=1d
                pci0000:00/00:02.0 port acs=1d
                pci0000:00/00:01.0/01:00.0 dev group=1
                pci0000:00/00:02.0/02:00.0 dev group=2",
        cpu: "",
        ends: ["01:00.0", "02:00.0"],
        told: (4, "NOT_SUPPORTED", "unproved", "PHB"),
        listed: &[],
    },
    Case {
        name: "two root ports below an AMD processor",
        lines: "pci0000:00/00:00.0 host id=1022:1480
                pci0000:00/00:01.0 port
                pci0000:00/00:02.0 port
                pci0000:00/00:01.0/01:00.0 dev group=1
                pci0000:00/00:02.0/02:00.0 dev group=2",
        cpu: ZEN,
        ends: ["01:00.0", "02:00.0"],
        told: (4, "THRU_HOST_BRIDGE", "known", "PHB"),
        listed: &[],
    },
    Case {
        name: "two root ports of a listed host bridge",
        lines: "pci0000:00/00:00.0 host id=8086:2f00
                pci0000:00/00:01.0 port
                pci0000:00/00:02.0 port
                pci0000:00/00:01.0/01:00.0 dev group=1
                pci0000:00/00:02.0/02:00.0 dev group=2",
        cpu: "",
        ends: ["01:00.0", "02:00.0"],
        told: (4, "THRU_HOST_BRIDGE", "known", "PHB"),
        listed: &[],
    },
    Case {
        name: "a switch without ACS",
        lines: "pci0000:00/00:01.0 port acs=1d
                pci0000:00/00:01.0/01:00.0 up
                pci0000:00/00:01.0/01:00.0/02:00.0 down
                pci0000:00/00:01.0/01:00.0/02:01.0 down
                pci0000:00/00:01.0/01:00.0/02:00.0/03:00.0 dev group=5
                pci0000:00/00:01.0/01:00.0/02:01.0/04:00.0 dev group=5",
        cpu: "",
        ends: ["03:00.0", "04:00.0"],
        told: (4, "BUS_ADDR", "unproved", "PIX"),
        listed: &[],
    },
    Case {
        name: "a switch whose ports have ACS, switched off",
        lines: "pci0000:00/00:01.0 port acs=1d
                pci0000:00/00:01.0/01:00.0 up
                pci0000:00/00:01.0/01:00.0/02:00.0 down acs=00
                pci0000:00/00:01.0/01:00.0/02:01.0 down acs=11
                pci0000:00/00:01.0/01:00.0/02:00.0/03:00.0 dev group=5
                pci0000:00/00:01.0/01:00.0/02:01.0/04:00.0 dev group=5",
        cpu: "",
        ends: ["03:00.0", "04:00.0"],
        told: (4, "BUS_ADDR", "unproved", "PIX"),
        listed: &[],
    },
    Case {
        name: "a switch whose ports both redirect",
        lines: "pci0000:00/00:00.0 host id=8086:29c0
                pci0000:00/00:01.0 port acs=1d
                pci0000:00/00:01.0/01:00.0 up
                pci0000:00/00:01.0/01:00.0/02:00.0 down acs=1d
                pci0000:00/00:01.0/01:00.0/02:01.0 down acs=1d
                pci0000:00/00:01.0/01:00.0/02:00.0/03:00.0 dev group=5
                pci0000:00/00:01.0/01:00.0/02:01.0/04:00.0 dev group=6",
        cpu: "",
        ends: ["03:00.0", "04:00.0"],
        told: (4, "NOT_SUPPORTED", "unproved", "PIX"),
        listed: &["02:01.0", "02:00.0"],
    },
    Case {
        name: "a switch where the NIC's port alone redirects, below a listed root complex",
        lines: "pci0000:00/00:00.0 host id=8086:2020
                pci0000:00/00:01.0 port
                pci0000:00/00:01.0/01:00.0 up
                pci0000:00/00:01.0/01:00.0/02:00.0 down acs=04
                pci0000:00/00:01.0/01:00.0/02:01.0 down acs=00
                pci0000:00/00:01.0/01:00.0/02:00.0/03:00.0 dev group=5
                pci0000:00/00:01.0/01:00.0/02:01.0/04:00.0 dev group=6",
        cpu: "",
        ends: ["03:00.0", "04:00.0"],
        told: (4, "THRU_HOST_BRIDGE", "known", "PIX"),
        listed: &["02:00.0"],
    },
    Case {
        name: "two switches, one below the other",
        lines: "pci0000:00/00:01.0 port
                pci0000:00/00:01.0/01:00.0 up
                pci0000:00/00:01.0/01:00.0/02:00.0 down
                pci0000:00/00:01.0/01:00.0/02:01.0 down
                pci0000:00/00:01.0/01:00.0/02:00.0/03:00.0 dev group=5
                pci0000:00/00:01.0/01:00.0/02:01.0/04:00.0 up
                pci0000:00/00:01.0/01:00.0/02:01.0/04:00.0/05:03.0 down
                pci0000:00/00:01.0/01:00.0/02:01.0/04:00.0/05:03.0/06:00.0 dev group=5",
        cpu: "",
        ends: ["03:00.0", "06:00.0"],
        told: (6, "BUS_ADDR", "unproved", "PXB"),
        listed: &[],
    },
    Case {
        name: "two switches, the inner one's port redirects",
        lines: "pci0000:00/00:01.0 port
                pci0000:00/00:01.0/01:00.0 up
                pci0000:00/00:01.0/01:00.0/02:00.0 down
                pci0000:00/00:01.0/01:00.0/02:01.0 down
                pci0000:00/00:01.0/01:00.0/02:00.0/03:00.0 dev group=5
                pci0000:00/00:01.0/01:00.0/02:01.0/04:00.0 up
                pci0000:00/00:01.0/01:00.0/02:01.0/04:00.0/05:03.0 down acs=20
                pci0000:00/00:01.0/01:00.0/02:01.0/04:00.0/05:03.0/06:00.0 dev group=5",
        cpu: "",
        ends: ["03:00.0", "06:00.0"],
        told: (6, "NOT_SUPPORTED", "unproved", "PXB"),
        listed: &["05:03.0"],
    },
    Case {
        name: "two switches side by side below one root port: four levels each",
        lines: "pci0000:00/00:01.0 port
                pci0000:00/00:01.0/01:00.0 up
                pci0000:00/00:01.0/01:00.0/02:00.0 down
                pci0000:00/00:01.0/01:00.0/02:00.0/03:00.0 up
                pci0000:00/00:01.0/01:00.0/02:00.0/03:00.0/04:00.0 down
                pci0000:00/00:01.0/01:00.0/02:00.0/03:00.0/04:00.0/05:00.0 dev group=5
                pci0000:00/00:01.0/01:00.0/02:01.0 down
                pci0000:00/00:01.0/01:00.0/02:01.0/13:00.0 up
                pci0000:00/00:01.0/01:00.0/02:01.0/13:00.0/14:00.0 down
                pci0000:00/00:01.0/01:00.0/02:01.0/13:00.0/14:00.0/15:00.0 dev group=5",
        cpu: "",
        ends: ["05:00.0", "15:00.0"],
        told: (8, "BUS_ADDR", "unproved", "PXB"),
        listed: &[],
    },
    Case {
        name: "two host bridges of one node, both listed, one by a root port",
        lines: "pci0000:00/00:00.0 host id=8086:2020
                pci0000:00/00:01.0 port
                pci0000:00/00:01.0/01:00.0 dev group=1 node=0
                pci0000:17/17:00.0 port id=8086:2030
                pci0000:17/17:00.0/18:00.0 dev group=2 node=0",
        cpu: "",
        ends: ["01:00.0", "18:00.0"],
        told: (4, "THRU_HOST_BRIDGE", "known", "NODE"),
        listed: &[],
    },
    Case {
        name: "two host bridges of two nodes, listed for devices below one alone",
        lines: "pci0000:00/00:00.0 host id=8086:2f00
                pci0000:00/00:01.0 port
                pci0000:00/00:01.0/01:00.0 dev group=1 node=0
                pci0000:80/80:00.0 host id=8086:2f00
                pci0000:80/80:01.0 port
                pci0000:80/80:01.0/81:00.0 dev group=2 node=1",
        cpu: "",
        ends: ["01:00.0", "81:00.0"],
        told: (4, "NOT_SUPPORTED", "unproved", "SYS"),
        listed: &[],
    },
    Case {
        name: "two host bridges, one of them known by nothing: its first device is neither 00.0 nor a root port",
        lines: "pci0000:00/00:00.0 host id=8086:2020
                pci0000:00/00:01.0 port
                pci0000:00/00:01.0/01:00.0 dev group=1 node=1
                pci0000:80/80:03.0 dev id=8086:2030
                pci0000:80/80:04.0 port id=8086:2031
                pci0000:80/80:04.0/81:00.0 dev group=2 node=1",
        cpu: "",
        ends: ["01:00.0", "81:00.0"],
        told: (4, "NOT_SUPPORTED", "unproved", "NODE"),
        listed: &[],
    },
    Case {
        name: "an ordinary user, who reads 64 bytes of each configuration space",
        lines: "pci0000:00/00:01.0 port config=64
                pci0000:00/00:01.0/01:00.0 up config=64
                pci0000:00/00:01.0/01:00.0/02:00.0 down acs=1d config=64
                pci0000:00/00:01.0/01:00.0/02:01.0 down acs=1d config=64
                pci0000:00/00:01.0/01:00.0/02:00.0/03:00.0 dev group=5 config=64
                pci0000:00/00:01.0/01:00.0/02:01.0/04:00.0 dev group=6 config=64",
        cpu: ZEN,
        ends: ["03:00.0", "04:00.0"],
        told: (4, "UNKNOWN", "known", "PIX"),
        listed: &["04:00.0", "02:01.0", "01:00.0", "03:00.0", "02:00.0"],
    },
    Case {
        name: "a conventional bus: no ACS to be read, and none there",
        lines: "pci0000:00/00:1e.0 port config=256
                pci0000:00/00:1e.0/01:04.0 dev config=256
                pci0000:00/00:1e.0/01:05.0 dev config=256",
        cpu: "",
        ends: ["01:04.0", "01:05.0"],
        told: (2, "BUS_ADDR", "no-iommu", "PIX"),
        listed: &[],
    },
    Case {
        name: "one device below a host bridge that stands below a function (VMD), one beside it",
        lines: "pci0000:00/00:00.0 host id=8086:09a2
                pci0000:00/00:01.0 port
                pci0000:00/00:01.0/01:00.0 dev group=1 node=0
                pci0000:00/00:0e.0 dev
                pci0000:00/00:0e.0/pci10000:e0/e0:06.0 port id=8086:09ab
                pci0000:00/00:0e.0/pci10000:e0/e0:06.0/e1:00.0 dev group=2 node=0",
        cpu: "",
        ends: ["01:00.0", "10000:e1:00.0"],
        told: (4, "NOT_SUPPORTED", "unproved", "NODE"),
        listed: &[],
    },
];

fn path(case: &Case) -> Path {
    let tree = Tree::of(case.lines);
    tree.put("proc/cpuinfo", case.cpu);
    tree.put("sys/devices/system/node/online", "0-1\n");
    let [nic, memory] = case.ends.map(address);
    between(&tree.sysfs(), nic, memory).unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

#[test]
fn every_machine_has_the_kernels_distance_and_verdict() {
    for case in &CASES {
        let path = path(case);
        let told =
            (path.distance, path.kernel().name(), path.translated().name(), path.letters.name());
        assert_eq!(told, case.told, "{}: {path:#?}", case.name);
        let listed: Vec<_> = case.listed.iter().map(|text| address(text)).collect();
        let found = [path.redirects.clone(), path.unread.clone()].concat();
        // What is unknown does not matter where everything goes up anyway.
        assert_eq!(found, listed, "{}", case.name);
    }
}

#[test]
fn a_path_has_the_same_length_and_verdict_from_either_end() {
    for case in &CASES {
        let [nic, memory] = case.ends;
        let there = path(case);
        let back = path(&Case { ends: [memory, nic], ..*case });
        assert_eq!(
            (there.distance, there.kernel(), there.translated(), there.letters, there.common),
            (back.distance, back.kernel(), back.translated(), back.letters, back.common),
            "{}",
            case.name
        );
        assert_eq!(there.nic, back.memory);
    }
}

#[test]
fn what_is_said_names_the_bridges_and_what_to_do() {
    let words = |name: &str| {
        let case = CASES.iter().find(|case| case.name.starts_with(name)).expect(name);
        let path = path(case);
        (path.kernel_words(), path.translated_words(), path.hint().unwrap_or_default())
    };
    let (kernel, vfio, hint) = words("a switch whose ports both redirect");
    assert_eq!(
        kernel,
        "refused: through the root complex (ACS at 0000:02:01.0, 0000:02:00.0 sends it there), pci0000:00 \
         (8086:29c0) not being on the kernel's list"
    );
    assert!(vfio.contains("whether the root complex forwards is unknown"), "{vfio}");
    assert!(hint.contains("pci=disable_acs_redir=0000:02:01.0;0000:02:00.0,"), "{hint}");
    let (kernel, _, hint) = words("an ordinary user");
    assert!(kernel.contains("cannot be read without root"), "{kernel}");
    assert!(hint.contains("run as root"), "{hint}");
    let (kernel, _, hint) = words("a switch without ACS");
    assert_eq!(
        (kernel.as_str(), hint.as_str()),
        ("straight across 0000:01:00.0, by bus address", "")
    );
    let (kernel, vfio, _) = words("two root ports below an AMD");
    assert!(kernel.contains("as AMD's processors do from Zen on"), "{kernel}");
    assert!(vfio.contains("the root complex forwards: as AMD's"), "{vfio}");
    let (kernel, vfio, _) = words("a conventional bus");
    assert!(kernel.starts_with("straight across 0000:00:1e.0"), "{kernel}");
    assert!(vfio.starts_with("no IOMMU before both"), "{vfio}");
    let (kernel, ..) = words("two host bridges of two nodes");
    assert!(kernel.contains("below two host bridges"), "{kernel}");
}

#[test]
fn a_switch_without_acs_may_keep_what_is_meant_for_the_iommu() {
    let shortcut = |name: &str| {
        path(CASES.iter().find(|case| case.name.starts_with(name)).expect(name)).shortcut()
    };
    assert_eq!(shortcut("a switch without ACS"), Some(address("01:00.0")));
    assert_eq!(shortcut("a switch whose ports both redirect"), None);
    assert_eq!(shortcut("two root ports of a host bridge that nobody"), None);
    assert_eq!(shortcut("a conventional bus"), None, "nothing is translated there");
    assert_eq!(shortcut("one function"), None);
}

#[test]
fn the_narrowest_link_between_the_two_is_named() {
    let tree = Tree::of(
        "pci0000:00/00:01.0 port link=16.0x16
         pci0000:00/00:01.0/01:00.0 up link=2.5x1
         pci0000:00/00:01.0/01:00.0/02:00.0 down link=8.0x8
         pci0000:00/00:01.0/01:00.0/02:01.0 down link=16.0x16
         pci0000:00/00:01.0/01:00.0/02:00.0/03:00.0 dev link=8.0x8
         pci0000:00/00:01.0/01:00.0/02:01.0/04:00.0 dev link=5.0x4",
    );
    let path = between(&tree.sysfs(), address("03:00.0"), address("04:00.0")).expect("a path");
    let (at, link) = path.narrowest.expect("links");
    // The link above the switch is not on the way.
    assert_eq!(
        (at, link.to_string().as_str(), link.mbps()),
        (address("04:00.0"), "5.0 GT/s x4", 16_000)
    );
    assert_eq!(path.nic.link.expect("a link").to_string(), "8.0 GT/s x8");
}
