//! What is said when DPDK's environment is refused something, by permissions, limits or a want of hugepages.
//! Each time in a process of its own, which is shorn of it: DPDK is initialised once in one.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use pmd::Registry;
use tempfile::TempDir;

/// Set in such a process: the ports that it is to open, one a line.
const PORTS: &str = "MEMWIRE_TEST_OPEN";
/// How a line begins that says what came of one.
const SAID: &str = "opened: ";

/// This test, run again by a program that takes something away, to open ports.
struct Shorn {
    test: &'static str,
    folder: TempDir,
}

impl Shorn {
    /// `None` in the process that runs it again, which opens what it is told.
    fn again(test: &'static str) -> Option<Self> {
        if let Ok(ports) = env::var(PORTS) {
            for port in ports.lines() {
                let said = match Registry::new().open(port) {
                    Ok(_) => "works".to_owned(),
                    Err(error) => error.to_string(),
                };
                println!("{SAID}{said}");
            }
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // Others need not reach the original.
        fs::copy(env::current_exe().unwrap(), folder.path().join("test")).unwrap();
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        Some(Self { test, folder })
    }

    /// What opening each of these ports comes to in a process that `program` starts.
    fn open(&self, program: &[&str], ports: &[&str]) -> Vec<String> {
        self.try_open(program, ports, i32::MIN).expect("that is no exit status")
    }

    /// The same; `None` if the program ends with the status by which it says that it cannot.
    fn try_open(&self, program: &[&str], ports: &[&str], cannot: i32) -> Option<Vec<String>> {
        let child = Command::new(program[0])
            .args(&program[1..])
            .arg(self.folder.path().join("test"))
            .args([
                "--exact",
                &format!("refusals::{}", self.test),
                "--nocapture",
                "--test-threads=1",
            ])
            .env(PORTS, ports.join("\n"))
            .env("TMPDIR", self.folder.path())
            .env("HOME", self.folder.path())
            .env_remove("XDG_RUNTIME_DIR")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let (text, errors) =
            (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
        if child.status.code() == Some(cannot) {
            return None;
        }
        // The first line stands behind the test's name.
        let said: Vec<String> =
            text.lines().filter_map(|line| Some(line.split_once(SAID)?.1.to_owned())).collect();
        assert_eq!(said.len(), ports.len(), "{text}\n{errors}");
        Some(said)
    }
}

/// As an ordinary user.
const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
/// Shorter for those that use no hugepages.
const ORDINARY: &str = "eal-no-huge,eal-mem=64";

/// What a program takes away is taken away by root only.
fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("SKIP {test}: needs root, to take something away from a process");
    }
    is_root
}

#[test]
fn an_ordinary_user_has_virtual_devices_with_and_without_hugepages() {
    let test = "an_ordinary_user_has_virtual_devices_with_and_without_hugepages";
    let Some(shorn) = Shorn::again(test).filter(|_| is_root(test)) else { return };
    let port = format!("dpdk:net_null0,{ORDINARY}");
    assert_eq!(shorn.open(&NOBODY, &[&port]), ["works"]);
    if has_hugepages(test) {
        // Locked memory is a limit for devices that do DMA, and no other.
        let program = [&["prlimit", "--memlock=0"], &NOBODY[..]].concat();
        assert_eq!(shorn.open(&program, &["dpdk:net_null0", "dpdk:net_ring0"]), ["works", "works"]);
    }
}

#[test]
fn what_an_ordinary_user_may_not_have_is_named_with_the_privilege_that_it_takes() {
    let test = "what_an_ordinary_user_may_not_have_is_named_with_the_privilege_that_it_takes";
    let Some(shorn) = Shorn::again(test).filter(|_| is_root(test)) else { return };
    let ports = ["net_af_packet0,iface=lo", "net_tap0", "0000:ff:1f.6"];
    let ports = ports.map(|device| format!("dpdk:{device},{ORDINARY}"));
    let said = shorn.open(&NOBODY, &ports.each_ref().map(String::as_str));
    let [packet, tap, hardware] = &said[..] else { panic!("{said:#?}") };
    let what = "DPDK cannot attach 'net_af_packet0': open_packet_iface(): Could not open AF_PACKET socket: \
                permission denied; needs CAP_NET_RAW: run as root, or `setcap cap_net_raw+ep <binary>`";
    assert!(packet.contains(what), "{packet}");
    assert!(tap.contains("needs CAP_NET_ADMIN: run as root, or `setcap cap_net_admin"), "{tap}");
    assert!(hardware.contains("DPDK cannot attach '0000:ff:1f.6'"), "{hardware}");
    assert!(hardware.contains("`memwire status --all` lists them"), "{hardware}");
}

#[test]
fn more_memory_than_there_is_is_refused_each_time_with_what_there_is() {
    let test = "more_memory_than_there_is_is_refused_each_time_with_what_there_is";
    let Some(shorn) = Shorn::again(test).filter(|_| has_hugepages(test)) else { return };
    let said = shorn.open(&["env"], &["dpdk:net_null0,eal-mem=1048576", "dpdk:net_null0"]);
    for said in said {
        assert!(said.contains("DPDK's environment refused: EAL: Cannot init memory"), "{said}");
        assert!(said.contains("Requested: 1048576MB"), "{said}");
        assert!(
            said.contains("1048576 MB are asked: ask for less with eal-mem=MEGABYTES"),
            "{said}"
        );
    }
}

/// A kernel without hugepages, as it looks to a process.
const NO_HUGEPAGES: &str = "mount -t tmpfs none /sys/kernel/mm/hugepages && exec \"$@\"";

#[test]
fn a_kernel_without_hugepages_is_told_from_a_permission() {
    let test = "a_kernel_without_hugepages_is_told_from_a_permission";
    let Some(shorn) = Shorn::again(test).filter(|_| is_root(test) && has_hugepages(test)) else {
        return;
    };
    let program = ["unshare", "-m", "sh", "-c", NO_HUGEPAGES, "sh"];
    let said = shorn.open(&program, &["dpdk:net_null0"]).concat();
    let refused = "DPDK's environment refused: EAL: Cannot get hugepage information.; the kernel has no \
                   hugepages (/sys/kernel/mm/hugepages is empty): add eal-no-huge, which serves every driver \
                   but those of hardware";
    assert!(said.contains(refused), "{said}");
}

/// A control group that is allowed no hugepages, as a container's may be. Ends with 99 where there can be none.
const NO_SHARE: &str = r#"
    mount -t cgroup2 none "$PLACE" || exit 99
    grep -q hugetlb "$PLACE/cgroup.controllers" || exit 99
    echo +hugetlb > "$PLACE/cgroup.subtree_control" || exit 99
    group="$PLACE/memwire-$$"
    mkdir "$group" || exit 99
    for limit in "$group"/hugetlb.*.max; do echo 0 > "$limit"; done
    echo $$ > "$group/cgroup.procs"
    "$@"
    result=$?
    echo $$ > "$PLACE/cgroup.procs"
    rmdir "$group"
    exit $result"#;

#[test]
fn hugepages_that_a_control_group_forbids_are_refused_with_its_name() {
    let test = "hugepages_that_a_control_group_forbids_are_refused_with_its_name";
    let Some(shorn) = Shorn::again(test).filter(|_| is_root(test) && has_hugepages(test)) else {
        return;
    };
    let place = shorn.folder.path().join("groups");
    fs::create_dir(&place).unwrap();
    let place = format!("PLACE={}", place.display());
    let program = ["env", &place, "unshare", "-m", "sh", "-c", NO_SHARE, "sh"];
    let Some(said) = shorn.try_open(&program, &["dpdk:net_null0"], 99) else {
        println!("SKIP {test}: needs control groups (version 2) with hugetlb");
        return;
    };
    let said = said.concat();
    assert!(
        said.contains("error allocating rte services array (Cannot allocate memory)"),
        "{said}"
    );
    assert!(
        said.contains("but this process may not get them: see the limits of its control group"),
        "{said}"
    );
}

#[test]
fn a_limit_of_addresses_is_named() {
    let Some(shorn) = Shorn::again("a_limit_of_addresses_is_named") else { return };
    let limit = ["prlimit", "--as=300000000"];
    let said = shorn.open(&limit, &["dpdk:net_null0,eal-no-huge"]).concat();
    let advice = "this process may map 286 MB (ulimit -v), and DPDK reserves addresses for all memory that it \
                  could ever use: raise that limit, or ask for less: eal-mem=64";
    assert!(said.contains(advice), "{said}");
}

#[test]
fn a_limit_of_threads_is_named() {
    let test = "a_limit_of_threads_is_named";
    let Some(shorn) = Shorn::again(test).filter(|_| is_root(test)) else { return };
    let program = [&["prlimit", "--nproc=1"], &NOBODY[..]].concat();
    let said = shorn.open(&program, &[&format!("dpdk:net_null0,{ORDINARY}")]).concat();
    assert!(said.contains("raise this user's limit of processes (ulimit -u)"), "{said}");
}

/// Whether there are hugepages to be refused.
fn has_hugepages(test: &str) -> bool {
    let free = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let has = free.is_ok_and(|free| free.trim().parse::<u64>().is_ok_and(|free| free >= 64));
    if !has {
        println!("SKIP {test}: needs 64 free hugepages of 2 MB");
    }
    has
}
