//! A veth pair in a namespace that lives as long as one program: nothing of the machine's own network is
//! touched, and nothing is left behind. Knows what stands in the way.

use crate::workspace::{is_root, succeeds};

/// Makes the pair, and becomes the program that follows. Addresses as the bars know them; no traffic but theirs.
/// What loads programs into the kernel keeps them in a file system of its own.
const SETUP: &str = "set -e
[ ! -d /sys/fs/bpf ] || mount -t bpf bpf /sys/fs/bpf 2>/dev/null || true
for scope in all default; do
  [ ! -e /proc/sys/net/ipv6/conf/$scope/disable_ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/$scope/disable_ipv6
done
ip link add mwb0 address 02:00:00:00:00:01 type veth peer name mwb1 address 02:00:00:00:00:02
ip link set mwb0 up
ip link set mwb1 up
exec \"$@\"";

/// The words before a program that is to run there; or why none can.
pub(super) fn wrapper() -> Result<[&'static str; 7], &'static str> {
    if !is_root() {
        return Err("needs root to make a network namespace");
    }
    if !succeeds("ip", &["-V"]) {
        return Err("needs ip: apt-get install iproute2");
    }
    if !succeeds("unshare", &["--net", "--mount", "true"]) {
        return Err("this machine lets nobody make namespaces (unshare --net --mount)");
    }
    Ok(["unshare", "--net", "--mount", "sh", "-c", SETUP, "sh"])
}
