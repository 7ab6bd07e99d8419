//! The host's end of the line to the agent: sends requests, and hands what comes back to the job that it
//! is about.

use std::collections::HashMap;
use std::io::{BufReader, ErrorKind};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
#[expect(
    clippy::disallowed_types,
    reason = "control plane: jobs of several threads share the line"
)]
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::protocol::{self, Head, Stream, VERSION};

/// How long the guest may leave a request unread.
const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// What a job hears of its process.
#[derive(Debug)]
pub(super) enum Event {
    Started(i32),
    Output(Stream, Vec<u8>),
    Finished(i32),
    Failed(String),
}

#[derive(Debug)]
#[expect(
    clippy::disallowed_types,
    reason = "control plane: jobs of several threads share the line"
)]
pub(super) struct Link {
    stream: Mutex<UnixStream>,
    jobs: Arc<Mutex<Jobs>>,
    next: AtomicU32,
}

/// Who listens; nobody any more once the line is dead.
#[derive(Debug, Default)]
struct Jobs {
    listeners: HashMap<u32, Sender<Event>>,
    is_dead: bool,
}

impl Link {
    /// Greets the agent, and waits until it has greeted back; says for how long the guest has been up.
    pub(super) fn over(stream: UnixStream, limit: Duration) -> Result<(Self, f64)> {
        let set_up = |error| Error::io("the line to the agent", error);
        stream.set_read_timeout(Some(limit)).map_err(set_up)?;
        stream.set_write_timeout(Some(WRITE_LIMIT)).map_err(set_up)?;
        let mut from = BufReader::new(stream.try_clone().map_err(set_up)?);
        protocol::write(&mut &stream, &Head::Hello { version: VERSION }, &[]).map_err(set_up)?;
        let greeting = protocol::read(&mut from).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                Error::TimedOut { what: "the guest's boot".to_owned(), limit }
            }
            _ => set_up(error),
        })?;
        let uptime_s = match greeting {
            Some((Head::Ready { version: VERSION, uptime_s }, _)) => uptime_s,
            Some((Head::Ready { version, .. }, _)) => {
                return Err(Error::NotSetUp(format!(
                    "the agent speaks version {version} of the protocol, and this is {VERSION}"
                )));
            }
            other => return Err(Error::Protocol(format!("the agent greets with {other:?}"))),
        };
        stream.set_read_timeout(None).map_err(set_up)?;
        #[expect(clippy::disallowed_types, reason = "control plane: see the field")]
        let (stream, jobs) = (Mutex::new(stream), Arc::new(Mutex::new(Jobs::default())));
        let listeners = Arc::clone(&jobs);
        std::thread::spawn(move || {
            while let Ok(Some((head, body))) = protocol::read(&mut from) {
                let mut jobs = listeners.lock().unwrap_or_else(PoisonError::into_inner);
                jobs.hear(head, body);
            }
            let mut jobs = listeners.lock().unwrap_or_else(PoisonError::into_inner);
            *jobs = Jobs { listeners: HashMap::new(), is_dead: true };
        });
        Ok((Self { stream, jobs, next: AtomicU32::new(1) }, uptime_s))
    }

    /// A number for a new job, and what will be heard of it: the end at once if the line is dead.
    pub(super) fn register(&self) -> (u32, Receiver<Event>) {
        let job = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::channel();
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if !jobs.is_dead {
            jobs.listeners.insert(job, sender);
        }
        (job, events)
    }

    pub(super) fn send(&self, head: &Head, body: &[u8]) -> Result<()> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        protocol::write(&mut *stream, head, body)
            .map_err(|error| Error::io("cannot reach the agent", error))
    }
}

impl Jobs {
    fn hear(&mut self, head: Head, body: Vec<u8>) {
        let (job, event) = match head {
            Head::Started { job, pid } => (job, Event::Started(pid)),
            Head::Output { job, stream } => (job, Event::Output(stream, body)),
            Head::Finished { job, status } => (job, Event::Finished(status)),
            Head::Failed { job, reason } => (job, Event::Failed(reason)),
            // Only a host says the others.
            _ => return,
        };
        let is_last = matches!(event, Event::Finished(_) | Event::Failed(_));
        if let Some(listener) = self.listeners.get(&job) {
            // The job may have been dropped.
            let _ = listener.send(event);
        }
        if is_last {
            self.listeners.remove(&job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_of_another_version_is_refused() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        let ready = Head::Ready { version: VERSION + 1, uptime_s: 0.0 };
        protocol::write(&mut theirs, &ready, &[]).expect("written");
        let refused = Link::over(ours, Duration::from_secs(5)).expect_err("another version");
        assert!(refused.to_string().contains("cargo xtask testbed setup"), "{refused}");
    }

    #[test]
    fn each_job_hears_its_own_and_all_hear_the_end() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        let mut say = |head: &Head, body: &[u8]| {
            protocol::write(&mut theirs, head, body).expect("written");
        };
        say(&Head::Ready { version: VERSION, uptime_s: 1.5 }, b"");
        let (link, uptime_s) = Link::over(ours, Duration::from_secs(5)).expect("a greeting");
        assert!((uptime_s - 1.5).abs() < 1e-9);
        let ((first, a), (second, b)) = (link.register(), link.register());

        say(&Head::Output { job: second, stream: Stream::Out }, b"two");
        say(&Head::Finished { job: first, status: 3 }, b"");
        drop(theirs);

        assert!(matches!(a.recv(), Ok(Event::Finished(3))));
        assert!(a.recv().is_err(), "nothing follows the end");
        assert!(matches!(b.recv(), Ok(Event::Output(Stream::Out, bytes)) if bytes == b"two"));
        assert!(b.recv().is_err(), "the line is dead");
        assert!(link.register().1.recv().is_err(), "and stays so");
    }
}
