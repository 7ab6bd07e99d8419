//! A veth pair in a network namespace that lives as long as one program: nothing of the machine's own network is
//! touched, and nothing is left behind. Knows what stands in the way.

use crate::workspace::{is_root, succeeds};

/// Makes the pair, and becomes the program that follows. Addresses as the bars know them; no traffic but theirs.
const SETUP: &str = "set -e
for scope in all default; do
  [ ! -e /proc/sys/net/ipv6/conf/$scope/disable_ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/$scope/disable_ipv6
done
ip link add mwb0 address 02:00:00:00:00:01 type veth peer name mwb1 address 02:00:00:00:00:02
ip link set mwb0 up
ip link set mwb1 up
exec \"$@\"";

/// The words before a program that is to run there; or why none can.
pub(super) fn wrapper() -> Result<[&'static str; 6], &'static str> {
    if !is_root() {
        return Err("needs root to make a network namespace");
    }
    if !succeeds("ip", &["-V"]) {
        return Err("needs ip: apt-get install iproute2");
    }
    if !succeeds("unshare", &["--net", "true"]) {
        return Err("this machine lets nobody make a network namespace (unshare --net)");
    }
    Ok(["unshare", "--net", "sh", "-c", SETUP, "sh"])
}
