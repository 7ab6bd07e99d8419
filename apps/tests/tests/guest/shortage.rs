//! A consumer that is slow makes payload memory short while a NIC writes to it: areas come, are mapped for the NIC,
//! and go again, and nothing is written where none is any more.

use testbed::Signal;

use crate::{
    machine::{DEADLINE, Machine, last_json, number},
    revoke::{NICS, Sender, said},
};

#[test]
fn payload_memory_grows_and_shrinks_under_a_nic() {
    let test = "payload_memory_grows_and_shrinks_under_a_nic";
    let Some(machine) = Machine::open(test, "default") else {
        return;
    };
    let from = machine.console().len();
    for nic in NICS {
        let (port, end) = (machine.port(nic), machine.host_end(nic).unwrap());
        let socket = format!("/tmp/{nic}.sock");
        let options = "--path direct -m fake --seq ipid --udp-port 9000 --rows 16 --ring 64 --blocks 12 \
                       --grow 8 --spill 4 -v";
        let mut receiver =
            machine.receive("gpurx", &format!("-p {port} {options} --consumer {socket}"));
        let sender = Sender::start(&end, "--ip-id --size 1066 --rate 1kpps");
        for round in 1..=2 {
            let line = format!("--socket {socket} --json --delay 300ms");
            let mut slow = machine.start("gpurx-consumer", &line);
            said(&mut receiver, "payload memory grows", 2 * round);
            slow.job.kill(Signal::Kill).unwrap();
            slow.job.wait(DEADLINE).unwrap();
            said(&mut receiver, "payload memory shrinks", 2 * round);
        }
        let quick = machine.start("gpurx-consumer", &format!("--socket {socket} --json -t 1s"));
        let quick = last_json("gpurx-consumer", &quick.finish().stdout);
        let sent = number(&sender.end(), "/tx/frames");
        let summary = receiver.end_when_quiet();
        eprintln!(
            "{test}: {nic}: {} of {sent} frames, {}, {}, then {}",
            summary["rx_packets"], summary["shortage"], summary["consumer"], quick
        );
        assert_eq!(summary["path"], "direct");
        for (field, least) in [("areas_added", 4), ("areas_removed", 4), ("blocks_shed", 1)] {
            assert!(number(&summary, &format!("/shortage/{field}")) >= least, "{summary:#}");
        }
        assert!(number(&summary, "/shortage/rows_to_host") > 0, "{summary:#}");
        assert_eq!(number(&summary, "/consumer/shown_slots"), 0, "{summary:#}");
        assert!(number(&quick, "/ok") > 0 && number(&quick, "/bad") == 0, "{quick:#}");
    }
    let console = machine.console();
    let faults: Vec<_> =
        console[from..].lines().filter(|line| line.contains("DMAR: [DMA")).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}
