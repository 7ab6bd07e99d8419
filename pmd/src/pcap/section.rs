//! What a pcapng file says beside its frames: who wrote it, of which interfaces, and what was counted
//! (draft-ietf-opsawg-pcapng, §3.5, §4.1, §4.2, §4.3, §4.6). Values in, bytes of blocks out.

/// Codes of options.
mod code {
    pub(super) const END: u16 = 0;
    pub(super) const COMMENT: u16 = 1;
    pub(super) const SHB_HARDWARE: u16 = 2;
    pub(super) const SHB_OS: u16 = 3;
    pub(super) const SHB_USERAPPL: u16 = 4;
    pub(super) const IF_NAME: u16 = 2;
    pub(super) const IF_DESCRIPTION: u16 = 3;
    pub(super) const IF_TSRESOL: u16 = 9;
    pub(super) const IF_FILTER: u16 = 11;
    pub(super) const EPB_FLAGS: u16 = 2;
    pub(super) const EPB_DROPCOUNT: u16 = 4;
    pub(super) const ISB_STARTTIME: u16 = 2;
    pub(super) const ISB_ENDTIME: u16 = 3;
    pub(super) const ISB_IFRECV: u16 = 4;
    pub(super) const ISB_IFDROP: u16 = 5;
    pub(super) const ISB_FILTERACCEPT: u16 = 6;
    pub(super) const ISB_OSDROP: u16 = 7;
    pub(super) const ISB_USRDELIV: u16 = 8;
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
/// Bytes that are kept of a text.
const LONGEST_TEXT: usize = 4096;

/// Who writes a capture: the options of its section header. Texts beyond 4096 bytes are cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// The machine (`shb_hardware`).
    pub hardware: Option<String>,
    /// The operating system (`shb_os`).
    pub os: Option<String>,
    /// The program (`shb_userappl`).
    pub application: Option<String>,
    /// What the user has to say (`opt_comment`).
    pub comment: Option<String>,
}

impl Section {
    /// A section written by `application` on this machine.
    #[must_use]
    pub fn here(application: &str) -> Self {
        let system = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        Self {
            hardware: Some(text(system.machine())),
            os: Some(format!("{} {}", text(system.sysname()), text(system.release()))),
            application: Some(application.to_owned()),
            comment: None,
        }
    }
}

/// Where frames were captured: an interface block. Ethernet, nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// `if_name`
    pub name: Option<String>,
    /// `if_description`
    pub description: Option<String>,
    /// The filter that frames had to pass, as text (`if_filter`).
    pub filter: Option<String>,
}

/// What was counted on an interface: a statistics block. What is `None` is not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// When counting began, in nanoseconds since 1970.
    pub start: Option<u64>,
    /// When these counts were taken.
    pub end: Option<u64>,
    /// Frames the interface received.
    pub received: Option<u64>,
    /// Frames the interface dropped.
    pub dropped: Option<u64>,
    /// Frames that passed the filter.
    pub accepted: Option<u64>,
    /// Frames the operating system dropped.
    pub os_dropped: Option<u64>,
    /// Frames that were written.
    pub delivered: Option<u64>,
}

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received.
    Inbound,
    /// Sent.
    Outbound,
}

/// What is said of one frame beside its bytes; pcapng only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note<'a> {
    /// Which way it went (`epb_flags`).
    pub direction: Option<Direction>,
    /// Frames lost on its interface since the frame before (`epb_dropcount`).
    pub dropped: Option<u64>,
    /// `opt_comment`
    pub comment: Option<&'a str>,
}

/// Options being put together.
struct Options<'a>(&'a mut Vec<u8>, usize);

impl<'a> Options<'a> {
    fn new(to: &'a mut Vec<u8>) -> Self {
        let start = to.len();
        Self(to, start)
    }

    fn bytes(&mut self, code: u16, value: &[u8]) {
        // Texts are cut before, numbers are short.
        let len = u16::try_from(value.len()).unwrap_or(0);
        self.0.extend(code.to_le_bytes());
        self.0.extend(len.to_le_bytes());
        self.0.extend(&value[..usize::from(len)]);
        pad(self.0);
    }

    fn text(&mut self, code: u16, value: Option<&str>) {
        if let Some(text) = value.filter(|text| !text.is_empty()) {
            self.bytes(code, &text.as_bytes()[..text.floor_char_boundary(LONGEST_TEXT)]);
        }
    }

    fn count(&mut self, code: u16, value: Option<u64>) {
        if let Some(value) = value {
            self.bytes(code, &value.to_le_bytes());
        }
    }

    /// A time is two halves, the upper one first.
    fn time(&mut self, code: u16, value: Option<u64>) {
        if let Some(value) = value {
            self.bytes(code, &value.rotate_left(32).to_le_bytes());
        }
    }

    /// Ends the list, if there is one.
    fn end(self) {
        if self.0.len() > self.1 {
            self.0.extend(u32::from(code::END).to_le_bytes());
        }
    }
}

fn pad(to: &mut Vec<u8>) {
    to.resize(to.len().next_multiple_of(4), 0);
}

/// Appends a block whose body `fill` appends.
fn block(to: &mut Vec<u8>, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = to.len();
    to.extend(kind.to_le_bytes());
    to.extend([0; 4]);
    fill(to);
    let len = u32::try_from(to.len() - start + 4).unwrap_or(u32::MAX).to_le_bytes();
    to[start + 4..start + 8].copy_from_slice(&len);
    to.extend(len);
}

/// Appends a section header.
pub(super) fn put_section(to: &mut Vec<u8>, section: &Section) {
    block(to, SECTION, |to| {
        // Byte order, version 1.0, length unknown.
        to.extend(0x1a2b_3c4d_u32.to_le_bytes());
        to.extend([1, 0, 0, 0]);
        to.extend(u64::MAX.to_le_bytes());
        let mut options = Options::new(to);
        options.text(code::COMMENT, section.comment.as_deref());
        options.text(code::SHB_HARDWARE, section.hardware.as_deref());
        options.text(code::SHB_OS, section.os.as_deref());
        options.text(code::SHB_USERAPPL, section.application.as_deref());
        options.end();
    });
}

/// Appends an interface block.
pub(super) fn put_interface(to: &mut Vec<u8>, interface: &Interface, snaplen: u32) {
    block(to, INTERFACE, |to| {
        // Ethernet.
        to.extend(1_u32.to_le_bytes());
        to.extend(snaplen.to_le_bytes());
        let mut options = Options::new(to);
        options.text(code::IF_NAME, interface.name.as_deref());
        options.text(code::IF_DESCRIPTION, interface.description.as_deref());
        options.bytes(code::IF_TSRESOL, &[9]);
        if let Some(filter) = &interface.filter {
            // The first byte says that it is a text, as libpcap understands it.
            let text = &filter[..filter.floor_char_boundary(LONGEST_TEXT)];
            options.bytes(code::IF_FILTER, &[&[0], text.as_bytes()].concat());
        }
        options.end();
    });
}

/// Appends a statistics block.
pub(super) fn put_statistics(to: &mut Vec<u8>, interface: u32, now: u64, counts: &Statistics) {
    block(to, STATISTICS, |to| {
        to.extend(interface.to_le_bytes());
        to.extend(now.rotate_left(32).to_le_bytes());
        let mut options = Options::new(to);
        options.time(code::ISB_STARTTIME, counts.start);
        options.time(code::ISB_ENDTIME, counts.end);
        options.count(code::ISB_IFRECV, counts.received);
        options.count(code::ISB_IFDROP, counts.dropped);
        options.count(code::ISB_FILTERACCEPT, counts.accepted);
        options.count(code::ISB_OSDROP, counts.os_dropped);
        options.count(code::ISB_USRDELIV, counts.delivered);
        options.end();
    });
}

/// Appends the options of a packet block.
pub(super) fn put_note(to: &mut Vec<u8>, note: &Note<'_>) {
    let mut options = Options::new(to);
    options.text(code::COMMENT, note.comment);
    if let Some(direction) = note.direction {
        let flags: u32 = match direction {
            Direction::Inbound => 1,
            Direction::Outbound => 2,
        };
        options.bytes(code::EPB_FLAGS, &flags.to_le_bytes());
    }
    options.count(code::EPB_DROPCOUNT, note.dropped);
    options.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_without_options_is_28_bytes_and_an_interface_32() {
        let mut bytes = Vec::new();
        put_section(&mut bytes, &Section::default());
        assert_eq!(bytes.len(), 28);
        put_interface(&mut bytes, &Interface::default(), 262_144);
        assert_eq!(bytes.len(), 60);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let comment = Some("ä".repeat(3000));
        let mut bytes = Vec::new();
        put_section(&mut bytes, &Section { comment, ..Section::default() });
        assert_eq!(bytes[24..28], [1, 0, 0, 0x10]);
        assert_eq!(bytes.len(), 28 + 4 + 4096 + 4);
        assert!(std::str::from_utf8(&bytes[28..28 + 4096]).is_ok());
    }

    #[test]
    fn times_have_their_upper_half_first() {
        let mut bytes = Vec::new();
        put_statistics(&mut bytes, 3, 0x1111_1111_2222_2222, &Statistics::default());
        assert_eq!(bytes[8..20], [3, 0, 0, 0, 0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x22, 0x22]);
    }
}
