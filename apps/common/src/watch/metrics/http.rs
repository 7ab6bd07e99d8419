//! One connection: a request of bounded size within a bounded time, one answer, the end. Never blocks.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use super::text::CONTENT_TYPE;

/// How long a peer may take in all.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a request, headers included.
const LONGEST: usize = 8 << 10;

/// What comes next.
enum Step {
    Read,
    Write {
        done: usize,
    },
    /// Everything is said; the peer has to close, lest what it said last destroys our answer.
    Drain,
}

/// A peer that asks.
pub(super) struct Connection {
    stream: TcpStream,
    deadline: Instant,
    request: Vec<u8>,
    answer: Vec<u8>,
    step: Step,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (request, answer) = (Vec::new(), Vec::new());
        Ok(Self { stream, deadline: now + PATIENCE, request, answer, step: Step::Read })
    }

    /// Goes on as far as it can; returns whether there is more to do. `metrics` is called for a
    /// request that asks for them.
    pub(super) fn advance(&mut self, now: Instant, metrics: &mut dyn FnMut() -> String) -> bool {
        let going = loop {
            let is_next = match self.step {
                Step::Read => self.read(metrics),
                Step::Write { done } => self.write(done),
                Step::Drain => self.drain(),
            };
            match is_next {
                Ok(true) => {}
                Ok(false) => break false,
                Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
            }
        };
        going && now < self.deadline
    }

    fn read(&mut self, metrics: &mut dyn FnMut() -> String) -> io::Result<bool> {
        let mut bytes = [0; 1024];
        let got = self.stream.read(&mut bytes)?;
        self.request.extend_from_slice(&bytes[..got]);
        let ends = |end: &[u8]| self.request.windows(end.len()).any(|window| window == end);
        if ends(b"\r\n\r\n") || ends(b"\n\n") {
            self.answer = answer(&self.request, metrics);
        } else if self.request.len() > LONGEST {
            self.answer = plain("431 Request Header Fields Too Large", "", "too long\n");
        }
        if !self.answer.is_empty() {
            self.step = Step::Write { done: 0 };
        }
        Ok(got > 0 || !self.answer.is_empty())
    }

    fn write(&mut self, mut done: usize) -> io::Result<bool> {
        done += self.stream.write(&self.answer[done..])?;
        self.step = Step::Write { done };
        if done == self.answer.len() {
            self.stream.shutdown(Shutdown::Write)?;
            self.step = Step::Drain;
        }
        Ok(true)
    }

    fn drain(&mut self) -> io::Result<bool> {
        Ok(self.stream.read(&mut [0; 1024])? > 0)
    }
}

fn answer(request: &[u8], metrics: &mut dyn FnMut() -> String) -> Vec<u8> {
    let line = request.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let [method, target, version] = words[..] else {
        return plain("400 Bad Request", "", "that is no HTTP request\n");
    };
    if !version.starts_with("HTTP/1.") {
        return plain("505 HTTP Version Not Supported", "", "HTTP/1.1, please\n");
    }
    if target.split('?').next() != Some("/metrics") {
        return plain("404 Not Found", "", "metrics are at /metrics\n");
    }
    if method != "GET" {
        return plain("405 Method Not Allowed", "Allow: GET\r\n", "GET, please\n");
    }
    whole("200 OK", CONTENT_TYPE, "", &metrics())
}

fn plain(status: &str, more: &str, body: &str) -> Vec<u8> {
    whole(status, "text/plain; charset=utf-8", more, body)
}

fn whole(status: &str, content: &str, more: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content}\r\nContent-Length: {length}\r\n\
         {more}Connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}
