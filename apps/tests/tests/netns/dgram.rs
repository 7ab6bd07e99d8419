//! `dgram` between two processes, as it stands between a host and a guest. Needs no namespace.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::process::{Process, binary, wait_for};

const FRAMES: u64 = 60_000;

fn start(folder: &Path, program: &str, arguments: &str) -> Process {
    let mut command = Command::new(binary(program));
    command.args(arguments.split(' ')).stdin(Stdio::null());
    Process::start(folder, &mut command, program)
}

/// `pktgen` to `gpurx`, which puts `around` around its port, and ends with that code; gpurx's summary.
fn stream(around: &str, flags: &str, code: i32) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (host, guest) = (path("host"), path("guest"));
    let logs = folder.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let arguments = format!(
        "-p {around}dgram:{guest},peer={host} -m fake --seq ipid --deadline 5s -c {FRAMES} -t 60s \
         --json{flags}"
    );
    let mut gpurx = start(&logs, "gpurx", &arguments);
    wait_for("gpurx's socket", || {
        assert!(!gpurx.has_ended(), "{}", gpurx.stderr());
        Path::new(&guest).exists().then_some(())
    });
    let arguments =
        format!("-p dgram:{host},peer={guest} --ip-id --size 1000 -c {FRAMES} -t 60s --json");
    let sent = start(&logs, "pktgen", &arguments).finish().succeeded().json();
    assert_eq!(sent["tx"]["frames"], FRAMES, "{sent:#}");
    let received = gpurx.finish();
    assert_eq!(received.code(), Some(code), "{}", received.stderr);
    assert!(!Path::new(&guest).exists() && !Path::new(&host).exists(), "paths are removed");
    received.json()
}

#[test]
fn every_byte_of_a_stream_over_a_socket_is_verified() {
    for flags in [" --idle interrupt", " --idle sleep"] {
        let summary = stream("", flags, 0);
        assert_eq!(summary["verify"]["ok"], FRAMES, "{summary:#}");
        assert_eq!((&summary["verify"]["bad"], &summary["path"]), (&0.into(), &"bounce".into()));
    }
}

#[test]
fn a_bit_that_changes_in_a_row_is_noticed_where_the_row_states_its_checksum_itself() {
    let summary = stream("chaos:seed=5,rx.flip=1%@", "", 4);
    let flipped = summary["ports"][0]["device"]["chaos_rx_flip"].as_u64().unwrap();
    assert!((FRAMES / 200..FRAMES / 50).contains(&flipped), "{flipped}");
    assert_eq!(summary["verify"]["bad"], flipped, "{summary:#}");
    assert_eq!(summary["verify"]["ok"], FRAMES - flipped);
}
