//! The flags that every app has, to flatten into its own. One meaning each, everywhere.

mod ports;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use pmd::DeviceInfo;

use crate::{
    AppError,
    idle::IdleMode,
    lcore::CoreList,
    units::{parse_count, parse_duration, parse_size},
};

pub use ports::PortArgs;

/// How to run and how to report.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Cores to run workers on, e.g. 2-5,8 [default: the allowed ones, in order]
    #[arg(short = 'l', long, value_name = "LIST")]
    pub lcores: Option<CoreList>,
    /// Queues per port; each has a worker
    #[arg(short = 'q', long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub queues: usize,
    /// Frames per burst, 1 to 512
    #[arg(short = 'b', long, value_name = "N", default_value_t = 32, value_parser = burst)]
    pub burst: usize,
    /// Stop after this long, e.g. 10s
    #[arg(short = 't', long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Stop after this many frames, e.g. 10m for ten million
    #[arg(short = 'c', long, value_name = "N", value_parser = parse_count)]
    pub count: Option<u64>,
    /// What workers do between empty polls
    #[arg(long, value_name = "HOW", default_value = "spin")]
    pub idle: IdleMode,
    /// Time between two lines of the live report
    #[arg(short = 'i', long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub interval: Duration,
    /// Print the summary as one JSON object, to stdout (no tables then) or to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub json: Option<PathBuf>,
    /// Print one JSON object per interval, and the summary as the last one, to stdout
    #[arg(long)]
    pub json_stream: bool,
    /// No live lines; warnings are not logged
    #[arg(long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log more; twice: much more
    #[arg(short = 'v', long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl RunArgs {
    /// Whether the JSON summary goes to stdout.
    #[must_use]
    pub fn is_json_on_stdout(&self) -> bool {
        self.json_stream || self.json.as_ref().is_some_and(|path| path.as_os_str() == "-")
    }
}

/// How many buffers, how large, in what rings.
#[derive(Args, Clone, Debug)]
pub struct PoolArgs {
    /// Buffers per pool [default: as many as rings, caches and bursts can tie up]
    #[arg(long, value_name = "N")]
    pub buffers: Option<usize>,
    /// Bytes of a buffer, headroom included; a multiple of 64 [default: 2K, or what the ports fill
    /// best]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub buffer_size: Option<usize>,
    /// Descriptors per ring, a power of two
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub ring: usize,
}

/// Bytes of a buffer, unless a port or the user has reasons for another number: a frame of 1518 bytes
/// fits, with headroom.
const BUFFER: usize = 2048;

impl PoolArgs {
    /// Bytes of a buffer that frames of these ports are received into, `headroom` included: what was
    /// asked; or enough that the room behind the headroom is a multiple of what each of them fills
    /// buffers by ([`pmd::Capabilities::rx_buffer_step`]).
    #[must_use]
    pub fn stride<'d>(
        &self,
        ports: impl IntoIterator<Item = &'d DeviceInfo>,
        headroom: usize,
    ) -> usize {
        let steps = ports.into_iter().map(|port| port.capabilities.rx_buffer_step);
        let step = steps.max().unwrap_or(1).max(1);
        self.buffer_size.unwrap_or_else(|| match step {
            1 => BUFFER,
            _ => (headroom + BUFFER.next_multiple_of(step)).next_multiple_of(64),
        })
    }

    /// The number of buffers: what was asked, checked against what `plan` can tie up; or that much,
    /// rounded up.
    ///
    /// # Errors
    /// So few were asked for that the app would stall.
    pub fn slots(&self, plan: &mempool::Sizing) -> Result<usize, AppError> {
        let slots = self.buffers.unwrap_or_else(|| plan.needed().next_power_of_two());
        plan.check(slots)?;
        Ok(slots)
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "should be a number, 1 or more".into())
}

fn burst(text: &str) -> Result<usize, String> {
    const MOST: usize = mempool::Burst::<mempool::Cpu>::CAPACITY;
    let number = text.parse().ok().filter(|n| (1..=MOST).contains(n));
    number.ok_or_else(|| format!("should be a number of frames, 1 to {MOST}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct App {
        #[command(flatten)]
        ports: PortArgs,
        #[command(flatten)]
        run: RunArgs,
        #[command(flatten)]
        pool: PoolArgs,
    }

    fn parse(line: &str) -> Result<App, String> {
        let words = std::iter::once("app").chain(line.split_whitespace());
        App::try_parse_from(words).map_err(|error| error.to_string())
    }

    #[test]
    fn the_usual_line_is_understood() {
        let app = parse("-p ring:a -p null: -l 0-1 -q 2 -b 64 -t 10s -c 1m -i 500ms -vv").unwrap();
        assert_eq!(app.ports.ports, ["ring:a", "null:"]);
        assert_eq!(app.run.lcores.unwrap().0, [0, 1]);
        assert_eq!((app.run.queues, app.run.burst), (2, 64));
        assert_eq!(app.run.count, Some(1_000_000));
        assert_eq!(app.run.interval, Duration::from_millis(500));
        assert_eq!((app.run.verbose, app.run.quiet), (2, false));
    }

    #[test]
    fn json_takes_a_file_only_after_an_equals_sign() {
        assert!(parse("--json").unwrap().run.is_json_on_stdout());
        assert!(parse("--json -p null:").unwrap().run.is_json_on_stdout());
        assert!(!parse("--json=out.json").unwrap().run.is_json_on_stdout());
        assert!(parse("--json-stream").unwrap().run.is_json_on_stdout());
        assert!(!parse("").unwrap().run.is_json_on_stdout());
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (line, says) in [
            ("-l 1-", "a list of cores such as 2-5,8"),
            ("-q 0", "should be a number, 1 or more"),
            ("-b 513", "should be a number of frames, 1 to 512"),
            ("-t never", "a duration such as"),
            ("-c many", "a count such as"),
            ("--buffer-size huge", "a size in bytes such as"),
            ("--quiet -v", "cannot be used with"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn buffers_have_room_for_whole_steps_of_the_port_that_takes_the_longest() {
        let port = |rx_buffer_step| {
            let capabilities = pmd::Capabilities { rx_buffer_step, ..Default::default() };
            let (driver, port) = ("x", "x:0".to_owned());
            DeviceInfo { driver, port, mac: [0; 6], numa_node: None, capabilities }
        };
        let (any, kilo, large) = (port(1), port(1024), port(4096));
        let pool = parse("").unwrap().pool;
        assert_eq!(pool.stride([], 128), 2048);
        assert_eq!(pool.stride([&any, &any], 128), 2048);
        assert_eq!(pool.stride([&any, &kilo], 128), 2048 + 128);
        assert_eq!(pool.stride([&kilo, &large], 128), 4096 + 128);
        assert_eq!(pool.stride([&kilo], 0), 2048);
        let asked = parse("--buffer-size 4K").unwrap().pool;
        assert_eq!(asked.stride([&kilo], 128), 4096, "what was asked");
    }

    #[test]
    fn a_pool_that_must_wedge_is_refused() {
        let plan = mempool::QueuePlan { rx_ring: 512, tx_ring: 512 };
        let sizing =
            mempool::Sizing { queues: vec![plan], burst: 32, workers: 1, ..Default::default() };
        assert_eq!(parse("").unwrap().pool.slots(&sizing).unwrap(), 2048);
        let error = parse("--buffers 1000").unwrap().pool.slots(&sizing).unwrap_err();
        assert!(error.to_string().contains("pool of 1000 buffers is too small"), "{error}");
    }
}
