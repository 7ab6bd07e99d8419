//! What the kernel uses a network interface for: whether somebody would miss it. Reads; changes nothing.

use std::{collections::HashSet, fs, path::Path};

use super::{Sysfs, sysfs::names};

/// `RTF_UP` of `<linux/route.h>`.
const ROUTE_UP: u32 = 1;
/// `RTF_REJECT`: the route that says that there is none.
const ROUTE_REJECT: u32 = 0x200;

/// What an interface is used for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub is_up: bool,
    /// Whether a default route leads through it.
    pub has_default_route: bool,
    /// Interfaces on top of it: the bridge or bond that it belongs to, VLANs.
    pub uppers: Vec<String>,
    /// Its addresses, but for those that it gave itself (link-local).
    pub addresses: Vec<String>,
}

impl Interface {
    /// What the system says of an interface, and `addresses` of its IP addresses.
    pub(crate) fn read(sysfs: &Sysfs, name: &str, addresses: Vec<String>) -> Self {
        let folder = sysfs.path("sys/class/net").join(name);
        let flags = fs::read_to_string(folder.join("flags")).unwrap_or_default();
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(0);
        let uppers = names(&folder).into_iter();
        let uppers = uppers.filter_map(|entry| Some(entry.strip_prefix("upper_")?.to_owned()));
        Self {
            name: name.to_owned(),
            is_up: flags & 1 != 0,
            has_default_route: default_routes(sysfs).contains(name),
            uppers: uppers.collect(),
            addresses,
        }
    }

    /// Why it must not be taken away; `force` gives addresses up, and nothing else.
    pub(crate) fn refusal(&self, force: bool) -> Option<String> {
        let name = &self.name;
        if self.is_up && self.has_default_route {
            return Some(format!(
                "{name} is up and has a default route: without it this machine is cut off; move the \
                 route to another interface first (not even --force takes it away)"
            ));
        }
        if let Some(upper) = self.uppers.first() {
            return Some(format!(
                "{name} belongs to {upper}: take it out first (ip link set {name} nomaster, or ip link \
                 delete {upper})"
            ));
        }
        match self.addresses.first() {
            Some(address) if !force => Some(format!(
                "{name} has the address {address}: ip address flush dev {name} first, or say --force"
            )),
            _ => None,
        }
    }
}

/// Interfaces that a route leads through, of both address families, but for link-local ones.
#[must_use]
pub fn routed_interfaces(sysfs: &Sysfs) -> HashSet<String> {
    let (four, six) = routes(sysfs);
    let near = |to: &str| to.starts_with("fe80") || to.starts_with("ff");
    let six = six.into_iter().filter(|route| !near(&route.to));
    four.into_iter().chain(six).map(|route| route.interface).collect()
}

fn default_routes(sysfs: &Sysfs) -> HashSet<String> {
    let (four, six) = routes(sysfs);
    let all = four.into_iter().chain(six);
    let leading = |route: &Route| route.flags & (ROUTE_UP | ROUTE_REJECT) == ROUTE_UP;
    let defaults = all.filter(|route| route.is_default && leading(route));
    defaults.map(|route| route.interface).collect()
}

/// A line of `/proc/net/route` or `/proc/net/ipv6_route`.
struct Route {
    to: String,
    is_default: bool,
    flags: u32,
    interface: String,
}

fn routes(sysfs: &Sysfs) -> (Vec<Route>, Vec<Route>) {
    let read = |name: &str| {
        let text: Box<Path> = sysfs.path("proc/net").join(name).into();
        fs::read_to_string(text).unwrap_or_default()
    };
    let four = read("route").lines().skip(1).filter_map(route_4).collect();
    let six = read("ipv6_route").lines().filter_map(route_6).collect();
    (four, six)
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`
fn route_4(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (&interface, &to) = words.first().zip(words.get(1))?;
    let zero = |at: usize| words.get(at).is_some_and(|word| word.bytes().all(|b| b == b'0'));
    Some(Route {
        to: to.to_owned(),
        is_default: zero(1) && zero(7),
        flags: words.get(3).and_then(|word| u32::from_str_radix(word, 16).ok()).unwrap_or(0),
        interface: interface.to_owned(),
    })
}

/// `destination length source length next-hop metric references use flags interface`
fn route_6(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let zero = |at: usize| words.get(at).is_some_and(|word| word.bytes().all(|b| b == b'0'));
    Some(Route {
        to: (*words.first()?).to_owned(),
        is_default: zero(0) && zero(1),
        flags: words.get(8).and_then(|word| u32::from_str_radix(word, 16).ok()).unwrap_or(0),
        interface: (*words.last()?).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    const HEAD: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n";

    #[test]
    fn a_default_route_of_either_family_keeps_an_interface() {
        let root = tempfile::tempdir().expect("a folder");
        let sysfs = Sysfs::at(root.path());
        let zero = "0".repeat(32);
        put(root.path(), "sys/class/net/eth0/flags", "0x1003\n");
        put(root.path(), "sys/class/net/eth1/flags", "0x1003\n");
        put(root.path(), "sys/class/net/eth2/flags", "0x1002\n");
        let four = "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\n\
                    eth2\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\n\
                    eth3\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        put(root.path(), "proc/net/route", &(HEAD.to_owned() + four));
        let six = format!(
            "{zero} 00 {zero} 00 {zero} 00000400 1 0 00000003 eth1\n\
             {zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo\n\
             fe80{} 40 {zero} 00 {zero} 00000100 1 0 00000001 eth4\n",
            "0".repeat(28)
        );
        put(root.path(), "proc/net/ipv6_route", &six);
        for name in ["eth0", "eth1"] {
            let refusal = Interface::read(&sysfs, name, Vec::new()).refusal(true);
            let refusal = refusal.expect("kept, whatever the user says");
            assert!(
                refusal.starts_with(&format!("{name} is up and has a default route")),
                "{refusal}"
            );
        }
        let down = Interface::read(&sysfs, "eth2", Vec::new());
        assert_eq!((down.has_default_route, down.refusal(false)), (true, None));
        assert!(!Interface::read(&sysfs, "lo", Vec::new()).has_default_route);
        let routed = routed_interfaces(&sysfs);
        assert!(routed.contains("eth3") && !routed.contains("eth4"), "{routed:?}");
    }

    #[test]
    fn an_interface_below_another_stays() {
        let root = tempfile::tempdir().expect("a folder");
        put(root.path(), "sys/class/net/eth0/upper_br0/x", "");
        let interface = Interface::read(&Sysfs::at(root.path()), "eth0", Vec::new());
        assert_eq!(interface.uppers, ["br0"]);
        assert_eq!(
            interface.refusal(true).expect("kept"),
            "eth0 belongs to br0: take it out first (ip link set eth0 nomaster, or ip link delete br0)"
        );
    }

    #[test]
    fn an_address_is_given_up_on_demand_only() {
        let addresses = vec!["192.0.2.7".to_owned()];
        let interface = Interface::read(&Sysfs::at("/nowhere"), "eth0", addresses);
        assert_eq!(
            interface.refusal(false).expect("kept"),
            "eth0 has the address 192.0.2.7: ip address flush dev eth0 first, or say --force"
        );
        assert_eq!(interface.refusal(true), None);
        assert_eq!(
            Interface::read(&Sysfs::at("/nowhere"), "eth1", Vec::new()).refusal(false),
            None
        );
    }
}
