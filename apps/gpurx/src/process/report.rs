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
    /// Their generation: which consumer of that gpurx this was.
    pub generation: u16,
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
    pub(super) fn new<'a>(args: &Args, takers: impl Iterator<Item = &'a Taker>) -> Self {
        let generations: Vec<_> = takers.map(|taker| taker.layout().generation).collect();
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            kind: "summary",
            socket: args.socket.display().to_string(),
            queues: generations.len(),
            generation: generations.first().copied().unwrap_or_default(),
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
        let digests: String =
            self.digests.iter().map(|digest| format!("\ndigest  {digest}")).collect();
        format!(
            "blocks  {blocks} from {queues} queue{plural}, generation {generation}, in {seconds:.2} s: \
             {why}\nrows    {rows}  {bytes} B  ok {ok}  bad {bad}{digests}"
        )
    }
}
