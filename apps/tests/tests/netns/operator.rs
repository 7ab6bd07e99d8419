//! What `memwire` says of a namespace's interfaces, and what it does to hugepages that nobody uses.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::{
    lab::{Lab, Place::Middle},
    process::binary,
};

fn ports(lab: &Lab) -> Vec<Value> {
    let text = lab.run(Middle, &binary("memwire"), "info --only ports --json");
    let report: Value = serde_json::from_str(&text).unwrap();
    report["ports"].as_array().unwrap().clone()
}

fn port<'a>(ports: &'a [Value], name: &str) -> &'a Value {
    let found = ports.iter().find(|port| port["port"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {ports:#?}"))
}

#[test]
fn info_tells_the_interfaces_of_its_namespace_and_how_they_are_now() {
    let test = "info_tells_the_interfaces_of_its_namespace_and_how_they_are_now";
    let Some(lab) = Lab::open(test, &["ip"]) else {
        return;
    };
    let before = ports(&lab);
    let fa = port(&before, "af_packet:fa");
    assert_eq!(
        (&fa["below"], &fa["is_up"], &fa["trouble"]),
        (&"veth".into(), &true.into(), &Value::Null)
    );
    assert_eq!(fa["can"]["max_frame"], 1514);
    assert!(before.iter().all(|port| port["port"] != "af_packet:va"), "{before:#?}");
    lab.ip(Middle, "link set fa down").unwrap();
    lab.ip(Middle, "link set fb mtu 9000").unwrap();
    let after = ports(&lab);
    assert_eq!(port(&after, "af_packet:fa")["is_up"], false);
    assert_eq!(port(&after, "af_packet:fb")["can"]["max_frame"], 9014);
    let text = lab.run(Middle, &binary("memwire"), "info af_packet:fb");
    assert!(text.contains("kernel driver       veth"), "{text}");
}

/// Pages of 2 MiB that are set, on the one node that there is.
fn pages(file: &Path) -> u64 {
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

#[test]
fn hugepages_are_added_and_given_back_by_the_kernel_itself() {
    let test = "hugepages_are_added_and_given_back_by_the_kernel_itself";
    let file = Path::new("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages");
    if fs::OpenOptions::new().write(true).open(file).is_err() {
        eprintln!("SKIP {test}: needs root, and a kernel with pages of 2 MiB on node 0");
        return;
    }
    let set = |pages: u64| {
        let amount = format!("{}M", 2 * pages);
        let arguments = ["hugepages", "set", &amount, "--size", "2M", "--node", "0"];
        Command::new(binary("memwire")).args(arguments).output().unwrap()
    };
    let had = pages(file);
    let more = set(had + 2);
    assert!(more.status.success(), "{}", String::from_utf8_lossy(&more.stderr));
    assert_eq!(pages(file), had + 2);
    let text = String::from_utf8_lossy(&more.stdout).into_owned();
    assert!(text.starts_with(&format!("node 0: {} 2M pages, 2 more\n", had + 2)), "{text}");
    let back = set(had);
    let text = String::from_utf8_lossy(&back.stdout).into_owned();
    assert!(text.starts_with("node 0: 2 2M pages that nobody used given back, 4 MiB"), "{text}");
    assert_eq!(pages(file), had);
}
