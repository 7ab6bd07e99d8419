//! `memwire doctor` on the testbed's machines: its distances are those of the topologies, and where the kernel
//! says what it would do between two devices, the doctor says the same.

use serde_json::Value;

use crate::{
    machine::{Machine, binary, last_json},
    probe::ask,
};

/// What the doctor says as JSON, whatever its exit code.
fn doctor(machine: &Machine, line: &str) -> Value {
    let output = machine.run(&format!("{} doctor --json {line}", binary("memwire"))).unwrap();
    assert!([0, 3].contains(&output.status), "{line}: {}", output.stderr);
    last_json("memwire doctor", &output.stdout)
}

/// The pair of that NIC and that memory.
fn pair(machine: &Machine, nic: &str, memory: &str) -> Value {
    let report = doctor(machine, "topo");
    let [nic, memory] = [nic, memory].map(|id| machine.address(id).unwrap());
    let pairs = report["pairs"].as_array().unwrap();
    let found = pairs.iter().find(|pair| pair["nic"] == *nic && pair["memory"] == *memory);
    found.unwrap_or_else(|| panic!("no {nic} -> {memory} in {report:#}")).clone()
}

/// The findings of a section that are about something.
fn findings(report: &Value, section: &str, what: &str) -> Vec<(String, String)> {
    let sections = report["sections"].as_array().unwrap();
    let section = sections.iter().find(|it| it["name"] == section).unwrap();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let all = section["findings"].as_array().unwrap().iter();
    all.filter(|finding| finding["what"] == what)
        .map(|finding| (text(finding, "status"), text(finding, "says")))
        .collect()
}

#[test]
fn the_doctor_counts_steps_between_devices_as_the_topology_has_them() {
    let test = "the_doctor_counts_steps_between_devices_as_the_topology_has_them";
    // Each device has a root port, or a port of the one switch: two functions on either way up, or two steps to
    // the switch from either side.
    for (topology, nic, memory, letters, has_switch) in [
        ("default", "igb0", "bar", "PHB", false),
        ("default", "e1000e0", "cmb", "PHB", false),
        ("virtio-iommu", "e1000e0", "bar", "PHB", false),
        ("switch", "igb0", "bar", "PIX", true),
    ] {
        let Some(machine) = Machine::open(test, topology) else { return };
        let pair = pair(&machine, nic, memory);
        assert_eq!((&pair["distance"], &pair["letters"]), (&4.into(), &letters.into()), "{pair:#}");
        assert_eq!(pair["common_bridge"].is_string(), has_switch, "{topology}: {pair:#}");
        assert!(pair["acs_unknown"].as_array().unwrap().is_empty(), "root reads all: {pair:#}");
        // An EPYC: the kernel takes it for a machine that forwards.
        assert_eq!(pair["vfio"], "known", "{topology}: {pair:#}");
        eprintln!("{test}: {topology}: {}; {}", pair["kernel_says"], pair["vfio_says"]);
    }
}

#[test]
fn a_user_who_may_not_read_acs_is_told_that_it_is_unknown() {
    let test = "a_user_who_may_not_read_acs_is_told_that_it_is_unknown";
    let Some(machine) = Machine::open(test, "switch") else { return };
    // Not every user may look into the folder that it was built in.
    let program = "/run/memwire-of-a-user";
    ask(&machine, &format!("install -m 755 {} {program}", binary("memwire")));
    let line = format!(
        "cd / && setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=-all --bounding-set=-all \
         --no-new-privs {program} doctor topo vfio --json"
    );
    let report = last_json("memwire doctor", &ask(&machine, &line));
    let pair = &report["pairs"][0];
    assert_eq!((&pair["distance"], &pair["kernel"]), (&4.into(), &"UNKNOWN".into()), "{pair:#}");
    // The memory, its port, the switch, the NIC's port, the NIC.
    assert_eq!(pair["acs_unknown"].as_array().unwrap().len(), 5, "{pair:#}");
    let nic = machine.address("igb0").unwrap();
    let (status, says) = &findings(&report, "vfio", &nic)[0];
    assert!(status == "WARN" && says.contains("may not be opened"), "{says}");
}

#[test]
fn the_doctor_finds_no_iommu_where_there_is_none_and_says_what_follows() {
    let test = "the_doctor_finds_no_iommu_where_there_is_none_and_says_what_follows";
    let Some(machine) = Machine::open(test, "noiommu") else { return };
    let report = doctor(&machine, "");
    assert_eq!(findings(&report, "iommu", "IOMMU")[0].0, "WARN", "{report:#}");
    let nic = machine.address("e1000e0").unwrap();
    let (status, says) = &findings(&report, "vfio", &nic)[0];
    assert_eq!(status, "WARN", "{report:#}");
    assert!(says.contains("/dev/vfio/noiommu-") && says.contains("unprotected"), "{says}");
    let asked = doctor(&machine, &format!("--for pci:{nic}"));
    assert_eq!(asked["ok"], false, "{asked:#}");
    let asked = doctor(&machine, &format!("--for pci:{nic},iommu=none,i-accept-unsafe-dma"));
    assert_eq!(asked["ok"], true, "{asked:#}");
}

#[test]
fn what_the_doctor_is_asked_for_is_what_the_guest_can_do() {
    let test = "what_the_doctor_is_asked_for_is_what_the_guest_can_do";
    let Some(machine) = Machine::open(test, "default") else { return };
    let [nic, bar] = ["igb0", "bar"].map(|id| machine.address(id).unwrap());
    let line = format!("--for gpurx,pci:{nic},p2p:{bar}/bar2");
    let asked = doctor(&machine, &line);
    let held = findings(&asked, "asked", &bar);
    assert_eq!(held[0].0, "FAIL", "it is on no driver: {asked:#}");
    machine.bind(&["bar"]).unwrap();
    let asked = doctor(&machine, &line);
    assert_eq!(asked["ok"], true, "{asked:#}");
    assert_eq!(findings(&asked, "asked", &bar)[0].0, "OK", "{asked:#}");
    machine.unbind(&["bar"]).unwrap();
}

/// A disk with memory of its own and a disk that shall write there, by the kernel's drivers.
fn disks(bus: &str, cpu: &str) -> String {
    let cpu = if cpu.is_empty() { String::new() } else { format!("cpu = \"{cpu}\"\n") };
    let device = |id: &str, cmb: u32| {
        format!("[[device]]\nid = \"{id}\"\nkind = \"nvme\"\nbus = \"{bus}\"\ncmb_mib = {cmb}\n")
    };
    format!("iommu = \"intel\"\n{cpu}{}{}", device("cmb", 64), device("disk", 0))
}

/// Has the kernel read from a disk into the other's memory; prints `read 4096` or `errno 22`.
const READ: &str = r#"
import mmap, os, sys
memory = os.open(sys.argv[1] + "/p2pmem/allocate", os.O_RDWR)
buffer = mmap.mmap(memory, 2 << 20, flags=mmap.MAP_SHARED)
try:
    with memoryview(buffer) as view, view[:4096] as part:
        print("read", os.preadv(os.open(sys.argv[2], os.O_RDONLY | os.O_DIRECT), [part], 0))
except OSError as error:
    print("errno", error.errno)
"#;

#[test]
fn the_doctor_and_the_kernel_say_the_same_of_two_disks() {
    let test = "the_doctor_and_the_kernel_say_the_same_of_two_disks";
    let folder = tempfile::tempdir().unwrap();
    for (name, bus, cpu, verdict) in [
        ("ports-zen", "root", "", Some("THRU_HOST_BRIDGE")),
        ("ports-other", "root", "max,vendor=GenuineIntel", Some("NOT_SUPPORTED")),
        // By what the switch's ports do, which the kernel says.
        ("switch-other", "sw0", "max,vendor=GenuineIntel", None),
    ] {
        let path = folder.path().join(format!("{name}.toml"));
        std::fs::write(&path, disks(bus, cpu)).unwrap();
        let path: &'static str = path.to_string_lossy().into_owned().leak();
        let Some(machine) = Machine::open(test, path) else { return };
        if machine.run("test -x /usr/bin/python3").unwrap().status != 0 {
            eprintln!("SKIP {test}: no python3 here to ask the kernel with");
            return;
        }
        let [memory, disk] = ["cmb", "disk"].map(|id| machine.address(id).unwrap());
        let report = doctor(&machine, &format!("--for p2p:{memory}/bar4,pci:{disk}"));
        let said = &findings(&report, "asked", &format!("{disk} -> {memory}"))[0].1;
        let device = "/sys/bus/pci/devices";
        let node = ask(&machine, &format!("basename {device}/{disk}/nvme/nvme*/nvme*n*"));
        let line = format!("/usr/bin/python3 -c '{READ}' {device}/{memory} /dev/{node}");
        let outcome = ask(&machine, &line);
        let log =
            ask(&machine, "dmesg | grep -e 'peer-to-peer DMA as' -e 'ACS redirect is set' || true");
        let is_refused = log.contains("cannot be used for peer-to-peer DMA");
        eprintln!("{test}: {name}: {said}; the kernel: {outcome}; {log}");
        assert_eq!(outcome.starts_with("errno"), is_refused, "{name}: {outcome} {log}");
        assert_eq!(said.contains("kernel NOT_SUPPORTED"), is_refused, "{name}: {said} {log}");
        let redirects = said.contains("NOT_SUPPORTED") && bus != "root";
        assert_eq!(log.contains("ACS redirect is set"), redirects, "{name}: {said} {log}");
        if let Some(verdict) = verdict {
            assert!(said.contains(&format!("kernel {verdict}")), "{name}: {said}");
        }
        assert!(said.starts_with(if bus == "root" { "PHB 4" } else { "PIX 4" }), "{name}: {said}");
    }
}
