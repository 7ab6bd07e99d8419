//! Asks the system's tcpdump, and so its libpcap, to compile an expression.

use std::{
    io::{ErrorKind, Read},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use memwire_apps::AppError;
use pmd::bpf::Program;

use super::shown;

/// How long it may take: names of hosts are looked up.
const PATIENCE: Duration = Duration::from_secs(10);

/// The program for an expression; `None` if there is no tcpdump.
pub(super) fn compile(text: &str) -> Result<Option<Program>, AppError> {
    let failed = |why: String| AppError::usage(format!("filter '{}': {why}", shown(text)));
    let spawned = Command::new("tcpdump")
        .args(["-ddd", "-y", "EN10MB", "-s", "262144", "--", text])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AppError::missing(format!("running tcpdump: {error}"))),
    };
    // Read beside it: a long program must not fill the pipe.
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let readers = [thread::spawn(move || read(out)), thread::spawn(move || read(err))];
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => pause(),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("tcpdump did not compile it in {PATIENCE:?}"))
                    .hint("write addresses as numbers, or use --compiler builtin"));
            }
            Err(error) => return Err(failed(format!("tcpdump: {error}"))),
        }
    };
    let [out, err] = readers.map(|reader| reader.join().unwrap_or_default());
    if !status.success() {
        return Err(failed(complaint(&err)).hint("see pcap-filter(7)"));
    }
    let program = out.parse().map_err(|error| failed(format!("tcpdump's program: {error}")))?;
    Ok(Some(program))
}

/// What tcpdump has against an expression: its last line, without its name.
fn complaint(stderr: &str) -> String {
    let line = stderr.lines().rev().find(|line| !line.trim().is_empty());
    let line = line.unwrap_or("tcpdump refused it and did not say why");
    line.strip_prefix("tcpdump: ").unwrap_or(line).to_owned()
}

fn read(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // A pipe that breaks has said what it had to say.
    let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[expect(clippy::disallowed_methods, reason = "before the data path starts")]
fn pause() {
    thread::sleep(Duration::from_millis(2));
}
