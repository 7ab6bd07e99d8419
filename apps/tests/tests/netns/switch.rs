//! Three hosts talk through `l2fwd` as through a switch.

use std::{fs, time::Duration};

use serde_json::Value;

use crate::{
    process::{Process, binary, pause, wait_for},
    star::{HOSTS, Star, address},
};

/// Whether the long forms were asked for.
fn is_full() -> bool {
    std::env::var_os("MEMWIRE_FULL").is_some_and(|value| value == "1")
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {value:#}"))
}

fn sum(counts: &Value) -> u64 {
    counts.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum()
}

/// Ends `l2fwd`; it checks its own books, and so do we.
fn end(l2fwd: Process) -> Value {
    l2fwd.interrupt();
    let summary = l2fwd.finish().succeeded().json();
    assert_eq!(summary["balanced"], true, "{summary:#}");
    for port in summary["ports"].as_array().unwrap() {
        for direction in [&port["rx"], &port["tx"]] {
            let drops = sum(&direction["drops"]);
            let (offered, delivered) =
                (number(direction, "/offered"), number(direction, "/delivered"));
            assert_eq!(offered, delivered + drops, "{port:#}");
        }
        let onward = number(port, "/forwarded") + number(port, "/flooded") + sum(&port["dropped"]);
        assert_eq!(number(port, "/rx/delivered"), onward, "{port:#}");
    }
    summary
}

/// All drops of a run, wherever they were.
fn all_drops(summary: &Value) -> u64 {
    let of = |port: &Value| {
        sum(&port["rx"]["drops"])
            + sum(&port["tx"]["drops"])
            + sum(&port["dropped"])
            + sum(&port["unsent"])
    };
    summary["ports"].as_array().unwrap().iter().map(of).sum()
}

/// Packets sent and received, as ping says at its end.
fn pings(ping: Process) -> (u64, u64) {
    let finished = ping.finish();
    let line = finished.stdout.lines().find(|line| line.contains("packets transmitted"));
    let line = line.unwrap_or_else(|| panic!("{}\n{}", finished.stdout, finished.stderr));
    let mut words = line.split_whitespace().filter_map(|word| word.parse().ok());
    (words.next().unwrap(), words.next().unwrap())
}

/// Sends for a second by TCP from one host to another; returns bits per second and retransmissions.
fn tcp(star: &Star, from: usize, to: usize) -> (f64, u64) {
    let mut server = star.start(to, "iperf3", "-s -1");
    wait_for("iperf3's socket", || {
        assert!(!server.has_ended(), "{}", server.stderr());
        let sockets = ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| star.run(to, "cat", file));
        sockets.concat().contains(":1451 ").then_some(()) // 5201
    });
    let report = star.start(from, "iperf3", &format!("-c {} -J -t 1", address(to))).finish().json();
    assert!(report.get("error").is_none(), "{}", report["error"]);
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap();
    (rate, number(&report, "/end/sum_sent/retransmits"))
}

#[test]
fn three_hosts_talk_to_each_other() {
    let test = "three_hosts_talk_to_each_other";
    let Some(star) = Star::open(test, &["iperf3", "ping"]) else {
        return;
    };
    let l2fwd = star.start_switch("");
    let mut retransmits = 0;
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        star.wait_for_ping(from, &address(to));
        let (rate, again) = tcp(&star, from, to);
        eprintln!("{test}: {from} to {to}: {:.2} Gb/s, {again} retransmits", rate / 1e9);
        assert!(rate > 1e6);
        retransmits += again;
    }
    let count = if is_full() { 100_000 } else { 10_000 };
    let ping = format!("-f -q -l 16 -c {count} {}", address(2));
    let (sent, answered) = pings(star.start(0, "ping", &ping));
    assert_eq!((sent, answered), (count, count));
    let summary = end(l2fwd);
    eprintln!(
        "{test}: {sent} pings, 0 lost; {} drops, {retransmits} retransmits",
        all_drops(&summary)
    );
    assert_eq!(number(&summary, "/switch/stations"), HOSTS as u64);
    // What was flooded: ARP's questions, and what came before a station had spoken.
    let flooded = |port| number(&summary, &format!("/ports/{port}/flooded"));
    assert!((0..HOSTS).map(flooded).sum::<u64>() < 100, "{summary:#}");
}

/// One way to lose a port, and to get it back.
fn disturb(star: &Star, l2fwd: &mut Process, by_deletion: bool, times_back: usize) {
    if by_deletion {
        star.ip_switch("link del p2").unwrap();
        pause(Duration::from_millis(300));
        assert!(!star.reaches(0, &address(2)));
        star.plug(2).unwrap();
        wait_for("the port's return", || {
            assert!(!l2fwd.has_ended(), "{}", l2fwd.stderr());
            let times = l2fwd.stderr().matches("'p2': back in service").count();
            (times > times_back).then_some(())
        });
    } else {
        star.ip_switch("link set p2 down").unwrap();
        pause(Duration::from_millis(300));
        assert!(!star.reaches(0, &address(2)));
        star.ip_switch("link set p2 up").unwrap();
    }
    star.wait_for_ping(0, &address(2));
    star.wait_for_ping(2, &address(1));
}

#[test]
fn a_port_goes_and_comes_back_while_the_others_talk() {
    let test = "a_port_goes_and_comes_back_while_the_others_talk";
    let Some(star) = Star::open(test, &["ping"]) else {
        return;
    };
    let mut l2fwd = star.start_switch("-q 2");
    star.wait_for_ping(0, &address(1));
    star.wait_for_ping(2, &address(1));
    let rounds = if is_full() { 10 } else { 1 };
    // Two hosts talk all the time; a third sends into the port that goes.
    let steady = star.start(0, "ping", &format!("-q -i 0.002 {}", address(1)));
    let into = star.start(1, "ping", &format!("-q -i 0.01 {}", address(2)));
    for round in 0..rounds {
        disturb(&star, &mut l2fwd, true, round);
        disturb(&star, &mut l2fwd, false, round + 1);
    }
    steady.interrupt();
    into.interrupt();
    let (sent, answered) = pings(steady);
    // The last question may be under way when ping is stopped.
    assert!(sent > 300 && answered + 1 >= sent, "{answered} answers to {sent} pings");
    let (disturbed, got_back) = pings(into);
    assert!(got_back < disturbed, "nothing was lost while the port was away?");
    let summary = end(l2fwd);
    eprintln!(
        "{test}: {sent} pings beside it, 0 lost; {disturbed} into it, {} lost",
        disturbed - got_back
    );
    // Two in each round, unless the next begins before the end of the last was noticed.
    let outages = number(&summary, "/ports/2/outages");
    assert!((1..=2 * rounds as u64).contains(&outages), "{summary:#}");
    for port in 0..2 {
        assert_eq!(number(&summary, &format!("/ports/{port}/outages")), 0);
        assert_eq!(summary["ports"][port]["state"], "up");
    }
    assert_eq!(summary["ports"][2]["state"], "up", "{summary:#}");
    assert!(number(&summary, "/switch/flushed") >= rounds as u64, "{summary:#}");
}

#[test]
fn an_unknown_station_is_flooded_for_until_it_speaks() {
    let test = "an_unknown_station_is_flooded_for_until_it_speaks";
    let Some(star) = Star::open(test, &["ping", "tcpdump"]) else {
        return;
    };
    // No ARP, so that nobody speaks before the first ping.
    for (host, other) in [(0, 1), (1, 0)] {
        let line =
            format!("neigh add {} lladdr 02:97:00:00:00:0{other} dev v{host}", address(other));
        star.ip_host(host, &line).unwrap();
    }
    let l2fwd = star.start_switch("");
    let mut tcpdump = star.start(2, "tcpdump", "-i v2 -n -l --immediate-mode icmp");
    wait_for("tcpdump's start", || {
        assert!(!tcpdump.has_ended(), "{}", tcpdump.stderr());
        tcpdump.stderr().contains("listening on").then_some(())
    });
    let ping = format!("-q -c 200 -i 0.002 {}", address(1));
    assert_eq!(pings(star.start(0, "ping", &ping)), (200, 200));
    pause(Duration::from_millis(200));
    tcpdump.interrupt();
    let seen = tcpdump.finish().succeeded().stdout;
    let packets = seen.lines().filter(|line| line.contains("ICMP")).count();
    assert_eq!(packets, 1, "the third host saw\n{seen}");
    assert!(seen.contains("echo request"), "{seen}");
    let summary = end(l2fwd);
    assert_eq!(number(&summary, "/ports/0/flooded"), 1, "{summary:#}");
    assert_eq!(number(&summary, "/ports/1/flooded"), 0, "{summary:#}");
}

/// Two switches, joined by a trunk; the second has the third host for itself, once in each VLAN.
#[test]
fn vlans_are_apart_and_a_trunk_carries_both() {
    let test = "vlans_are_apart_and_a_trunk_carries_both";
    let Some(star) = Star::open(test, &["ping"]) else {
        return;
    };
    for (vlan, host) in [(10, 0), (20, 1)] {
        star.ip_host(2, &format!("link add e{vlan} type veth peer name q{vlan}")).unwrap();
        star.ip_host(2, &format!("addr add 10.97.{vlan}.3/24 dev e{vlan}")).unwrap();
        star.ip_host(2, &format!("link set e{vlan} up")).unwrap();
        star.ip_host(2, &format!("link set q{vlan} up")).unwrap();
        star.ip_host(host, &format!("addr add 10.97.{vlan}.1/24 dev v{host}")).unwrap();
    }
    let near = star.start_switch("--vlan 0:access=10 --vlan 1:access=20 --vlan 2:trunk=10,20");
    let options = "--vlan 0:trunk=10,20 --vlan 1:access=10 --vlan 2:access=20";
    let options = format!("-p v2 -p q10 -p q20 --mode switch --json {options}");
    let far = star.start(2, &binary("l2fwd"), &options);
    star.wait_for_ping(0, "10.97.10.3");
    star.wait_for_ping(1, "10.97.20.3");
    assert!(!star.reaches(0, &address(1)), "from VLAN 10 into VLAN 20");
    // As long as a frame may be; with its tag it is four bytes longer on the trunk.
    let ping = "-q -f -l 4 -c 500 -s 1472 10.97.10.3";
    assert_eq!(pings(star.start(0, "ping", ping)), (500, 500));
    // Without a tag, what the third host sends belongs to no VLAN of the trunk.
    assert!(!star.reaches(2, &address(0)));
    let (near, far) = (end(near), end(far));
    assert!(number(&near, "/ports/2/dropped/vlan") >= 1, "{near:#}");
    assert!(number(&near, "/ports/2/device/rx_vlan_restored") >= 500, "{near:#}");
    assert!(number(&far, "/ports/0/device/rx_vlan_restored") >= 500, "{far:#}");
    for summary in [&near, &far] {
        assert!(number(summary, "/switch/stations") >= 4, "{summary:#}");
    }
}

/// A capture of one frame to everybody.
fn broadcast() -> Vec<u8> {
    let mut file = Vec::new();
    let words = [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, 65535, 1, 0, 0, 60, 60];
    words.iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend([0xff; 6]);
    file.extend([2, 0x97, 0, 0, 0, 0, 0x88, 0xb5]);
    file.resize(file.len() + 46, 0);
    file
}

#[test]
fn a_storm_is_held_back_and_the_others_do_not_notice() {
    let test = "a_storm_is_held_back_and_the_others_do_not_notice";
    let Some(star) = Star::open(test, &["ping", "tcpreplay"]) else {
        return;
    };
    let file = star.folder().join("storm.pcap");
    fs::write(&file, broadcast()).unwrap();
    let l2fwd = star.start_switch("--storm 200pps");
    star.wait_for_ping(1, &address(2));
    let storm = format!("-q -i v0 --loop 20000 --pps 10000 {}", file.display());
    let storm = star.start(0, "tcpreplay", &storm);
    let ping = format!("-q -c 400 -i 0.004 {}", address(2));
    assert_eq!(pings(star.start(1, "ping", &ping)), (400, 400));
    storm.finish().succeeded();
    pause(Duration::from_millis(100));
    let summary = end(l2fwd);
    let (flooded, held) =
        (number(&summary, "/ports/0/flooded"), number(&summary, "/ports/0/dropped/storm"));
    let seconds = summary["seconds"].as_f64().unwrap();
    eprintln!("{test}: {flooded} flooded, {held} held back in {seconds:.1} s");
    assert!(flooded as f64 <= 200.0 * seconds + 20.0, "{summary:#}");
    assert!(flooded >= 200, "what is allowed passes: {summary:#}");
    assert_eq!(flooded + held + sum(&summary["ports"][0]["rx"]["drops"]), 20_000, "{summary:#}");
}
