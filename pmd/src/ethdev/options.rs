//! What a port's options mean: which are DPDK's (device arguments, passed on), which are the environment's
//! (`eal-…`), and which are ours (`buffers`). Text in, text out.

use super::{eal::Settings, limit::Peer};
use crate::{Error, PortSpec};

/// Whose buffers a driver of DPDK's is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Buffers {
    /// The pool's own: nothing is copied by us.
    Pool,
    /// DPDK's, and frames are copied.
    Copy,
}

/// A port's spec, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// The device's name: of a virtual device, or a bus address.
    pub(super) name: String,
    /// Name and arguments, as DPDK takes them.
    pub(super) devargs: String,
    /// How DPDK is to be initialised.
    pub(super) eal: Settings,
    /// Whose buffers, if the user says.
    pub(super) buffers: Option<Buffers>,
}

impl Options {
    /// Whom the device's driver may wait for.
    pub(super) fn peer(&self) -> Peer {
        let mut arguments = self.devargs.split(',').skip(1).filter_map(|part| part.split_once('='));
        let socket = arguments.find(|(key, _)| ["path", "socket"].contains(key));
        Peer::new(&self.name, socket.map(|(_, path)| path))
    }
}

const EAL: &str = "eal-";

impl Options {
    pub(super) fn of(spec: &PortSpec) -> Result<Self, Error> {
        let bad = |why: String| Error::BadOption { port: spec.to_string(), why };
        let name = spec.addr.clone();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_plain) {
            let why = "a DPDK port is named by its device: dpdk:net_ring0, dpdk:net_memif0,role=server, \
                       dpdk:0000:01:00.0";
            return Err(bad(why.into()));
        }
        if let Some(why) = endless(&name, spec) {
            return Err(bad(why.into()));
        }
        let mut devargs = name.clone();
        for (key, value) in &spec.options {
            match key.as_str() {
                "eal-no-huge" | "eal-mem" | "buffers" => {}
                key if key.starts_with(EAL) => {
                    return Err(bad(format!("no option '{key}'; there are: eal-no-huge, eal-mem")));
                }
                // An argument without a value is one with an empty value to DPDK too.
                key => devargs.push_str(&format!(",{key}={value}")),
            }
        }
        devargs.push_str(default_arguments(&name, spec));
        let megabytes = spec.option("eal-mem", "megabytes of memory for DPDK, 64 or more")?;
        if megabytes.is_some_and(|megabytes| megabytes < 64u32) {
            return Err(bad(
                "option eal-mem: should be megabytes of memory for DPDK, 64 or more".into()
            ));
        }
        let eal = Settings { no_huge: spec.flag("eal-no-huge"), megabytes };
        let buffers = match spec.options.get("buffers").map(String::as_str) {
            None => None,
            Some("pool") => Some(Buffers::Pool),
            Some("copy") => Some(Buffers::Copy),
            Some(other) => {
                return Err(bad(format!("option buffers={other}: should be pool or copy")));
            }
        };
        Ok(Self { name, devargs, eal, buffers })
    }
}

/// Arguments that a device is given unless the user does.
fn default_arguments(name: &str, spec: &PortSpec) -> &'static str {
    let is_shaped = ["framesz", "blocksz"].iter().any(|key| spec.options.contains_key(*key));
    if name.contains("af_packet") && !is_shaped {
        // The driver refuses buffers that are smaller than a frame of its ring, whose default of 2048 bytes is
        // more than a slot of 2048 bytes has behind its headroom. Its frames have 1514 bytes anyway. Blocks are
        // whole pages and hold whole frames, without a gap (the driver counts on it).
        return ",framesz=1600,blocksz=102400";
    }
    ""
}

/// Why a device would be attached without end. DPDK attaches one device at a time, and this one only once
/// its peer is there: no other port could be opened meanwhile.
fn endless(name: &str, spec: &PortSpec) -> Option<&'static str> {
    let is_server = || spec.options.get("server").is_some_and(|server| server != "0");
    (name.contains("virtio_user") && is_server()).then_some(
        "option server: DPDK would wait in it for a peer, without a limit, and attach nothing else \
         meanwhile; let the other side make the socket and leave server out, or be that side: \
         dpdk:net_vhost0,iface=PATH",
    )
}

/// Drivers that cannot use memory that is not DPDK's, and why.
///
/// `AF_XDP` makes the memory of its pool a UMEM, which is one piece of DPDK's; a virtio-user device tells
/// its peer of memory by file descriptors, which foreign memory has none of in DPDK, and frames would
/// silently never arrive. A memif client without copies shares memory by descriptors too.
fn refusal(driver: &str, devargs: &str) -> Option<&'static str> {
    match driver {
        "net_af_xdp" => Some("its packet memory is one piece of DPDK's own"),
        "net_virtio_user" => {
            Some("it shares packet memory by file descriptors, which DPDK has for its own only")
        }
        "net_memif" if devargs.split(',').any(|argument| argument == "zero-copy=yes") => Some(
            "without copies it shares packet memory by file descriptors, which DPDK has for its own only",
        ),
        _ => None,
    }
}

/// Whose buffers a driver is given, and why if that is not what is best.
///
/// # Errors
/// The pool's are asked for, and the driver cannot use them.
pub(super) fn choose(
    asked: Option<Buffers>,
    driver: &str,
    devargs: &str,
) -> Result<(Buffers, Option<&'static str>), String> {
    match (asked, refusal(driver, devargs)) {
        (Some(Buffers::Pool), Some(why)) => {
            Err(format!("{driver} does not take foreign memory ({why}); use buffers=copy"))
        }
        (Some(Buffers::Copy), _) => Ok((Buffers::Copy, Some("buffers=copy asks for it"))),
        (None, Some(why)) => Ok((Buffers::Copy, Some(why))),
        (_, None) => Ok((Buffers::Pool, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Options, String> {
        let spec: PortSpec = text.parse().unwrap();
        Options::of(&spec).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_ours_is_the_devices() {
        let options =
            of("dpdk:net_memif0,role=server,socket=/tmp/m,eal-no-huge,buffers=copy").unwrap();
        assert_eq!(options.devargs, "net_memif0,role=server,socket=/tmp/m");
        assert_eq!((options.eal.no_huge, options.buffers), (true, Some(Buffers::Copy)));
        let options = of("dpdk:0000:01:00.0,eal-mem=128").unwrap();
        assert_eq!((options.name.as_str(), options.eal.megabytes), ("0000:01:00.0", Some(128)));
        let devargs = |text: &str| of(text).unwrap().devargs;
        assert_eq!(
            devargs("dpdk:net_af_packet0,iface=a"),
            "net_af_packet0,iface=a,framesz=1600,blocksz=102400"
        );
        let asked = "dpdk:net_af_packet0,framesz=2048,iface=a";
        assert_eq!(devargs(asked), "net_af_packet0,framesz=2048,iface=a");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(of("dpdk:").unwrap_err().contains("named by its device: dpdk:net_ring0"));
        assert!(
            of("dpdk:net_null0,eal-huge")
                .unwrap_err()
                .contains("no option 'eal-huge'; there are: eal-no-huge")
        );
        assert!(of("dpdk:net_null0,eal-mem=1").unwrap_err().contains("64 or more"));
        let error = of("dpdk:net_virtio_user0,path=/tmp/s,server=1").unwrap_err();
        assert!(
            error.contains("without a limit") && error.contains("net_vhost0,iface="),
            "{error}"
        );
        assert!(of("dpdk:net_virtio_user0,path=/tmp/s,server=0").is_ok());
        assert!(of("dpdk:net_null0,buffers=mine").unwrap_err().contains("should be pool or copy"));
    }

    #[test]
    fn a_driver_that_takes_no_foreign_memory_gets_copies_or_a_refusal() {
        use Buffers::{Copy, Pool};
        let error = choose(Some(Pool), "net_virtio_user", "net_virtio_user0,path=/x").unwrap_err();
        assert!(
            error.starts_with("net_virtio_user does not take foreign memory (it shares"),
            "{error}"
        );
        assert!(error.ends_with("use buffers=copy"), "{error}");
        let chosen = |driver, devargs| choose(None, driver, devargs).unwrap();
        assert_eq!(chosen("net_af_xdp", "").0, Copy);
        let (buffers, why) = chosen("net_memif", "net_memif0,zero-copy=yes");
        assert!(buffers == Copy && why.is_some_and(|why| why.contains("file descriptors")));
        assert_eq!(chosen("net_memif", "net_memif0"), (Pool, None));
        assert_eq!(choose(Some(Copy), "net_null", "").unwrap().0, Copy);
    }
}
