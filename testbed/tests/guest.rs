//! A guest, and everything that is promised of it. One boot serves all but the last tests.
//!
//! They run in a stage of their own (`cargo xtask test --only guest`), and skip where the testbed is not
//! set up.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use testbed::{Error, Guest, Kernel, Options, Signal, Topology};

const AGENT: &str = env!("CARGO_BIN_EXE_testbed-agent");
const LIMIT: Duration = Duration::from_secs(60);

fn options(topology: &str) -> Options {
    let options = Options::new(topology).expect("a topology of ours");
    Options { agent: Some(AGENT.into()), ..options }
}

/// Boots, or says why the test cannot run here.
fn boot(test: &str, options: &Options) -> Option<Guest> {
    match Guest::boot(options) {
        Ok(guest) => Some(guest),
        Err(Error::NotSetUp(reason)) => {
            println!("SKIP {test}: the testbed is not set up: {reason}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The guest that most tests share.
fn shared(test: &str) -> Option<&'static Guest> {
    static GUEST: OnceLock<Option<Guest>> = OnceLock::new();
    let guest = GUEST.get_or_init(|| boot(test, &options("default"))).as_ref();
    if guest.is_none() {
        println!("SKIP {test}: no guest");
    }
    guest
}

fn said(guest: &Guest, line: &str) -> String {
    let output = guest.run(line).expect("the guest lives");
    output.success().unwrap_or_else(|error| panic!("{line}: {error}")).trim().to_owned()
}

#[test]
fn a_command_runs_as_root_in_the_callers_folder_and_environment() {
    let Some(guest) = shared("a_command_runs_as_root_in_the_callers_folder_and_environment") else {
        return;
    };
    let here = std::env::current_dir().expect("a folder");

    assert!(said(guest, "uname -srm").starts_with("Linux 7."), "{}", said(guest, "uname -a"));
    assert_eq!(said(guest, "id -u; pwd"), format!("0\n{}", here.display()));
    assert_eq!(said(guest, "echo $CARGO_MANIFEST_DIR"), env!("CARGO_MANIFEST_DIR"));
    assert_eq!(said(guest, "head -c 8 Cargo.toml"), "[package");
}

#[test]
fn a_status_is_that_of_the_command() {
    let Some(guest) = shared("a_status_is_that_of_the_command") else { return };
    for (line, status) in [
        ("true", 0),
        ("exit 9", 9),
        ("exit 255", 255),
        ("kill -SEGV $$", 139),
        ("no-such-program-here", 127),
    ] {
        assert_eq!(guest.run(line).expect("the guest lives").status, status, "{line}");
    }
    let output = guest.run("echo out; echo err >&2").expect("the guest lives");
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn what_a_command_prints_arrives_whole() {
    let Some(guest) = shared("what_a_command_prints_arrives_whole") else { return };
    let output = guest.run("seq 200000").expect("the guest lives");
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[199_999]), (200_000, "1", "200000"));
}

#[test]
fn jobs_run_side_by_side_and_are_fed_heard_and_ended() {
    let Some(guest) = shared("jobs_run_side_by_side_and_are_fed_heard_and_ended") else { return };
    let mut waiting = guest.spawn("trap 'echo caught; exit 4' TERM; echo ready; sleep 60 & wait");
    let waiting = waiting.as_mut().expect("started");
    let mut upper = guest.spawn_with_input("tr a-z A-Z").expect("started");

    upper.write(b"some words\n").expect("written");
    upper.close_input().expect("closed");
    assert_eq!(upper.wait(LIMIT).expect("it ends").stdout, "SOME WORDS\n");
    waiting.wait_for("ready", LIMIT).expect("it says so");
    let pid = waiting.pid().expect("it runs");
    assert_eq!(said(guest, &format!("test -d /proc/{pid} && echo yes")), "yes");
    waiting.kill(Signal::Terminate).expect("sent");
    let output = waiting.wait(LIMIT).expect("it ends");
    assert_eq!((output.status, output.stdout.as_str()), (4, "ready\ncaught\n"));
}

#[test]
fn a_job_that_is_dropped_or_takes_too_long_is_killed_with_what_it_started() {
    let test = "a_job_that_is_dropped_or_takes_too_long_is_killed_with_what_it_started";
    let Some(guest) = shared(test) else { return };

    let late = guest.run_for("sleep 61; true", Duration::from_millis(300));

    assert!(matches!(late, Err(Error::TimedOut { .. })), "{late:?}");
    let line = "for _ in $(seq 100); do pgrep -f '[s]leep 61' || exit 0; sleep 0.1; done; exit 1";
    assert_eq!(guest.run(line).expect("the guest lives").status, 0, "sleep is still there");
}

#[test]
fn files_pass_through_out_both_ways_and_nowhere_else() {
    let Some(guest) = shared("files_pass_through_out_both_ways_and_nowhere_else") else { return };
    std::fs::write(guest.out().join("from-host"), "hello").expect("writable");

    assert_eq!(said(guest, "cat $OUT/from-host"), "hello");
    said(guest, "echo back > $OUT/from-guest; echo lost > from-guest-elsewhere; sync");

    let back = std::fs::read_to_string(guest.out().join("from-guest")).expect("it is there");
    assert_eq!(back, "back\n");
    assert!(!Path::new("from-guest-elsewhere").exists(), "the host's files are read-only");
}

#[test]
fn devices_are_where_the_topology_says_and_vfio_takes_them() {
    let Some(guest) = shared("devices_are_where_the_topology_says_and_vfio_takes_them") else {
        return;
    };
    for (id, pci) in [
        ("e1000e0", "8086 10d3"),
        ("igb0", "8086 10c9"),
        ("bar", "1af4 1110"),
        ("cmb", "1b36 0010"),
    ] {
        let folder = format!("/sys/bus/pci/devices/{}", guest.address(id).expect("known"));
        let found =
            said(guest, &format!("cut -c3- {folder}/vendor {folder}/device | paste -sd' '"));
        assert_eq!(found, pci, "{id}");
    }
    let driver = "basename $(readlink /sys/bus/pci/devices/0000:01:00.0/driver)";

    guest.bind(&["e1000e0", "bar"]).expect("bound");
    assert_eq!(said(guest, driver), "vfio-pci");
    assert_eq!(said(guest, "ls /dev/vfio/devices | wc -l"), "2");
    guest.unbind(&["e1000e0", "bar"]).expect("given back");

    assert_eq!(said(guest, driver), "e1000e");
    let unknown = guest.bind(&["igb7"]).expect_err("no such device").to_string();
    assert!(unknown.contains("it has e1000e0, igb0"), "{unknown}");
}

#[test]
fn the_bar_of_the_memory_device_is_a_file_of_the_hosts() {
    let Some(guest) = shared("the_bar_of_the_memory_device_is_a_file_of_the_hosts") else { return };
    std::fs::File::options()
        .write(true)
        .open(guest.out().join("bar.img"))
        .and_then(|file| std::os::unix::fs::FileExt::write_all_at(&file, b"memwire", 4096))
        .expect("writable");
    let resource =
        format!("/sys/bus/pci/devices/{}/resource2", guest.address("bar").expect("known"));

    let script = format!(
        "import mmap,os; f=os.open('{resource}',os.O_RDWR); m=mmap.mmap(f,0); \
         print(len(m)>>20, m[4096:4103].decode())"
    );
    let enable = "echo 1 > /sys/bus/pci/devices/0000:03:00.0/enable";
    let output = guest.run(&format!("{enable}; python3 -c \"{script}\"")).expect("it lives");

    assert_eq!(output.success().expect("python reads it"), "64 memwire\n");
}

/// A frame to everybody, of an experimental protocol, with this text.
fn frame(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([0x52, 0x54, 0, 0, 0, 0x99, 0x88, 0xb5]);
    frame.extend(text);
    frame.resize(60, 0);
    frame
}

#[test]
fn a_frame_passes_between_host_and_guest_both_ways() {
    let Some(guest) = shared("a_frame_passes_between_host_and_guest_both_ways") else { return };
    for nic in ["e1000e0", "igb0"] {
        let end = guest.host_end(nic).expect("wired to the host");
        let _ = std::fs::remove_file(&end.local);
        let socket = UnixDatagram::bind(&end.local).expect("a free name");
        socket.set_read_timeout(Some(LIMIT)).expect("a limit");
        // Answers each frame of the protocol with its bytes and "+".
        let script = "import socket,sys; \
            s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW,socket.htons(0x88b5)); \
            s.bind((sys.argv[1],0x88b5)); print('ready',flush=True); \
            f=s.recv(2048); s.send(f[:18]+b'+'+f[19:])";
        let folder = format!("/sys/bus/pci/devices/{}/net", guest.address(nic).expect("known"));
        let mut echo = guest
            .spawn(&format!(
                "n=$(ls {folder}); ip link set $n up; \
                 for _ in $(seq 200); do [ $(cat /sys/class/net/$n/carrier) = 1 ] && break; \
                 sleep 0.1; done; python3 -c \"{script}\" $n"
            ))
            .expect("started");
        echo.wait_for("ready", LIMIT).expect("the link comes up");

        socket.send_to(&frame(b"ping"), &end.remote).expect("QEMU is there");

        let start = Instant::now();
        let answer = loop {
            assert!(start.elapsed() < LIMIT, "{nic} sent nothing of ours back");
            let mut bytes = [0; 2048];
            let length = socket.recv(&mut bytes).expect("a frame");
            // The kernel has things of its own to say on a new interface.
            if bytes[12..14] == [0x88, 0xb5] {
                break bytes[..length].to_vec();
            }
        };
        assert_eq!(&answer[14..19], b"ping+", "{nic}");
        assert_eq!(echo.wait(LIMIT).expect("it ends").status, 0, "{nic}");
    }
}

#[test]
fn a_cable_that_is_pulled_and_plugged_is_seen_by_the_guest() {
    let Some(guest) = shared("a_cable_that_is_pulled_and_plugged_is_seen_by_the_guest") else {
        return;
    };
    let folder = format!("/sys/bus/pci/devices/{}/net", guest.address("igb0").expect("known"));
    let carrier = |wanted: u8| {
        format!(
            "n=$(ls {folder}); ip link set $n up; for _ in $(seq 300); do \
             [ $(cat /sys/class/net/$n/carrier) = {wanted} ] && exit; sleep 0.1; done; exit 1"
        )
    };
    assert_eq!(guest.run(&carrier(1)).expect("it lives").status, 0, "no carrier to begin with");

    guest.qmp().set_link("igb0", false).expect("QEMU pulls it");
    assert_eq!(guest.run(&carrier(0)).expect("it lives").status, 0, "the carrier stayed");
    guest.qmp().set_link("igb0", true).expect("QEMU plugs it");

    assert_eq!(guest.run(&carrier(1)).expect("it lives").status, 0, "the carrier did not return");
    assert!(guest.qmp().set_link("igb9", true).is_err());
}

#[test]
fn a_device_goes_and_comes_back_at_the_same_address() {
    let Some(guest) = shared("a_device_goes_and_comes_back_at_the_same_address") else { return };
    let path = format!("/sys/bus/pci/devices/{}", guest.address("e1000e0").expect("known"));

    guest.qmp().device_del("e1000e0", LIMIT).expect("the guest lets it go");
    assert_eq!(guest.run(&format!("test -e {path}")).expect("it lives").status, 1);
    guest.device_add("e1000e0").expect("it comes back");

    assert_eq!(said(guest, &format!("cat {path}/device")), "0x10d3");
    let twice = guest.device_add("e1000e0").expect_err("it is there").to_string();
    assert!(twice.contains("qemu refused device_add"), "{twice}");
}

#[test]
fn an_injected_pcie_error_is_reported_to_the_kernel() {
    let Some(guest) = shared("an_injected_pcie_error_is_reported_to_the_kernel") else { return };
    let reported = "PCIe Bus Error: severity=Correctable";
    assert!(!guest.console().contains(reported), "{}", guest.console());

    guest.inject_aer("igb0", "BAD_TLP").expect("an error that is corrected");

    let start = Instant::now();
    while !guest.console().contains(reported) {
        assert!(start.elapsed() < LIMIT, "{}", guest.console());
        said(guest, "sleep 0.1");
    }
    assert!(guest.inject_aer("igb0", "NO_SUCH_ERROR").is_err());
}

#[test]
fn a_stopped_guest_waits_and_then_goes_on() {
    let Some(guest) = shared("a_stopped_guest_waits_and_then_goes_on") else { return };
    guest.qmp().stop().expect("QEMU stops it");
    let mut job = guest.spawn("echo on").expect("taken");
    assert!(matches!(job.wait(Duration::from_millis(300)), Err(Error::TimedOut { .. })));
    guest.qmp().cont().expect("QEMU lets it go on");
    assert_eq!(job.wait(LIMIT).expect("it ends").stdout, "on\n");
}

#[test]
fn every_topology_boots_with_its_devices_at_their_addresses() {
    let test = "every_topology_boots_with_its_devices_at_their_addresses";
    for name in Topology::names().filter(|name| *name != "default") {
        let Some(guest) = boot(test, &options(name)) else { return };
        for device in guest.topology().devices() {
            let path =
                format!("/sys/bus/pci/devices/{}", guest.address(&device.id).expect("known"));
            let found = said(&guest, &format!("cat {path}/vendor"));
            let vendors = ["0x8086", "0x1af4", "0x15ad", "0x1b36"];
            assert!(vendors.contains(&found.as_str()), "{name}: {} is {found}", device.id);
        }
        let ids: Vec<_> = guest.topology().devices().iter().map(|d| d.id.as_str()).collect();
        guest.bind(&ids).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn wired_nics_reach_each_other() {
    let Some(guest) = boot("wired_nics_reach_each_other", &options("pairs")) else { return };
    for (left, right) in [("e1000e0", "e1000e1"), ("igb0", "igb1")] {
        let net = |id: &str| {
            format!("$(ls /sys/bus/pci/devices/{}/net)", guest.address(id).expect("known"))
        };
        let line = format!(
            "set -e; a={}; b={}; ip netns add far; ip link set $b netns far; \
             ip addr add 192.0.2.1/24 dev $a; ip link set $a up; \
             ip -n far addr add 192.0.2.2/24 dev $b; ip -n far link set $b up; \
             ping -c 3 -w 30 -q 192.0.2.2; ip addr flush dev $a; ip netns del far",
            net(left),
            net(right)
        );
        let output = guest.run(&line).expect("the guest lives");
        let printed = output.clone();
        assert!(output.stdout.contains(" 0% packet loss"), "{left}, {right}: {printed:?}");
    }
}

#[test]
fn debians_kernel_boots_too() {
    let options = Options { kernel: Kernel::Debian, ..options("default") };
    let Some(guest) = boot("debians_kernel_boots_too", &options) else { return };
    assert!(said(&guest, "uname -r").contains("deb"), "{}", said(&guest, "uname -r"));
    guest.bind(&["igb0"]).expect("its modules are there");
}

#[test]
fn a_guest_that_dies_is_told_with_the_end_of_its_console() {
    let test = "a_guest_that_dies_is_told_with_the_end_of_its_console";
    let Some(guest) = boot(test, &options("pairs")) else { return };

    let died = guest.run("echo c > /proc/sysrq-trigger").expect_err("there is no guest any more");

    let message = died.to_string();
    assert!(matches!(died, Error::Died { .. }), "{message}");
    assert!(message.contains("sysrq triggered crash"), "{message}");
    assert!(matches!(guest.run("true"), Err(Error::Died { .. })), "it stays dead");
}

#[test]
fn nothing_is_left_of_a_guest_that_was_dropped() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = Options { out: Some(folder.path().to_owned()), ..options("noiommu") };
    let Some(guest) = boot("nothing_is_left_of_a_guest_that_was_dropped", &options) else { return };
    let end = guest.host_end("igb0").expect("wired to the host");
    said(&guest, "echo kept > $OUT/file");
    assert!(end.remote.exists(), "QEMU listens");

    drop(guest);

    assert!(!end.remote.exists(), "its socket is gone");
    let socket = UnixDatagram::unbound().expect("a socket");
    assert!(socket.send_to(b"x", &end.remote).is_err());
    let kept = std::fs::read_to_string(folder.path().join("file")).expect("what was put there");
    assert_eq!(kept, "kept\n");
}

#[test]
fn what_qemu_refuses_is_told_in_its_words() {
    let mut options = options("default");
    options.qemu_arguments = vec!["-device".to_owned(), "no-such-device".to_owned()];
    match Guest::boot(&options) {
        Err(Error::NotSetUp(reason)) => {
            println!("SKIP what_qemu_refuses_is_told_in_its_words: {reason}")
        }
        Err(error) => assert!(error.to_string().contains("no-such-device"), "{error}"),
        Ok(_) => panic!("QEMU took a device that does not exist"),
    }
}
