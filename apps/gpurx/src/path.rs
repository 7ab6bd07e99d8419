//! How payloads reach the payload memory: straight from a port that splits, or by a copy. Chosen once,
//! before anything is started; the loop cannot tell.

use std::fmt;

use clap::ValueEnum;
use memwire_apps::AppError;
use pmd::{
    AnyRxQueue, Bounce, DeviceInfo, HardwareSplit, RxConfig, RxMemory, SplitAt, SplitConfig,
    SplitSupport,
};

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

/// How the payloads of one port reach the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which way.
    pub path: Path,
    /// Where frames are cut.
    pub at: SplitAt,
    /// Bytes that the port leaves free in front of a head in its buffer.
    pub head_offset: usize,
}

/// Ethernet without a tag, IPv4 without options, UDP: what is before the payload of most streams.
const PLAIN_HEADERS: usize = 14 + 20 + 8;

impl Route {
    fn new(path: Path, at: SplitAt, split: SplitSupport) -> Self {
        let head_offset = match (path, split) {
            (Path::Direct, SplitSupport::Hardware(hardware)) => hardware.head_offset,
            _ => 0,
        };
        Self { path, at, head_offset }
    }

    /// Where every payload has to start, if frames are cut there whatever their headers are.
    #[must_use]
    pub fn payload_at(&self) -> Option<usize> {
        match (self.path, self.at) {
            (Path::Direct, SplitAt::Length(_)) => Some(PLAIN_HEADERS),
            _ => None,
        }
    }
}

/// Where a port cuts frames so that `extra` bytes behind the transport header stay with the head.
fn cut(split: SplitSupport, extra: usize) -> Result<SplitAt, String> {
    if let SplitSupport::Hardware(HardwareSplit { data_offset: 1.., .. }) = split {
        return Err(
            "leaves bytes free in front of each payload, so that rows would not lie end to end"
                .into(),
        );
    }
    let behind = SplitAt::Protocol { extra };
    let why = match split.check(behind) {
        Ok(()) => return Ok(behind),
        Err(why) => why,
    };
    let after = SplitAt::Length(PLAIN_HEADERS + extra);
    split.check(after).map(|()| after).map_err(|_| why)
}

impl PathChoice {
    /// The way for a port, where `extra` bytes behind the transport header belong to the head; and what the
    /// user should know of it, if anything: why `auto` could not take the direct one, or what it takes for granted.
    ///
    /// # Errors
    /// Direct was asked of a port that cannot; nothing else is taken instead.
    pub fn resolve(
        self,
        port: &DeviceInfo,
        extra: usize,
    ) -> Result<(Route, Option<String>), AppError> {
        let split = port.capabilities.split;
        let bounce = Route::new(Path::Bounce, SplitAt::Protocol { extra }, split);
        let why = match cut(split, extra) {
            Ok(_) if self == Self::Bounce => return Ok((bounce, None)),
            Ok(at) => {
                let route = Route::new(Path::Direct, at, split);
                let note = route.payload_at().map(|headers| {
                    format!(
                        "port '{}' cuts each frame after {} bytes: a stream of untagged UDP over IPv4 \
                         without options, {headers} bytes of headers, is taken for granted; other frames \
                         of the flow count as invalid",
                        port.port,
                        headers + extra
                    )
                });
                return Ok((route, note));
            }
            Err(why) => format!("port '{}': the {} driver {why}", port.port, port.driver),
        };
        // With a number that stands before the payload.
        let can_be_helped = cut(split, 0).is_ok();
        let hint = if can_be_helped {
            "--seq ipid works here: rows are numbered by the IPv4 identification (pktgen --ip-id) and hold \
             all of the UDP payload; so does --path bounce, which copies payloads"
        } else {
            "--path bounce works here: it receives into host memory and copies payloads; 'ring' ports can \
             split"
        };
        match self {
            Self::Direct => {
                let message = format!("path 'direct': {why}");
                Err(AppError::missing(message).hint(hint))
            }
            // Never silently: a copy is what this app is there to save.
            Self::Auto if !can_be_helped => Ok((bounce, Some(why))),
            Self::Auto => Ok((bounce, Some(format!("{why}; {hint}")))),
            Self::Bounce => Ok((bounce, None)),
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

    fn hardware(hardware: HardwareSplit) -> DeviceInfo {
        info(SplitSupport::Hardware(HardwareSplit { longest_head: 256, ..hardware }))
    }

    fn resolve(choice: PathChoice, port: &DeviceInfo, extra: usize) -> (Path, SplitAt, String) {
        let (route, note) = choice.resolve(port, extra).unwrap();
        (route.path, route.at, note.unwrap_or_default())
    }

    #[test]
    fn direct_is_taken_where_the_port_splits_and_never_replaced_when_asked_for() {
        let (can, cannot) = (info(SplitSupport::ProtocolAndLength), info(SplitSupport::None));
        let at = SplitAt::Protocol { extra: 24 };
        let direct = (Path::Direct, at, String::new());
        assert_eq!(resolve(PathChoice::Auto, &can, 24), direct);
        let why = "port 'x:0': the x driver cannot split headers from payloads".to_owned();
        assert_eq!(resolve(PathChoice::Auto, &cannot, 24), (Path::Bounce, at, why));
        assert_eq!(resolve(PathChoice::Bounce, &can, 24), (Path::Bounce, at, String::new()));
        assert_eq!(resolve(PathChoice::Direct, &can, 24), direct);
        let error = PathChoice::Direct.resolve(&cannot, 24).unwrap_err();
        assert_eq!(error.code() as u8, 3);
        assert!(error.to_string().contains("hint: --path bounce works here"), "{error}");
    }

    #[test]
    fn hardware_that_cuts_behind_udp_alone_needs_a_number_that_stands_before() {
        let nic = hardware(HardwareSplit { protocol: true, ..HardwareSplit::default() });
        let error = PathChoice::Direct.resolve(&nic, 24).unwrap_err();
        assert_eq!(error.code() as u8, 3);
        let text = error.to_string();
        assert!(text.contains("cuts frames right behind the transport header; 24 bytes"), "{text}");
        assert!(text.contains("hint: --seq ipid works here"), "{text}");
        let (path, _, why) = resolve(PathChoice::Auto, &nic, 24);
        assert_eq!(path, Path::Bounce);
        assert!(why.contains("--seq ipid works here"), "it is said, not silent");
        let at = SplitAt::Protocol { extra: 0 };
        for choice in [PathChoice::Auto, PathChoice::Direct] {
            assert_eq!(resolve(choice, &nic, 0), (Path::Direct, at, String::new()));
        }
    }

    #[test]
    fn hardware_that_cuts_after_a_length_gets_that_of_plain_headers_and_it_is_said() {
        let by_length =
            HardwareSplit { length_step: Some(1), head_offset: 128, ..HardwareSplit::default() };
        let (route, note) = PathChoice::Auto.resolve(&hardware(by_length), 24).unwrap();
        let want = Route { path: Path::Direct, at: SplitAt::Length(66), head_offset: 128 };
        assert_eq!((route, route.payload_at()), (want, Some(42)));
        assert!(note.unwrap().contains("cuts each frame after 66 bytes"));
        let (route, _) = PathChoice::Bounce.resolve(&hardware(by_length), 24).unwrap();
        assert_eq!((route.path, route.payload_at(), route.head_offset), (Path::Bounce, None, 0));
        let padded = HardwareSplit { protocol: true, data_offset: 128, ..by_length };
        let (path, _, why) = resolve(PathChoice::Auto, &hardware(padded), 0);
        assert_eq!(path, Path::Bounce);
        assert!(why.ends_with("so that rows would not lie end to end"), "{why}");
        let error = PathChoice::Direct.resolve(&hardware(padded), 0).unwrap_err().to_string();
        assert!(error.contains("hint: --path bounce works here"), "{error}");
    }
}
