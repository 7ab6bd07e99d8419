//! How payloads reach the payload memory: straight from a port that splits, or by a copy. Chosen once,
//! before anything is started; the loop cannot tell.

use std::fmt;

use clap::ValueEnum;
use memwire_apps::AppError;
use pmd::{AnyRxQueue, Bounce, DeviceInfo, RxConfig, RxMemory, SplitAt, SplitConfig, SplitSupport};

use crate::receiver::Receiver;

/// What the user asked for.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathChoice {
    /// Direct where the port can, else bounce
    #[default]
    Auto,
    /// The port splits frames
    Direct,
    /// Frames are received whole into host memory, and payloads copied
    Bounce,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The port puts payloads where they belong.
    Direct,
    /// They are copied there.
    Bounce,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Bounce => "bounce",
        })
    }
}

impl PathChoice {
    /// The path for a port whose frames are to be cut at `at`, and, where `auto` could not take the
    /// direct one, why.
    ///
    /// # Errors
    /// Direct was asked of a port that cannot; nothing else is taken instead.
    pub fn resolve(
        self,
        port: &DeviceInfo,
        at: SplitAt,
    ) -> Result<(Path, Option<String>), AppError> {
        let split = port.capabilities.split;
        let why = match split.check(at) {
            Ok(()) if self != Self::Bounce => return Ok((Path::Direct, None)),
            Ok(()) => return Ok((Path::Bounce, None)),
            Err(why) => format!("port '{}': the {} driver {why}", port.port, port.driver),
        };
        let hint = match split {
            SplitSupport::None => {
                "--path bounce works here: it receives into host memory and copies payloads; \
                 'ring' ports can split"
            }
            _ => {
                "--seq ipid works here: rows are numbered by the IPv4 identification (pktgen \
                 --ip-id) and hold all of the UDP payload; so does --path bounce, which copies \
                 payloads"
            }
        };
        match self {
            Self::Direct => {
                let message = format!("path 'direct': {why}");
                Err(AppError::missing(message).hint(hint))
            }
            // Never silently: a copy is what this app is there to save.
            Self::Auto if split == SplitSupport::None => Ok((Path::Bounce, Some(why))),
            Self::Auto => Ok((Path::Bounce, Some(format!("{why}; {hint}")))),
            Self::Bounce => Ok((Path::Bounce, None)),
        }
    }
}

impl Path {
    /// What a queue is started with.
    #[must_use]
    pub fn rx_config(self, split: &SplitConfig, ring: usize) -> RxConfig {
        let memory = match self {
            Self::Direct => RxMemory::Split(split.clone()),
            Self::Bounce => RxMemory::Whole(split.heads.clone()),
        };
        RxConfig { memory, ring }
    }

    /// The started queue, as one that splits.
    ///
    /// # Errors
    /// The ring size is refused, or the driver started the queue as something else.
    pub fn wrap(
        self,
        queue: AnyRxQueue,
        split: SplitConfig,
        ring: usize,
    ) -> Result<Receiver, AppError> {
        match (self, queue) {
            (Self::Direct, AnyRxQueue::Split(queue)) => Ok(Receiver::Direct(queue)),
            (Self::Bounce, AnyRxQueue::Whole(queue)) => {
                Ok(Receiver::Bounce(Box::new(Bounce::new(queue, split, ring)?)))
            }
            _ => {
                Err(AppError::failed(format!("the driver did not start a queue for path '{self}'")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(split: SplitSupport) -> DeviceInfo {
        let capabilities = pmd::Capabilities { split, ..Default::default() };
        let port = "x:0".into();
        DeviceInfo { driver: "x", port, mac: [0; 6], numa_node: None, capabilities }
    }

    #[test]
    fn direct_is_taken_where_the_port_splits_and_never_replaced_when_asked_for() {
        let (can, cannot) = (info(SplitSupport::ProtocolAndLength), info(SplitSupport::None));
        let at = SplitAt::Protocol { extra: 24 };
        assert_eq!(PathChoice::Auto.resolve(&can, at), Ok((Path::Direct, None)));
        let why = "port 'x:0': the x driver cannot split headers from payloads".to_owned();
        assert_eq!(PathChoice::Auto.resolve(&cannot, at), Ok((Path::Bounce, Some(why))));
        assert_eq!(PathChoice::Bounce.resolve(&can, at), Ok((Path::Bounce, None)));
        assert_eq!(PathChoice::Direct.resolve(&can, at), Ok((Path::Direct, None)));
        let error = PathChoice::Direct.resolve(&cannot, at).unwrap_err();
        assert_eq!(error.code() as u8, 3);
        assert!(error.to_string().contains("hint: --path bounce works here"), "{error}");
    }

    #[test]
    fn hardware_that_cuts_behind_udp_alone_needs_a_number_that_stands_before() {
        let nic = info(SplitSupport::Hardware(pmd::HardwareSplit {
            longest_head: 256,
            protocol: true,
            ..pmd::HardwareSplit::default()
        }));
        let behind = SplitAt::Protocol { extra: 24 };
        let error = PathChoice::Direct.resolve(&nic, behind).unwrap_err();
        assert_eq!(error.code() as u8, 3);
        let text = error.to_string();
        assert!(text.contains("cuts frames right behind the transport header; 24 bytes"), "{text}");
        assert!(text.contains("hint: --seq ipid works here"), "{text}");
        let (path, why) = PathChoice::Auto.resolve(&nic, behind).unwrap();
        assert_eq!(path, Path::Bounce);
        assert!(why.unwrap().contains("--seq ipid works here"), "it is said, not silent");
        assert_eq!(PathChoice::Bounce.resolve(&nic, behind), Ok((Path::Bounce, None)));
        let at = SplitAt::Protocol { extra: 0 };
        assert_eq!(PathChoice::Auto.resolve(&nic, at), Ok((Path::Direct, None)));
        assert_eq!(PathChoice::Direct.resolve(&nic, at), Ok((Path::Direct, None)));
    }
}
