//! What to make, and what was made: numbers for the generator, which is elsewhere.

use super::{Flows, Sizes, Template, TemplateError};

/// What to make.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// The headers.
    pub template: Template,
    /// How long frames are; `None` is as the template says.
    pub sizes: Option<Sizes>,
    /// Sizes in random order, not one round after the other.
    pub random_sizes: bool,
    /// The flows.
    pub flows: Flows,
    /// Share of frames of no concern to the receiver (the next port, no number), 0..1.
    pub foreign: f64,
    /// Rewrite and sum every payload anew, instead of sending what a buffer holds.
    pub fresh: bool,
    /// Seed of payloads, and of all that is random: the same seed, the same traffic.
    pub seed: u64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            template: Template::default(),
            sizes: None,
            random_sizes: false,
            flows: Flows { count: 1, ..Flows::default() },
            foreign: 0.0,
            fresh: false,
            seed: 1,
        }
    }
}

impl Traffic {
    /// The sizes, the template's own where none are given.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.sizes.clone().unwrap_or_else(|| Sizes::fixed(self.template.frame_len()))
    }

    /// Checks that every size makes a frame.
    ///
    /// # Errors
    /// One does not; the message names the least size that does.
    pub fn check(&self) -> Result<(), TemplateError> {
        let Some(sizes) = &self.sizes else { return self.template.check() };
        self.template.check_headers()?;
        for size in sizes.distinct() {
            self.template.with_frame_len(size)?;
        }
        Ok(())
    }
}

/// Frames made so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Frames that count: numbered ones, or all where none carry a number.
    pub frames: u64,
    /// Foreign frames in between.
    pub foreign: u64,
    /// Bytes of both, without FCS.
    pub bytes: u64,
}

impl Made {
    /// Counts all of `other` too.
    pub fn merge(&mut self, other: &Self) {
        self.frames += other.frames;
        self.foreign += other.foreign;
        self.bytes += other.bytes;
    }
}
