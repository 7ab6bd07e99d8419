//! What exporter and importer say to each other: messages of 64 bytes over a `SOCK_SEQPACKET` socket, little
//! endian. Numbers and text only; the descriptors travel beside them.
//!
//! | bytes | what |
//! |---|---|
//! | 0–7 | `memwire` and a zero |
//! | 8–11 | version: 1 |
//! | 12–15 | 1: here is a dma-buf (its descriptor comes along); 2: the dma-buf is taken back |
//! | 16–23 | bytes of the dma-buf |
//! | 24–27 | bytes of a page that it is made of |
//! | 28–31 | bit 0: the memory file behind it comes along as a second descriptor |
//! | 32–63 | how the exporter calls it, in UTF-8, filled up with zeros |

/// Bytes of a message.
pub(super) const LEN: usize = 64;
const MAGIC: &[u8; 8] = b"memwire\0";
const VERSION: u32 = 1;
const NAME: std::ops::Range<usize> = 32..LEN;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Here is a dma-buf.
    Here {
        /// Its bytes.
        bytes: u64,
        /// Bytes of a page.
        page: u32,
        /// Whether the memory file behind it comes along.
        has_memory: bool,
        /// How the exporter calls it.
        name: String,
    },
    /// It is taken back: use it no more.
    TakenBack,
}

impl Message {
    pub(super) fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        put(8, &VERSION.to_le_bytes());
        match self {
            Self::Here { bytes, page, has_memory, name } => {
                put(12, &1u32.to_le_bytes());
                put(16, &bytes.to_le_bytes());
                put(24, &page.to_le_bytes());
                put(28, &u32::from(*has_memory).to_le_bytes());
                put(NAME.start, &name.as_bytes()[..name.floor_char_boundary(NAME.len())]);
            }
            Self::TakenBack => put(12, &2u32.to_le_bytes()),
        }
        out
    }

    /// Reads a message of somebody whom nobody needs to trust.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let Ok(bytes) = <&[u8; LEN]>::try_from(bytes) else {
            return Err(format!("a message of {} bytes, not {LEN}", bytes.len()));
        };
        if &bytes[..8] != MAGIC {
            return Err("it does not speak memwire's protocol".into());
        }
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| bytes[at + byte]));
        if word(8) != VERSION {
            return Err(format!(
                "version {} of the protocol, and {VERSION} is known here",
                word(8)
            ));
        }
        match word(12) {
            1 => {
                let name = String::from_utf8_lossy(&bytes[NAME]);
                let name = name.trim_end_matches('\0');
                let plain = |c: char| if c.is_control() || c.is_whitespace() { '_' } else { c };
                Ok(Self::Here {
                    bytes: u64::from(word(16)) | u64::from(word(20)) << 32,
                    page: word(24),
                    has_memory: word(28) & 1 != 0,
                    name: name.chars().map(plain).collect(),
                })
            }
            2 => Ok(Self::TakenBack),
            kind => Err(format!("a message of kind {kind}, which is not known")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn here(name: &str) -> Message {
        Message::Here { bytes: 5 << 32, page: 4096, has_memory: true, name: name.into() }
    }

    #[test]
    fn what_is_said_is_what_is_heard() {
        for message in [here("dmabuf:udmabuf"), here(""), Message::TakenBack] {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn a_long_name_is_cut_between_letters_and_blanks_are_none() {
        let heard = Message::decode(&here(&"é".repeat(40)).encode()).unwrap();
        assert_eq!(heard, here(&"é".repeat(16)));
        assert_eq!(Message::decode(&here("a b\n").encode()), Ok(here("a_b_")));
    }

    #[test]
    fn what_is_no_message_says_so() {
        let says = |bytes: &[u8]| Message::decode(bytes).unwrap_err();
        assert_eq!(says(b""), "a message of 0 bytes, not 64");
        assert_eq!(says(&[0; LEN]), "it does not speak memwire's protocol");
        let with = |at: usize, byte: u8| {
            let mut bytes = here("x").encode();
            bytes[at] = byte;
            says(&bytes)
        };
        assert_eq!(with(8, 9), "version 9 of the protocol, and 1 is known here");
        assert_eq!(with(12, 9), "a message of kind 9, which is not known");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut bytes = bytes;
            let _ = Message::decode(&bytes);
            bytes.resize(LEN, 0);
            bytes[..12].copy_from_slice(&here("").encode()[..12]);
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
            }
        }
    }
}
