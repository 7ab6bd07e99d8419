//! A forwarder over VFIO without any privilege: a user who owns the groups' nodes, and may pin enough
//! memory.

use crate::{
    far::{self, HostApp, VICTIMS, end_l2fwd, wait_for_links},
    machine::{App, DEADLINE, Machine, binary, is_full},
    probe::ask,
};

const USER: u32 = 1000;

/// l2fwd as an ordinary user who may pin `memlock` MiB.
fn start<'a>(machine: &'a Machine, memlock: u64, arguments: &str) -> App<'a> {
    // Not every user may look into the folder that it was built in.
    let program = "/run/l2fwd-of-a-user";
    ask(machine, &format!("install -m 755 {} {program}", binary("l2fwd")));
    let [one, other] = VICTIMS.map(|nic| format!("{},iommu=type1", machine.port(nic)));
    let line = format!(
        "cd / && exec prlimit --memlock={} setpriv --reuid={USER} --regid={USER} --clear-groups \
         --inh-caps=-all --bounding-set=-all --no-new-privs {program} -p {one} -p {other} {arguments}",
        memlock << 20
    );
    App::of("l2fwd", machine.spawn(&line).unwrap())
}

/// Gives the group of each victim to the user, until this is dropped.
struct Groups<'a>(&'a Machine);

impl<'a> Groups<'a> {
    fn give(machine: &'a Machine) -> Self {
        Self::chown(machine, USER);
        Self(machine)
    }

    fn chown(machine: &Machine, user: u32) {
        for nic in VICTIMS {
            let function = format!("/sys/bus/pci/devices/{}", machine.address(nic).unwrap());
            let group = format!("/dev/vfio/$(basename $(readlink {function}/iommu_group))");
            ask(machine, &format!("chown {user} {group}"));
        }
    }
}

impl Drop for Groups<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            Self::chown(self.0, 0);
        }
    }
}

#[test]
fn an_ordinary_user_who_owns_the_groups_forwards_without_a_capability() {
    let test = "an_ordinary_user_who_owns_the_groups_forwards_without_a_capability";
    let Some(machine) = far::open(test) else { return };
    let _groups = Groups::give(&machine);
    let frames = if is_full() { 100_000 } else { 5_000 };
    let mut l2fwd = start(&machine, 128, "--idle sleep --json-stream -i 200ms");
    wait_for_links(&mut l2fwd, &["up"; 2]);
    let pid = l2fwd.job.pid().unwrap();
    let status = ask(&machine, &format!("cat /proc/{pid}/status"));
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name} in {status}")).split_whitespace().nth(1).unwrap()
    };
    assert_eq!((field("Name:"), field("Uid:")), ("l2fwd-of-a-user", "1000"));
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(field(set), 16), Ok(0), "{status}");
    }
    let good = HostApp::check(&machine, VICTIMS, frames, "3kpps").arrived();
    assert_eq!(good, frames);
    end_l2fwd(l2fwd);
    eprintln!("{test}: uid {USER}, CapEff 0, {frames} of {frames} frames");
}

#[test]
fn a_user_who_may_pin_too_little_is_told_how_much_before_anything_is_mapped() {
    let test = "a_user_who_may_pin_too_little_is_told_how_much_before_anything_is_mapped";
    let Some(machine) = far::open(test) else { return };
    let _groups = Groups::give(&machine);
    let mut l2fwd = start(&machine, 8, "--buffers 16384 -t 1s");
    let output = l2fwd.job.wait(DEADLINE).unwrap();
    let said = output.stderr.lines().find(|line| line.contains("RLIMIT_MEMLOCK"));
    let said = said.unwrap_or_else(|| panic!("{}: {}", output.status, output.stderr));
    assert!(said.contains("RLIMIT_MEMLOCK 8 MiB") && said.contains("ulimit -l"), "{said}");
    let need = said.split("pin ").nth(1).and_then(|text| text.split(' ').next()?.parse().ok());
    // 16 Ki buffers of 2 KiB and more.
    assert!(need.is_some_and(|mib: u64| (32..256).contains(&mib)), "{said}");
    assert_eq!(output.status, 3, "{said}");
    eprintln!("{test}: {said}");
}

#[test]
fn a_user_who_owns_no_group_is_told_which_node_to_ask_for() {
    let test = "a_user_who_owns_no_group_is_told_which_node_to_ask_for";
    let Some(machine) = far::open(test) else { return };
    let mut l2fwd = start(&machine, 128, "-t 1s");
    let output = l2fwd.job.wait(DEADLINE).unwrap();
    let said = output.stderr.lines().find(|line| line.contains("permission denied"));
    let said = said.unwrap_or_else(|| panic!("{}: {}", output.status, output.stderr));
    assert!(said.contains("/dev/vfio/") && said.contains("chown it to uid 1000"), "{said}");
    assert_eq!(output.status, 3, "{said}");
    eprintln!("{test}: {said}");
}
