//! The apps with each other, each in a process of its own, over net_memif; and over net_ring in one.

use crate::{
    place::{FRAMES, ORDINARY, Place, RATE, number},
    process::is_installed,
};

#[test]
fn gpurx_receives_what_pktgen_sends_and_says_that_payloads_are_bounced() {
    let test = "gpurx_receives_what_pktgen_sends_and_says_that_payloads_are_bounced";
    let Some(place) = Place::open(test) else { return };
    let arguments = format!(
        "-p {} -m fake --seq ipid --deadline 5s -c {FRAMES} -t 50s --json",
        place.memif(0, "server", "s")
    );
    let mut gpurx = place.start("gpurx", &arguments);
    place.wait_for_socket("s", &mut gpurx);
    let arguments = format!(
        "-p {} --rx --ip-id --size 1000 -c {FRAMES} --rate {RATE} -t 50s --json",
        place.memif(0, "client", "s")
    );
    let sent = place.run("pktgen", &arguments).succeeded().json();
    assert_eq!(number(&sent, "/tx/frames"), FRAMES, "{sent:#}");
    let received = gpurx.finish().succeeded();
    let why = "the dpdk driver cannot split headers from payloads";
    assert!(received.stderr.contains(why), "no {why}: {}", received.stderr);
    let summary = received.json();
    assert_eq!(number(&summary, "/verify/ok"), FRAMES, "{summary:#}");
    assert_eq!((&summary["verify"]["bad"], &summary["path"]), (&0.into(), &"bounce".into()));
}

#[test]
fn gpurx_has_a_nic_that_splits_put_payloads_where_they_belong() {
    let test = "gpurx_has_a_nic_that_splits_put_payloads_where_they_belong";
    let Some(place) = Place::open(test) else { return };
    // Numbered in the IPv4 header, and behind the UDP header.
    for (name, seq, by, head) in [("a", "--seq ipid", "--ip-id", 42), ("b", "", "", 66)] {
        let port = place.memif(0, "server", name).replace("net_memif0", "net_memif_len0");
        let arguments = format!("-p {port} -m fake {seq} --deadline 5s -c {FRAMES} -t 50s --json");
        let mut gpurx = place.start_with_model("gpurx", &arguments);
        place.wait_for_socket(name, &mut gpurx);
        let arguments = format!(
            "-p {} --rx {by} --size 1000 -c {FRAMES} --rate {RATE} -t 50s --json",
            place.memif(0, "client", name)
        );
        let sent = place.run("pktgen", &arguments).succeeded().json();
        assert_eq!(number(&sent, "/tx/frames"), FRAMES, "{sent:#}");
        let received = gpurx.finish().succeeded();
        let note = format!("cuts each frame after {head} bytes");
        assert!(received.stderr.contains(&note), "no {note}: {}", received.stderr);
        let summary = received.json();
        assert_eq!(number(&summary, "/verify/ok"), FRAMES, "{summary:#}");
        assert_eq!((&summary["verify"]["bad"], &summary["path"]), (&0.into(), &"direct".into()));
        assert_eq!(number(&summary, "/host_payload_bytes"), 0, "{summary:#}");
    }
}

#[test]
fn gpurx_does_not_take_the_copying_path_for_the_direct_one() {
    let Some(place) = Place::open("gpurx_does_not_take_the_copying_path_for_the_direct_one") else {
        return;
    };
    let arguments = format!("-p dpdk:net_null0,{ORDINARY} -m fake --path direct -t 1s");
    let refused = place.run("gpurx", &arguments);
    assert_ne!(refused.code(), Some(0));
    assert!(refused.stderr.contains("path 'direct'"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--path bounce works here"), "{}", refused.stderr);
}

#[test]
fn l2fwd_forwards_between_two_ports_and_pktgen_misses_nothing() {
    let test = "l2fwd_forwards_between_two_ports_and_pktgen_misses_nothing";
    let Some(place) = Place::open(test) else { return };
    let ports = |role| [("a", 0), ("b", 1)].map(|(socket, n)| place.memif(n, role, socket));
    let [a, b] = ports("server");
    let mut l2fwd = place.start("l2fwd", &format!("-p {a} -p {b} --json"));
    place.wait_for_socket("a", &mut l2fwd);
    place.wait_for_socket("b", &mut l2fwd);
    let [a, b] = ports("client");
    let arguments = format!("-p {a} -p {b} --size 90-1500 -c {FRAMES} --rate {RATE} --json -t 50s");
    let summary = place.run("pktgen", &arguments).succeeded().json();
    l2fwd.interrupt();
    let forwarded = l2fwd.finish().succeeded().json();
    assert_eq!(number(&summary, "/tx/frames"), FRAMES, "{summary:#}");
    assert_eq!(number(&forwarded, "/ports/0/rx/delivered"), FRAMES, "{forwarded:#}");
    // What a full ring kept l2fwd from sending it says; nothing else may be missing, or be anything else.
    let sent = number(&forwarded, "/ports/1/tx/delivered");
    let unsent: u64 = ["dropped", "unsent"]
        .iter()
        .flat_map(|kind| {
            forwarded["ports"].as_array().unwrap().iter().map(move |port| &port[*kind])
        })
        .flat_map(|reasons| reasons.as_object().unwrap().values())
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(sent + unsent, FRAMES, "{forwarded:#}");
    assert_eq!(number(&summary, "/rx/good"), sent, "{summary:#}");
    assert_eq!(number(&summary, "/rx/frames"), sent, "{summary:#}");
    assert!(sent > FRAMES / 2, "{forwarded:#}");
}

#[test]
fn capture_writes_every_frame_and_others_can_read_it() {
    let Some(place) = Place::open("capture_writes_every_frame_and_others_can_read_it") else {
        return;
    };
    let file = place.path("frames.pcapng");
    let port = place.memif(0, "server", "s");
    let arguments = format!("-p {port} -w {} -c {FRAMES} -t 50s --json", file.display());
    let mut capture = place.start("capture", &arguments);
    place.wait_for_socket("s", &mut capture);
    let port = place.memif(0, "client", "s");
    let arguments = format!("-p {port} --rx --size 200 -c {FRAMES} --rate {RATE} -t 50s --json");
    place.run("pktgen", &arguments).succeeded();
    let summary = capture.finish().succeeded().json();
    assert_eq!((&summary["written"], &summary["balanced"]), (&FRAMES.into(), &true.into()));
    // Read back by what is no port of DPDK's.
    let arguments = format!("--rx-only -p pcap:{} --json", file.display());
    let read = place.run("pktgen", &arguments).succeeded().json();
    assert_eq!(number(&read, "/rx/frames"), FRAMES, "{read:#}");
    if is_installed("capinfos") {
        let text = std::process::Command::new("capinfos").arg("-cM").arg(&file).output().unwrap();
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(text.contains(&FRAMES.to_string()), "{text}");
    }
}

#[test]
fn pktgen_measures_a_ring_of_dpdks_in_its_own_process() {
    let Some(place) = Place::open("pktgen_measures_a_ring_of_dpdks_in_its_own_process") else {
        return;
    };
    for buffers in ["pool", "copy"] {
        let port = format!("dpdk:net_ring0,{ORDINARY},buffers={buffers}");
        let arguments =
            format!("-p {port} --rx --size imix -c {FRAMES} --rate {RATE} --check --json -t 50s");
        let summary = place.run("pktgen", &arguments).succeeded().json();
        assert_eq!(number(&summary, "/rx/good"), FRAMES, "{buffers}: {summary:#}");
    }
}
