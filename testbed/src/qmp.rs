//! QEMU's monitor: a request, its answer, and the events between them, one JSON value a line
//! (`docs/interop/qmp-spec.rst` of QEMU). Every wait has a limit.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
#[expect(clippy::disallowed_types, reason = "control plane: tests share one monitor")]
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// How long QEMU may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Events that nobody has asked for yet.
const EVENTS: usize = 1024;

/// A connection to the monitor.
#[derive(Debug)]
pub struct Qmp {
    #[expect(clippy::disallowed_types, reason = "control plane: tests share one monitor")]
    line: Mutex<Line>,
}

/// Something that happened to the machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What, as `DEVICE_DELETED`.
    pub name: String,
    /// About what.
    pub data: Value,
}

#[derive(Debug)]
struct Line {
    stream: UnixStream,
    /// Bytes of a line whose end has not come.
    pending: Vec<u8>,
    events: VecDeque<Event>,
}

impl Qmp {
    /// Takes the greeting and leaves the negotiation mode.
    pub(crate) fn over(stream: UnixStream) -> Result<Self> {
        let mut line = Line { stream, pending: Vec::new(), events: VecDeque::new() };
        let greeting = line.next(Instant::now() + ANSWER_LIMIT)?;
        if greeting.as_ref().is_none_or(|greeting| greeting.get("QMP").is_none()) {
            return Err(Error::Protocol(format!("the monitor greets with {greeting:?}")));
        }
        line.execute("qmp_capabilities", &Value::Null)?;
        #[expect(clippy::disallowed_types, reason = "control plane: tests share one monitor")]
        Ok(Self { line: Mutex::new(line) })
    }

    /// Any command, and what it returns.
    ///
    /// # Errors
    /// If QEMU refuses, or does not answer in 30 s.
    pub fn execute(&self, command: &str, arguments: &Value) -> Result<Value> {
        self.line().execute(command, arguments)
    }

    /// A command of the monitor for people, and what it prints.
    ///
    /// # Errors
    /// If QEMU does not answer in 30 s. What it refuses it only prints.
    pub fn human(&self, line: &str) -> Result<String> {
        let answer = self.execute("human-monitor-command", &json!({"command-line": line}))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// Plugs a NIC's cable, or pulls it.
    ///
    /// # Errors
    /// If there is no such NIC.
    pub fn set_link(&self, nic: &str, up: bool) -> Result<()> {
        self.execute("set_link", &json!({"name": nic, "up": up})).map(|_| ())
    }

    /// Asks the guest to let go of a device, and waits until it has gone.
    ///
    /// # Errors
    /// If there is no such device, or the guest holds on to it for longer than that.
    pub fn device_del(&self, id: &str, limit: Duration) -> Result<()> {
        // One that went earlier under this name is not what is waited for.
        self.line().events.retain(|event| !is_deletion(event, id));
        self.execute("device_del", &json!({"id": id}))?;
        self.await_event(limit, |event| is_deletion(event, id)).map(|_| ())
    }

    /// Plugs a device in; see `Guest::device_add`.
    pub(crate) fn device_add(&self, properties: Map<String, Value>) -> Result<()> {
        self.execute("device_add", &Value::Object(properties)).map(|_| ())
    }

    /// Has a port report a PCIe error; see `Guest::inject_aer`.
    pub(crate) fn inject_aer(&self, id: &str, error: &str) -> Result<()> {
        let said = self.human(&format!("pcie_aer_inject_error {id} {error}"))?;
        if said.starts_with("OK") {
            return Ok(());
        }
        let command = format!("pcie_aer_inject_error {id} {error}");
        Err(Error::Refused { command, reason: said.trim().to_owned() })
    }

    /// Halts the guest's CPUs; its devices go on answering the host.
    ///
    /// # Errors
    /// If QEMU does not answer.
    pub fn stop(&self) -> Result<()> {
        self.execute("stop", &Value::Null).map(|_| ())
    }

    /// Lets them run again.
    ///
    /// # Errors
    /// If QEMU does not answer.
    pub fn cont(&self) -> Result<()> {
        self.execute("cont", &Value::Null).map(|_| ())
    }

    /// Ends QEMU.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn quit(&self) -> Result<()> {
        self.execute("quit", &Value::Null).map(|_| ())
    }

    /// The first event, past or to come, that is wanted; it is then used up, the others are kept.
    ///
    /// # Errors
    /// If none came in time.
    pub fn await_event(
        &self,
        limit: Duration,
        mut is_wanted: impl FnMut(&Event) -> bool,
    ) -> Result<Event> {
        let deadline = Instant::now() + limit;
        let mut line = self.line();
        loop {
            if let Some(place) = line.events.iter().position(&mut is_wanted) {
                let found = line.events.remove(place);
                return found.ok_or_else(|| Error::Protocol("an event was lost".to_owned()));
            }
            match line.next(deadline)? {
                Some(value) => line.keep(&value),
                None => {
                    return Err(Error::TimedOut { what: "an event of QEMU's".to_owned(), limit });
                }
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // A test that panicked has left nothing half done: lines are taken whole.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_deletion(event: &Event, id: &str) -> bool {
    event.name == "DEVICE_DELETED" && event.data["device"] == id
}

impl Line {
    fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let mut request = json!({"execute": command});
        if !arguments.is_null() {
            request["arguments"] = arguments.clone();
        }
        let request = format!("{request}\n");
        let gone = |error| Error::io(format!("cannot ask QEMU for {command}"), error);
        self.stream.set_write_timeout(Some(ANSWER_LIMIT)).map_err(gone)?;
        self.stream.write_all(request.as_bytes()).map_err(gone)?;
        let deadline = Instant::now() + ANSWER_LIMIT;
        while let Some(mut value) = self.next(deadline)? {
            if let Some(error) = value.get("error") {
                let reason = error["desc"].as_str().unwrap_or("no reason given").to_owned();
                return Err(Error::Refused { command: command.to_owned(), reason });
            }
            if value.get("return").is_some() {
                return Ok(value["return"].take());
            }
            self.keep(&value);
        }
        Err(Error::TimedOut { what: format!("QEMU's answer to {command}"), limit: ANSWER_LIMIT })
    }

    fn keep(&mut self, value: &Value) {
        if let Some(name) = value["event"].as_str() {
            if self.events.len() == EVENTS {
                self.events.pop_front();
            }
            self.events.push_back(Event { name: name.to_owned(), data: value["data"].clone() });
        }
    }

    /// The next line; none if it did not come in time.
    fn next(&mut self, deadline: Instant) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                let value = serde_json::from_slice(&line);
                return value.map(Some).map_err(|error| {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    Error::Protocol(format!("the monitor said {text:?}: {error}"))
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let gone = |error| Error::io("the monitor of QEMU", error);
            self.stream.set_read_timeout(Some(left)).map_err(gone)?;
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => {
                    let closed = ErrorKind::UnexpectedEof.into();
                    return Err(Error::io("QEMU closed its monitor", closed));
                }
                Ok(count) => self.pending.extend(&bytes[..count]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(gone(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    const GREETING: &str = "{\"QMP\": {\"version\": {}}}\n";

    /// A monitor that says these lines after each request, the first being `qmp_capabilities`.
    fn monitor(answers: &'static [&'static str]) -> Result<Qmp> {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        std::thread::spawn(move || {
            theirs.write_all(GREETING.as_bytes()).expect("written");
            let mut requests = BufReader::new(theirs.try_clone().expect("a copy"));
            for answer in answers {
                let mut request = String::new();
                requests.read_line(&mut request).expect("a request");
                theirs.write_all(answer.as_bytes()).expect("written");
            }
            // Stays open until the other end has gone.
            let _ = requests.read_line(&mut String::new());
        });
        Qmp::over(ours)
    }

    #[test]
    fn events_before_an_answer_are_kept() {
        let qmp = monitor(&[
            "{\"return\": {}}\n",
            "{\"event\": \"A\", \"data\": {\"n\": 1}}\n{\"event\": \"B\"}\n{\"return\": 7}\n",
        ])
        .expect("a greeting");

        assert_eq!(qmp.execute("x", &Value::Null).expect("an answer"), json!(7));

        let limit = Duration::from_secs(5);
        let event = qmp.await_event(limit, |event| event.name == "B").expect("it came");
        assert_eq!(event.data, Value::Null);
        let event = qmp.await_event(limit, |event| event.name == "A").expect("it came");
        assert_eq!(event.data, json!({"n": 1}));
    }

    #[test]
    fn a_refusal_carries_qemus_words() {
        let qmp = monitor(&[
            "{\"return\": {}}\n",
            "{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"Device 'x' not found\"}}\n",
        ])
        .expect("a greeting");
        let message = qmp.set_link("x", true).expect_err("no such device").to_string();
        assert_eq!(message, "qemu refused set_link: Device 'x' not found");
    }

    #[test]
    fn a_deletion_is_waited_for_by_name() {
        let qmp = monitor(&[
            "{\"return\": {}}\n",
            "{\"return\": {}}\n{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"b\"}}\n\
             {\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"a\"}}\n",
        ])
        .expect("a greeting");
        qmp.device_del("a", Duration::from_secs(5)).expect("it goes");
    }

    #[test]
    fn a_device_that_stays_is_waited_for_only_so_long() {
        let qmp = monitor(&["{\"return\": {}}\n", "{\"return\": {}}\n"]).expect("a greeting");
        let gone = qmp.device_del("a", Duration::from_millis(50));
        assert!(matches!(gone, Err(Error::TimedOut { .. })), "{gone:?}");
    }

    #[test]
    fn a_monitor_that_closes_is_an_error() {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        drop(theirs);
        assert!(Qmp::over(ours).is_err());
    }
}
