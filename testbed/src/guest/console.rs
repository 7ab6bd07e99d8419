//! The guest's console on our standard error, while it grows.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

const POLL: Duration = Duration::from_millis(100);

/// Shows the console until it is dropped.
#[derive(Debug)]
pub(super) struct Echo {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts to show what is written to that file.
pub(super) fn echo(path: PathBuf) -> Echo {
    let (stop, stopped) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let Ok(mut file) = File::open(path) else { return };
        loop {
            let last = stopped.recv_timeout(POLL) != Err(RecvTimeoutError::Timeout);
            // What cannot be shown is still in the file.
            let _ = io::copy(&mut file.by_ref(), &mut io::stderr());
            if last {
                return;
            }
        }
    });
    Echo { stop: Some(stop), thread: Some(thread) }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
