//! What the screen shows: the last samples, rates over about a second, and a rate per picture for the
//! sparklines. Numbers; knows no terminal.

use std::collections::VecDeque;

use super::theme::Theme;
use crate::watch::{Sample, history::Change};

/// Samples that rates are taken over: at four pictures a second, one second.
const SPAN: usize = 5;
/// Rates for the sparklines: a bar per column of the widest terminal.
const BARS: usize = 512;

/// Rates of one direction, picture by picture.
#[derive(Clone, Debug, Default)]
pub(super) struct Bars {
    /// Frames per second, oldest first.
    pub(super) rates: VecDeque<u64>,
    /// The highest there was.
    pub(super) peak: f64,
}

impl Bars {
    fn push(&mut self, rate: f64) {
        if self.rates.len() == BARS {
            self.rates.pop_front();
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        self.rates.push_back(rate as u64);
        self.peak = self.peak.max(rate);
    }
}

/// What is on the screen.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) app: &'static str,
    pub(super) theme: Theme,
    pub(super) rx: Bars,
    pub(super) tx: Bars,
    /// The last lines that were logged.
    pub(super) lines: Vec<String>,
    samples: VecDeque<Sample>,
}

impl View {
    pub(super) fn new(app: &'static str, theme: Theme) -> Self {
        let (rx, tx) = (Bars::default(), Bars::default());
        Self { app, theme, rx, tx, lines: Vec::new(), samples: VecDeque::new() }
    }

    /// Takes a sample for the next picture.
    pub(super) fn push(&mut self, sample: Sample) {
        if let Some(before) = self.samples.back() {
            let all = Change::new(before, &sample).ports();
            self.rx.push(all.rx.mpps * 1e6);
            self.tx.push(all.tx.mpps * 1e6);
        }
        if self.samples.len() == SPAN {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// Shows these lines.
    pub(super) fn log(&mut self, lines: Vec<String>) {
        self.lines = lines;
    }

    /// The app now.
    pub(super) fn now(&self) -> Option<&Sample> {
        self.samples.back()
    }

    /// What happened in the last second or so.
    pub(super) fn change(&self) -> Option<Change<'_>> {
        Some(Change::new(self.samples.front()?, self.samples.back()?))
    }
}
