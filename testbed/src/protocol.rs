//! What host and agent say to each other over the serial port. Frames: two lengths (little-endian
//! `u32`), a head in JSON, and a body of bytes as they are. Knows neither sockets nor processes.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// Both ends must say the same number. Changes with every change of [`Head`].
pub(crate) const VERSION: u32 = 1;
/// The serial port's name, by which the guest finds it.
pub(crate) const PORT: &str = "memwire.agent";
/// The most bytes that one frame's body has.
pub(crate) const BODY: usize = 32 << 10;
/// The most bytes of a head: an environment of the host's must fit.
const HEAD: usize = 4 << 20;

/// What a frame is about.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) enum Head {
    /// Host: I am here, and speak this version.
    Hello { version: u32 },
    /// Agent: so am I; the guest has been up for so long.
    Ready { version: u32, uptime_s: f64 },
    /// Host: start this.
    Start(Start),
    /// Agent: it runs, as the leader of a process group of this number.
    Started { job: u32, pid: i32 },
    /// Host: the body is for its standard input; none is the end of it.
    Input { job: u32 },
    /// Agent: the body is what it printed.
    Output { job: u32, stream: Stream },
    /// Host: send its process group this signal.
    Signal { job: u32, number: i32 },
    /// Host: its terminal has this size now.
    Resize { job: u32, rows: u16, columns: u16 },
    /// Agent: it ended, with the status that a shell would report.
    Finished { job: u32, status: i32 },
    /// Agent: it could not be started.
    Failed { job: u32, reason: String },
    /// Host: end the guest, at once.
    PowerOff,
}

/// A process to be started.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Start {
    pub(crate) job: u32,
    /// The program, then its arguments.
    pub(crate) words: Vec<String>,
    pub(crate) folder: String,
    pub(crate) environment: Vec<(String, String)>,
    /// Whether [`Head::Input`] will follow; else its standard input is empty.
    pub(crate) input: bool,
    /// Rows and columns of a terminal of its own.
    pub(crate) terminal: Option<(u16, u16)>,
}

/// Where bytes were printed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// Writes one frame in one go.
pub(crate) fn write(to: &mut impl Write, head: &Head, body: &[u8]) -> io::Result<()> {
    let text = serde_json::to_vec(head)?;
    let too_long = |_| io::Error::other("a frame is longer than its length field can say");
    let lengths = [u32::try_from(text.len()), u32::try_from(body.len())];
    let mut bytes = Vec::with_capacity(8 + text.len() + body.len());
    for length in lengths {
        bytes.extend(length.map_err(too_long)?.to_le_bytes());
    }
    bytes.extend(&text);
    bytes.extend(body);
    to.write_all(&bytes)?;
    to.flush()
}

/// Reads one frame; none at the end of the stream.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<(Head, Vec<u8>)>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let head = u32::from_le_bytes(length) as usize;
    from.read_exact(&mut length)?;
    let body = u32::from_le_bytes(length) as usize;
    if head > HEAD || body > BODY {
        return Err(io::Error::other(format!("a frame of {head} and {body} bytes is no frame")));
    }
    let mut text = vec![0; head];
    from.read_exact(&mut text)?;
    let mut bytes = vec![0; body];
    from.read_exact(&mut bytes)?;
    Ok(Some((serde_json::from_slice(&text)?, bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let head = Head::Output { job: 7, stream: Stream::Err };
        let mut bytes = Vec::new();
        write(&mut bytes, &head, b"\0\xffx").expect("a vector takes all");
        write(&mut bytes, &Head::PowerOff, b"").expect("a vector takes all");

        let mut from = bytes.as_slice();

        assert_eq!(read(&mut from).expect("a frame"), Some((head, b"\0\xffx".to_vec())));
        assert_eq!(read(&mut from).expect("a frame"), Some((Head::PowerOff, Vec::new())));
        assert_eq!(read(&mut from).expect("the end"), None);
    }

    #[test]
    fn lengths_are_not_believed() {
        let mut bytes = u32::MAX.to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        assert!(read(&mut bytes.as_slice()).is_err());
    }

    #[test]
    fn a_frame_that_breaks_off_is_an_error() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Head::PowerOff, b"").expect("a vector takes all");
        assert!(read(&mut &bytes[..bytes.len() - 1]).is_err());
    }
}
