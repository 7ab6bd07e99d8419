//! pktgen over in-process wires and files: what is sent is measured, and what goes wrong is said.

mod common;

use std::{collections::BTreeMap, os::unix::net::UnixDatagram, path::Path, time::Duration};

use common::{alone, json, number, run, run_on};
use memwire_apps::{AppError, Exit, report::Output};
use pmd::{
    Registry,
    pcap::{Format, Reader, Writer},
};
use serde_json::Value;

#[test]
fn every_frame_over_a_good_wire_is_good() {
    let _alone = alone();
    for line in [
        "-p ring:a -p ring:a --size 64 -c 50k",
        "-p ring:a -p ring:a --size imix --flows 100 -c 50k --check",
        "-p ring:a -p ring:a --size 64-1518 --flows 1k --random sizes,flows -c 20k",
        "-p ring:a -p ring:a --size 200 --dst fd00::/120 -c 20k --fresh-payload",
        "-p ring:a -p ring:a --size 200 --tcp=psh+ack --vlan 7 --outer-vlan 8 -c 20k -q 2 --flows 9",
        "-p ring:a -p ring:a --rtp --size 300 -c 20k -b 1 --checksum",
    ] {
        let summary = run(line).unwrap();
        let (value, received) = (json(&summary), summary.received());
        assert_eq!(received.good, summary.sent(), "{line}: {value:#}");
        assert_eq!(received.frames, received.good, "{line}");
        let bad = [received.lost, received.reordered, received.duplicate, received.stale];
        assert_eq!(bad, [0; 4], "{line}: {value:#}");
        let flows = value["flows"].as_array().unwrap();
        assert!(flows.iter().all(|flow| flow["lost"] == 0 && flow["sent"] == flow["arrived"]));
        let stamped = value["rx"]["latency"]["count"].as_u64().unwrap_or(0);
        assert_eq!(stamped > 0, !line.contains("--size 64 "), "{line}");
        summary.conclude(&mut quiet()).unwrap();
    }
}

/// Frames that a port is given without a link are dropped there.
#[test]
fn no_frame_is_sent_before_its_port_has_a_link() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (here, there) = (path("pktgen"), path("peer"));
    let line = format!("-p dgram:{},peer={} -c 100", here.display(), there.display());
    let peer = std::thread::spawn(move || {
        while !here.exists() {
            std::thread::yield_now();
        }
        std::thread::park_timeout(Duration::from_millis(50));
        let socket = UnixDatagram::bind(there).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (0..100).take_while(|_| socket.recv(&mut [0; 2048]).is_ok()).count()
    });
    let summary = run(&line).unwrap();
    assert_eq!((summary.sent(), peer.join().unwrap()), (100, 100));
}

fn quiet() -> Output {
    Output::new(&common::args("-p null:").run).unwrap()
}

/// The error that the summary of a run ends with.
fn conclusion(line: &str) -> (Exit, String) {
    let args = common::args(line);
    let mut output = Output::new(&args.run).unwrap();
    let summary =
        match pktgen::run(&args, &mut Registry::new(), &memwire_apps::Stop::new(), &mut output) {
            Ok(summary) => summary,
            Err(error) => return (error.code(), error.to_string()),
        };
    let error = summary.conclude(&mut output).err();
    error.map_or((Exit::Ok, String::new()), |error| (error.code(), error.to_string()))
}

#[test]
fn losses_beyond_what_is_allowed_end_with_4() {
    let _alone = alone();
    let wire = "-p ring:a -p chaos:seed=3,rx.drop=1%@ring:a -c 20k";
    let (code, message) = conclusion(&format!("{wire} --max-loss 0.1%"));
    assert_eq!(code, Exit::Check);
    assert!(message.contains("of the frames are lost, at most 0.1 % may be"), "{message}");
    assert_eq!(conclusion(&format!("{wire} --max-loss 2%")).0, Exit::Ok);
    let (code, message) = conclusion(&format!("{wire} --check"));
    assert_eq!(code, Exit::Check);
    assert!(
        message.contains("reordered 0, duplicate 0") && message.contains("--check allows none")
    );
}

#[test]
fn the_rate_is_kept_and_its_error_is_reported() {
    let _alone = alone();
    let summary = json(&run("-p null: --rate 20kpps -t 500ms").unwrap());
    // What is not due yet is never sent; what is due waits while others have the machine.
    let sent = number(&summary, "/tx/frames");
    assert!((8_000..=10_000).contains(&sent), "{sent}");
    let seconds = summary["seconds"].as_f64().unwrap();
    assert!((0.499..3.0).contains(&seconds), "{seconds}");
    assert_eq!(number(&summary, "/tx/gap_error/count"), sent - 1);
    assert_eq!(summary["ended"], "duration");
    // 1000 B at 8 Mb/s are a thousand frames a second; two queues share them.
    let summary = json(&run("-p null: --rate 8mbps --size 1000 -t 300ms -q 2 --flows 2").unwrap());
    let sent = number(&summary, "/tx/frames");
    assert!((200..=300).contains(&sent), "{sent}");
}

/// Ten seconds at 100 kpps, on a machine that has nothing else to do.
#[test]
fn at_100_kpps_no_frame_is_missing_after_ten_seconds() {
    let _alone = alone();
    if std::env::var_os("MEMWIRE_FULL").is_none() {
        eprintln!(
            "SKIP at_100_kpps_no_frame_is_missing_after_ten_seconds: takes ten seconds; MEMWIRE_FULL=1"
        );
        return;
    }
    let summary = json(&run("-p null: --rate 100kpps -t 10s").unwrap());
    let sent = number(&summary, "/tx/frames");
    assert!(sent.abs_diff(1_000_000) <= 1_000, "{sent}");
    assert!((9.99..=10.03).contains(&summary["seconds"].as_f64().unwrap()));
    eprintln!("gap error {:#}", summary["tx"]["gap_error"]);
}

#[test]
fn the_search_finds_the_rate_that_the_wire_takes() {
    let _alone = alone();
    // The wire takes 40,000 frames a second, 400 at once after a pause, and has 11 ms longer; a sender
    // that wants more does not get rid of them.
    let line = "-p ring:a,rate=40000 -p ring:a --search-ndr --rate 100kpps --trial 100ms \
                --resolution 5% --linger 20ms";
    let found = (0..5).find_map(|_| {
        let summary = run(line).unwrap();
        let value = json(&summary);
        let search = summary.search().unwrap();
        assert!(search.trials.iter().any(|trial| !trial.passed && !trial.was_sent), "{value:#}");
        assert!(search.trials.iter().all(|trial| !trial.passed || trial.pps <= 49_500.0));
        assert_eq!(value["mode"], "search");
        assert_eq!(value["search"]["trials"].as_array().unwrap().len(), search.trials.len());
        // On a busy machine less passes, or nothing at all; more than the wire takes never does.
        search.pps
    });
    assert!(found.is_some_and(|found| (1.0..=49_500.0).contains(&found)), "{found:?}");
}

#[test]
fn a_search_that_finds_no_rate_says_so_and_ends_with_4() {
    let _alone = alone();
    let line = "-p ring:a -p chaos:rx.drop=50%@ring:a --search-ndr --rate 5kpps --trial 100ms --resolution 20% \
                --linger 5ms";
    let (code, message) = conclusion(line);
    assert_eq!(code, Exit::Check);
    assert!(message.contains("even at") && message.contains("at most 0 % may be"), "{message}");
    // A busy machine may keep every trial from its time.
    let passes = |_| conclusion(&format!("{line} --max-loss 60%")).0 == Exit::Ok;
    assert!((0..5).any(passes));
}

/// A capture of `count` frames, one each millisecond.
fn capture(path: &Path, count: u64) {
    let mut writer = Writer::new(Vec::new(), Format::Pcapng);
    for number in 0..count {
        let mut frame = vec![0; 60 + usize::try_from(number % 50).unwrap()];
        frame[..8].copy_from_slice(&number.to_be_bytes());
        writer.write(1_000_000_000 + number * 1_000_000, &frame).unwrap();
    }
    std::fs::write(path, writer.finish().unwrap()).unwrap();
}

#[test]
fn a_capture_is_replayed_frame_by_frame_as_often_and_as_fast_as_asked() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.pcapng");
    capture(&file, 200);
    let out = |name: &str| folder.path().join(name);
    for (flags, rounds, least) in [
        ("", 1, 0.0),
        ("--loop 3", 3, 0.0),
        ("--pace", 1, 0.19),
        ("--rate 2kpps", 1, 0.095),
        ("--rate 2kpps -c 100", 1, 0.045),
    ] {
        let to = out("out.pcap");
        let line = format!("-p pcap:,tx={} --replay {} {flags}", to.display(), file.display());
        let summary = json(&run(&line).unwrap());
        let expected = if flags.contains("-c") { 100 } else { 200 * rounds };
        assert_eq!(number(&summary, "/tx/frames"), expected, "{flags}: {summary:#}");
        let took = summary["seconds"].as_f64().unwrap();
        // How much longer depends on who else uses the machine.
        assert!((least..least + 5.0).contains(&took), "{flags}: {took} s");
        let bytes = std::fs::read(&to).unwrap();
        let mut reader = Reader::new(bytes.as_slice());
        let mut at = 0;
        while let Some(record) = reader.read_record().unwrap() {
            assert_eq!(record.bytes[..8], (at % 200u64).to_be_bytes());
            assert_eq!(record.bytes.len() as u64, 60 + at % 200 % 50);
            at += 1;
        }
        assert_eq!(at, expected);
        std::fs::remove_file(&to).unwrap();
    }
}

#[test]
fn a_replay_counts_what_comes_back() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.pcapng");
    capture(&file, 5000);
    let line = format!("-p ring:a -p chaos:rx.drop=10%@ring:a --replay {}", file.display());
    let summary = run(&line).unwrap();
    let (value, received) = (json(&summary), summary.received());
    assert_eq!(summary.sent(), 5000);
    assert_eq!(received.lost, number(&value, "/ports/1/device/chaos_rx_drop"));
    assert_eq!(received.good + received.lost, 5000);
}

#[test]
fn what_was_captured_is_measured_later_by_a_run_that_only_receives() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sent.pcap").display().to_string();
    let headers = "--size 200 --flows 4";
    json(&run(&format!("-p pcap:,tx={file} {headers} -c 10k")).unwrap());
    let summary = run(&format!("--rx-only -p pcap:{file} {headers}")).unwrap();
    let value = json(&summary);
    assert_eq!((value["mode"].as_str(), value["ended"].as_str()), (Some("receive"), Some("ports")));
    assert_eq!(summary.received().good, 10_000);
    assert_eq!(summary.received().lost, 0);
    assert_eq!(value["tx"], Value::Null);
    // Of another port, nothing is ours.
    let other = run(&format!("--rx-only -p pcap:{file} {headers} --dport 1")).unwrap();
    assert_eq!(other.received().foreign, 10_000);
}

#[test]
fn sizes_and_flows_come_in_their_shares() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.pcap");
    let line = format!("-p pcap:,tx={} --size imix --dst 10.1.0.0/28 -c 12k", file.display());
    json(&run(&line).unwrap());
    let bytes = std::fs::read(&file).unwrap();
    let (mut reader, mut sizes, mut flows) =
        (Reader::new(bytes.as_slice()), BTreeMap::new(), BTreeMap::new());
    while let Some(record) = reader.read_record().unwrap() {
        *sizes.entry(record.bytes.len()).or_insert(0) += 1;
        *flows.entry(record.bytes[30..34].to_vec()).or_insert(0) += 1;
    }
    assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [(60, 7000), (590, 4000), (1514, 1000)]);
    assert_eq!(flows.len(), 16);
    assert!(flows.values().all(|count| *count == 750));
}

#[test]
fn the_json_is_what_its_schema_says() {
    let _alone = alone();
    let schema = include_str!("../../../docs/schema/pktgen.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.pcapng");
    capture(&file, 20);
    for line in [
        "-p null: -c 10k".to_owned(),
        "-p ring:a -p ring:a --size imix --flows 3 -c 10k --rate 1mpps".to_owned(),
        "-p ring:a -p ring:a --search-ndr --rate 20kpps --trial 20ms --linger 5ms".to_owned(),
        format!("-p null: --replay {}", file.display()),
        format!("--rx-only -p pcap:{}", file.display()),
    ] {
        let summary = json(&run(&line).unwrap());
        memwire_apps::schema::check(&schema, &summary)
            .unwrap_or_else(|why| panic!("{line}: {why}"));
    }
}

fn error_of(line: &str) -> AppError {
    run(line).expect_err(line)
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let _alone = alone();
    for (line, code, says) in [
        ("-p nul:", Exit::Usage, "did you mean 'null'?"),
        ("-p null:a -p null:a", Exit::Usage, "port 'null:a' is named twice"),
        ("-p null: --rate 50%", Exit::Usage, "the speed of 'null:' is not known"),
        ("-p null: --rate 99999gpps", Exit::Usage, "should be 0.001 to 10 gpps"),
        ("-p null: --rate 0.0001pps", Exit::Usage, "should be 0.001 to 10 gpps"),
        (
            "-p null: --size 9000",
            Exit::Usage,
            "do not fit buffers of 1920 B; use --buffer-size 9152",
        ),
        ("-p null: --size 60 --vlan 3", Exit::Usage, "these headers need 62 to"),
        ("-p null: --flows 0", Exit::Usage, "0 flows"),
        ("-p null: -q 2", Exit::Usage, "1 flows for 2 queues: each queue needs one of its own"),
        ("-p null: --check", Exit::Usage, "nobody receives, so nothing is known of losses"),
        ("-p null: --search-ndr", Exit::Usage, "nobody receives"),
        ("-p null: -l 1023", Exit::Usage, "core 1023: not in allowed set"),
        ("-p null: --ring 1000", Exit::Usage, "must be a power of two"),
        ("-p null: --replay /nowhere.pcap", Exit::Missing, "/nowhere.pcap"),
        ("--rx-only", Exit::Usage, "--rx-only needs a port"),
        ("-p null: --template /nowhere/t.toml", Exit::Missing, "--template /nowhere/t.toml: "),
    ] {
        let error = error_of(line);
        let message = error.to_string();
        assert!(message.contains(says), "{line}: {message}");
        assert_eq!(error.code(), code, "{line}: {message}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.pcap");
    capture(&file, 3);
    let error = error_of(&format!("-p pcap:{}", file.display()));
    assert!(error.to_string().contains("does not send"), "{error}");
    assert_eq!(error.code(), Exit::Usage);
}

#[test]
fn a_port_that_is_busy_is_refused_and_free_again_afterwards() {
    let _alone = alone();
    let registry = Registry::new();
    let held = registry.clone().open("null:a").unwrap();
    let error = run_on(&registry, "-p null:a -c 10").err().unwrap();
    assert!(error.to_string().contains("already open"), "{error}");
    drop(held);
    json(&run_on(&registry, "-p null:a -c 10").unwrap());
}
