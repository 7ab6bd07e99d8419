//! The program `gpurx-consumer`: a consumer of blocks in a process of its own, as one on a GPU would be.
//! Shares the checks with gpurx, and no memory but what it is passed.

pub mod args;
mod report;

use std::{
    fs::File,
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use memwire_apps::{AppError, Exit, Stop, idle::Idle};
use providers::SharedView;

use self::args::{Args, SinkChoice};
pub use self::report::{SCHEMA, Summary};
use crate::{
    consumer::{Rows, Tensor, Verdict, Verify},
    handover::{
        Layout, Taken, Taker,
        client::{Connection, Map, News, dial},
        taker::{Payloads, TakenRows},
        wire::{Area, AreaKind, WireError},
    },
};

/// How often a socket that is not there is tried.
const AGAIN: Duration = Duration::from_millis(5);
/// How often gpurx is listened to, at most.
const HEAR: Duration = Duration::from_millis(1);
/// Bad blocks that are told of one by one.
const MOST_TOLD: u64 = 10;

/// Runs the program.
///
/// # Errors
/// Nothing to connect to, what is offered cannot be used, or rows are not what was sent.
pub fn run(args: &Args) -> Result<Exit, AppError> {
    let stop = Stop::on_signals()?;
    let map = |area: &Area, file: &OwnedFd, layout: &Layout| map(args, area, file, layout);
    let socket = connect(args, &stop)?;
    let connection = Connection::open(socket, &map)?;
    let summary = take(args, connection, &map, &stop)?;
    if args.json {
        println!("{}", summary.json());
    } else {
        println!("{}", summary.text());
    }
    if summary.bad > 0 {
        return Err(AppError::check(format!("{} rows are not what was sent", summary.bad)));
    }
    Ok(Exit::Ok)
}

/// Connects, as soon as somebody listens.
fn connect(args: &Args, stop: &Stop) -> Result<OwnedFd, AppError> {
    let deadline = Instant::now() + args.wait;
    loop {
        let error = match dial(&args.socket) {
            Ok(socket) => return Ok(socket),
            Err(error) => error,
        };
        let is_early = matches!(&error, WireError::System { error, .. } if matches!(
            error.kind(),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
        ));
        if !is_early || stop.is_set() || Instant::now() >= deadline {
            let name = args.socket.display();
            return Err(AppError::missing(format!("--socket {name}: {error}"))
                .hint("start gpurx with --consumer and the same path, as the same user"));
        }
        thread::park_timeout(AGAIN);
    }
}

/// Maps payload memory: what was passed, or the file that is named in its place.
fn map(args: &Args, area: &Area, file: &OwnedFd, layout: &Layout) -> Result<SharedView, AppError> {
    let len = area.len(layout.stride);
    if let Some(path) = &args.memory {
        let failed = |error: &dyn std::fmt::Display| {
            AppError::missing(format!("--memory {}: {error}", path.display()))
        };
        let file = File::open(path).map_err(|error| failed(&error))?;
        return SharedView::fixed(&file, area.offset, len).map_err(|error| failed(&error));
    }
    Payloads::map(area, file, layout.stride).map_err(|error| {
        let why = AppError::missing(format!("payload memory ({}): {error}", area.kind.name()));
        match area.kind {
            AreaKind::Memfd => why,
            AreaKind::DmaBuf => why.hint("not every exporter's dma-buf can be mapped by the CPU"),
            AreaKind::Bar => why.hint(
                "VFIO's dma-bufs cannot be mapped by the CPU: --memory names the BAR's file in sysfs",
            ),
        }
    })
}

/// What is done with rows.
enum Sink {
    Verify(Verify),
    Tensor(Tensor),
    Count,
}

impl Sink {
    fn new(choice: SinkChoice, layout: &Layout) -> Self {
        let longest = layout.stride as usize;
        match choice {
            SinkChoice::Verify => Self::Verify(Verify::with_bits(longest, layout.row_bits)),
            SinkChoice::Tensor => Self::Tensor(Tensor::new(longest)),
            SinkChoice::Count => Self::Count,
        }
    }

    fn judge(&mut self, rows: &TakenRows<'_>) -> Verdict {
        match self {
            Self::Verify(verify) => verify.judge(rows),
            Self::Tensor(tensor) => tensor.judge(rows),
            Self::Count => Verdict::default(),
        }
    }

    fn digest(&self) -> Option<String> {
        let Self::Tensor(tensor) = self else { return None };
        crate::consumer::Consumer::digest(tensor).map(|digest| format!("{digest:08x}"))
    }
}

/// Takes blocks until gpurx ends, or we do.
fn take(
    args: &Args,
    mut connection: Connection,
    map: Map<'_>,
    stop: &Stop,
) -> Result<Summary, AppError> {
    let start = Instant::now();
    let mut summary = Summary::new(args);
    let mut sinks = Vec::new();
    summary.attached(&connection.takers);
    fit(args, &mut sinks, &connection.takers);
    let (mut block, mut idle) = (Taken::default(), Idle::new(args.idle));
    let is_over = || stop.is_set() || args.duration.is_some_and(|most| start.elapsed() >= most);
    let (mut is_closed, mut heard) = (false, Instant::now());
    loop {
        let mut got = 0;
        for (taker, sink) in connection.takers.iter_mut().zip(&mut sinks) {
            let is_there = taker.take(&mut block);
            if !is_there.map_err(|error| AppError::failed(error.to_string()))? {
                continue;
            }
            got += 1;
            judge(&block, taker, sink, &mut summary);
            keep(args, summary.blocks, stop);
            taker.give_back(&block);
        }
        let is_idle = idle.round(got);
        // What was ready when it closed has been taken by now.
        if is_closed && is_idle {
            break;
        }
        if !is_closed && heard.elapsed() >= HEAR {
            heard = Instant::now();
            match connection.hear(map)? {
                News::None => {}
                News::Area => summary.areas += 1,
                News::Changed => {
                    summary.changes += 1;
                    summary.attached(&connection.takers);
                    fit(args, &mut sinks, &connection.takers);
                }
                News::Closed => is_closed = true,
            }
        }
        if is_over() {
            break;
        }
    }
    summary.digests = sinks.iter().filter_map(Sink::digest).collect();
    summary.is_closed = is_closed;
    summary.seconds = start.elapsed().as_secs_f64();
    Ok(summary)
}

/// A sink per ring. Those there are go on: their rows are of the same streams.
fn fit(args: &Args, sinks: &mut Vec<Sink>, takers: &[Taker]) {
    let longer = takers.iter().skip(sinks.len());
    sinks.extend(longer.map(|taker| Sink::new(args.sink, taker.layout())));
}

/// Has a block looked at.
fn judge(block: &Taken, taker: &Taker, sink: &mut Sink, summary: &mut Summary) {
    let rows = block.within(taker.payloads());
    let verdict = sink.judge(&rows);
    let (count, bytes) = rows.present().fold((0, 0), |(count, bytes), (row, _)| {
        (count + 1, bytes + u64::from(rows.info(row).len))
    });
    summary.add(verdict, count, bytes);
    if verdict.bad > 0 && summary.bad_blocks <= MOST_TOLD {
        eprintln!(
            "error: {} of {count} rows from number {} on are not what was sent",
            verdict.bad,
            block.base_seq()
        );
    }
}

/// Keeps a block for as long as was asked, or dies with it.
fn keep(args: &Args, blocks: u64, stop: &Stop) {
    if args.die_after.is_some_and(|last| blocks >= last) {
        // As the kernel kills: nothing is said, and nothing given back.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
    let Some(delay) = args.delay else { return };
    let until = Instant::now() + delay;
    while !stop.is_set() && Instant::now() < until {
        thread::park_timeout(until - Instant::now().min(until));
    }
}
