//! Received rows in another process: payloads that a NIC writes into a dma-buf or a BAR, which an exporter gave
//! and a consumer reads, and what is left when the three end in any order.

use serde_json::Value;
use testbed::Signal;

use crate::{
    apps::Host,
    dmabuf::{SOCKET, dma_bufs_of_all, export},
    machine::{App, DEADLINE, Machine, is_full, number, sum},
    probe::{ask, free_hugepages},
};

/// Where the consumer comes to.
const HAND_OVER: &str = "/tmp/hand-over-guest";
/// Prints the programs of ours that run.
const RUNNING: &str = "for p in /proc/[0-9]*; do read -r name < $p/comm && case $name in gpurx*|memwire) echo $name;; \
                       esac; done; true";
/// Rows of a run: short, and full.
const ROWS: [u64; 2] = [4000, 50_000];

/// Payload memory that two processes have.
struct Shared<'a> {
    nic: &'a str,
    iommu: &'a str,
    /// What is exported, if it comes by a socket.
    export: Option<&'a str>,
    /// What gpurx is told otherwise.
    memory: &'a str,
    /// What the consumer is told beside.
    consumer: &'a str,
}

impl Shared<'_> {
    fn exporter<'a>(&self, machine: &'a Machine) -> Option<App<'a>> {
        self.export.map(|what| export(machine, what))
    }

    fn receiver<'a>(&self, machine: &'a Machine, options: &str) -> App<'a> {
        let port = machine.port(self.nic);
        let memory = self.export.map_or(self.memory.to_owned(), |_| format!("dmabuf:{SOCKET}"));
        let line = format!(
            "-p {port},iommu={} -m {memory} --path direct --seq ipid --udp-port 9000 --buffer-size 2048 \
             --ring 1024 --consumer {HAND_OVER} --consumer-wait {options} -v",
            self.iommu
        );
        machine.receive("gpurx", &line)
    }

    fn consumer<'a>(&self, machine: &'a Machine) -> App<'a> {
        machine.start(
            "gpurx-consumer",
            &format!("--socket {HAND_OVER} --wait 20s --json {}", self.consumer),
        )
    }

    fn send(&self, machine: &Machine, rows: u64) {
        let end = machine.host_end(self.nic).unwrap();
        let line = format!("--ip-id --size 1066 -c {rows} --rate 2kpps");
        Host::start("pktgen", &end, &line).summary();
    }
}

/// The kinds that there are, as far as NICs and consumers can have them.
fn kinds(bar: &str, resource: &str, run: impl Fn(&Shared<'_>)) {
    let (p2p, export) = (format!("p2p:{bar}/bar2"), format!("--bar {bar}/bar2"));
    let of = |nic, iommu, export, consumer| Shared { nic, iommu, export, memory: &p2p, consumer };
    run(&of("e1000e0", "type1", Some("--udmabuf 48M"), ""));
    run(&of("igb0", "iommufd", Some("--udmabuf 48M --pages 2M"), ""));
    run(&of("igb0", "iommufd", Some(&export), resource));
    run(&of("e1000e0", "iommufd", None, resource));
}

fn check(summary: &Value, rows: u64) {
    assert_eq!(summary["path"], "direct");
    assert_eq!(number(summary, "/frames/rows"), rows, "{summary:#}");
    assert_eq!(number(summary, "/host_payload_bytes"), 0, "{summary:#}");
    assert_eq!(sum(&summary["drops"]), 0, "{summary:#}");
}

#[test]
fn rows_that_a_nic_wrote_are_read_by_another_process() {
    let test = "rows_that_a_nic_wrote_are_read_by_another_process";
    let Some(machine) = Machine::open(test, "default") else { return };
    machine.bind(&["bar"]).unwrap();
    let (rows, since) = (ROWS[usize::from(is_full())], machine.console().len());
    let before = (dma_bufs_of_all(&machine), free_hugepages(&machine));
    let bar = machine.address("bar").unwrap().to_string();
    let resource = format!("--memory /sys/bus/pci/devices/{bar}/resource2");
    kinds(&bar, &resource, |shared| {
        let exporter = shared.exporter(&machine);
        let receiver = shared.receiver(&machine, &format!("-c {rows}"));
        let consumer = shared.consumer(&machine);
        shared.send(&machine, rows);
        let summary = receiver.end_when_quiet();
        check(&summary, rows);
        let read = consumer.summary();
        assert_eq!((number(&read, "/ok"), number(&read, "/bad")), (rows, 0), "{read:#}");
        if let Some(exporter) = exporter {
            exporter.interrupt();
            assert_eq!(exporter.finish().status, 0);
        }
        let memory = summary["memory"]["provider"].as_str().unwrap();
        eprintln!(
            "{test}: {} iommu={} {memory}: {rows} rows read by another process, all right",
            shared.nic, shared.iommu
        );
        assert_eq!((dma_bufs_of_all(&machine), free_hugepages(&machine)), before, "{memory}");
    });
    let console = machine.console();
    assert!(!console[since..].contains("DMAR: [DMA"), "{}", &console[since..]);
    machine.unbind(&["bar"]).unwrap();
}

#[test]
fn exporter_receiver_and_consumer_may_die_in_any_order() {
    let test = "exporter_receiver_and_consumer_may_die_in_any_order";
    let Some(machine) = Machine::open(test, "default") else { return };
    machine.bind(&["bar"]).unwrap();
    let since = machine.console().len();
    let before = (dma_bufs_of_all(&machine), free_hugepages(&machine));
    let bar = machine.address("bar").unwrap().to_string();
    for what in ["--udmabuf 48M --pages 2M".to_owned(), format!("--bar {bar}/bar2")] {
        let consumer = match what.contains("--bar") {
            true => format!("--memory /sys/bus/pci/devices/{bar}/resource2"),
            false => String::new(),
        };
        let shared = Shared {
            nic: "igb0",
            iommu: "iommufd",
            export: Some(&what),
            memory: "",
            consumer: &consumer,
        };
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let exporter = shared.exporter(&machine).unwrap();
            let receiver = shared.receiver(&machine, "");
            let consumer = shared.consumer(&machine);
            shared.send(&machine, 500);
            let mut apps = [exporter, receiver, consumer];
            for who in order {
                // Those that outlive others may have ended by themselves by now.
                let _ = apps[who].job.kill(Signal::Kill);
                apps[who].job.wait(DEADLINE).unwrap();
                if who == 0 && order[0] == 0 {
                    // The receiver learns of it, and goes on without.
                    apps[1].wait_for("device memory revoked by its provider (process");
                }
            }
            assert_eq!(ask(&machine, RUNNING), "", "{what} {order:?}");
            ask(&machine, &format!("rm -f {SOCKET} {HAND_OVER}"));
            let now = (dma_bufs_of_all(&machine), free_hugepages(&machine));
            assert_eq!(now, before, "{what} {order:?}: something is left");
        }
        eprintln!("{test}: {what}: six orders, nothing left");
    }
    let console = machine.console();
    assert!(!console[since..].contains("DMAR: [DMA"), "{}", &console[since..]);
    machine.unbind(&["bar"]).unwrap();
}
