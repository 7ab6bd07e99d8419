//! What `gpurx-consumer` tells when it ends.

use serde::Serialize;

use super::args::Args;
use crate::{consumer::Verdict, handover::Taker};

/// Version of the JSON.
pub const SCHEMA: &str = "memwire.gpurx-consumer/1";

/// One JSON object, or two lines.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Of this program.
    pub version: &'static str,
    /// `summary`.
    pub kind: &'static str,
    /// Where gpurx listens.
    pub socket: String,
    /// Rings.
    pub queues: usize,
    /// Their first generation: which consumer of that gpurx this was, but for changes of memory.
    pub generation: u16,
    /// Times that the payload memory was changed for other memory, or taken away for now.
    pub changes: u64,
    /// Areas of memory that came while it ran.
    pub areas: u64,
    /// How long it took blocks.
    pub seconds: f64,
    /// Whether gpurx has ended, or closed the connection.
    pub is_closed: bool,
    /// Blocks taken.
    pub blocks: u64,
    /// Blocks with rows that were not what was sent.
    pub bad_blocks: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Rows that were what was sent; none with `--sink count`.
    pub ok: u64,
    /// Rows that were not.
    pub bad: u64,
    /// Digest of all rows, in order, of `--sink tensor`; one per ring.
    pub digests: Vec<String>,
}

impl Summary {
    pub(super) fn new(args: &Args) -> Self {
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            kind: "summary",
            socket: args.socket.display().to_string(),
            queues: 0,
            generation: 0,
            changes: 0,
            areas: 0,
            seconds: 0.0,
            is_closed: false,
            blocks: 0,
            bad_blocks: 0,
            rows: 0,
            bytes: 0,
            ok: 0,
            bad: 0,
            digests: Vec::new(),
        }
    }

    /// Notes the rings there are now.
    pub(super) fn attached(&mut self, takers: &[Taker]) {
        self.queues = self.queues.max(takers.len());
        if let (0, Some(taker)) = (self.generation, takers.first()) {
            self.generation = taker.layout().generation;
        }
    }

    /// Counts a block.
    pub(super) fn add(&mut self, verdict: Verdict, rows: u64, bytes: u64) {
        self.blocks += 1;
        self.bad_blocks += u64::from(verdict.bad > 0);
        self.rows += rows;
        self.bytes += bytes;
        self.ok += verdict.ok;
        self.bad += verdict.bad;
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> String {
        // Plain numbers and strings always can be.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { queues, generation, seconds, blocks, rows, bytes, ok, bad, .. } = self;
        let plural = if *queues == 1 { "" } else { "s" };
        let why = if self.is_closed { "gpurx has ended" } else { "told to stop" };
        let changes = match self.changes {
            0 => String::new(),
            changes => format!(", {changes} changes of memory"),
        };
        let digests: String =
            self.digests.iter().map(|digest| format!("\ndigest  {digest}")).collect();
        format!(
            "blocks  {blocks} from {queues} queue{plural}, generation {generation}{changes}, in {seconds:.2} s: \
             {why}\nrows    {rows}  {bytes} B  ok {ok}  bad {bad}{digests}"
        )
    }
}
