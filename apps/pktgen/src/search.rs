//! RFC 2544 §26.1: the highest rate at which no more than a given share of frames is lost, by halving
//! the range. Rates in, rates out; knows no port.

use serde::Serialize;

/// Share of the frames asked for that must have been sent, or the trial says nothing about its rate.
const SENT: f64 = 0.99;
/// Trials at most.
const MOST: usize = 64;

/// What a trial came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Frames that the time and rate ask for.
    pub asked: u64,
    /// Frames sent.
    pub sent: u64,
    /// Of these, arrived.
    pub arrived: u64,
    /// And lost.
    pub lost: u64,
    /// Whether sending ended in its time.
    #[serde(skip)]
    pub in_time: bool,
}

impl Outcome {
    /// Share of frames lost.
    #[must_use]
    pub fn loss(&self) -> f64 {
        if self.sent == 0 { 1.0 } else { self.lost as f64 / self.sent as f64 }
    }
}

/// One trial.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// Frames per second.
    pub pps: f64,
    /// What it came to.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Share of frames lost.
    pub loss: f64,
    /// Whether the port took the frames at that rate.
    pub was_sent: bool,
    /// Whether it passed.
    pub passed: bool,
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Search {
    /// Highest rate that passed, in frames per second; `None` if none did.
    pub pps: Option<f64>,
    /// Rate at which the search began.
    pub highest: f64,
    /// How close neighbouring rates may be, as a share of the highest.
    pub resolution: f64,
    /// Share of frames that may be lost.
    pub max_loss: f64,
    /// Whether every rate below the highest that passed did so, too. Where it is false, a rate that
    /// had passed failed when it was tried again, and the search went on below.
    pub monotone: bool,
    /// Every trial, in order.
    pub trials: Vec<Trial>,
}

/// What to search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Frames per second to begin with.
    pub(crate) highest: f64,
    /// Share of the highest.
    pub(crate) resolution: f64,
    /// Share of frames that may be lost.
    pub(crate) max_loss: f64,
}

/// Searches; `trial` sends at a rate for a while, or yields `None` to end the search.
///
/// # Errors
/// What `trial` says.
pub(crate) fn search<E>(
    limits: Limits,
    mut trial: impl FnMut(f64) -> Result<Option<Outcome>, E>,
) -> Result<Search, E> {
    let Limits { highest, resolution, max_loss } = limits;
    let mut search =
        Search { pps: None, highest, resolution, max_loss, monotone: true, trials: Vec::new() };
    let step = highest * resolution;
    let (mut passed, mut failed) = (0.0, highest + step);
    let mut rate = highest;
    let mut is_confirming = false;
    while search.trials.len() < MOST {
        let Some(outcome) = trial(rate)? else { break };
        let was_sent = outcome.in_time && outcome.sent as f64 >= outcome.asked as f64 * SENT;
        let is_good = was_sent && outcome.loss() <= max_loss;
        let loss = outcome.loss();
        search.trials.push(Trial { pps: rate, outcome, loss, was_sent, passed: is_good });
        if is_good {
            passed = rate;
            search.pps = Some(rate);
            if is_confirming || rate >= highest {
                break;
            }
        } else {
            failed = rate;
            if is_confirming {
                // It had passed: the border is not where it seemed.
                search.monotone = false;
                search.pps = None;
                passed = 0.0;
            }
        }
        is_confirming = false;
        if failed - passed > step {
            rate = f64::midpoint(passed, failed);
        } else if passed > 0.0 {
            // Once more: one trial that passed may have been luck.
            (is_confirming, rate) = (true, passed);
        } else {
            break;
        }
    }
    Ok(search)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { highest: 1e6, resolution: 0.005, max_loss: 0.0 };

    /// A device that takes up to `most` frames a second, and loses the rest.
    fn device(most: f64) -> impl FnMut(f64) -> Result<Option<Outcome>, ()> {
        move |rate| {
            let lost = (rate - most).max(0.0);
            Ok(Some(outcome(rate, lost)))
        }
    }

    /// Rates of these tests are small and positive.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small, positive")]
    fn whole(rate: f64) -> u64 {
        rate as u64
    }

    fn outcome(sent: f64, lost: f64) -> Outcome {
        let (sent, lost) = (whole(sent), whole(lost.ceil()));
        Outcome { asked: sent, sent, arrived: sent - lost, lost, in_time: true }
    }

    #[test]
    fn the_border_is_found_within_the_resolution() {
        for most in [999_999.0, 730_000.0, 500_000.0, 123_456.0, 9_000.0] {
            let search = search(LIMITS, device(most)).unwrap();
            let found = search.pps.unwrap();
            assert!(found <= most && most - found <= 5_000.0, "{found} for {most}");
            assert!(search.monotone);
            assert!(search.trials.len() <= 11, "{}", search.trials.len());
            // The last one confirms.
            assert_eq!(search.trials.last().unwrap().pps, found);
            let passes = search.trials.iter().filter(|trial| trial.passed).map(|trial| trial.pps);
            let fails = search.trials.iter().filter(|trial| !trial.passed).map(|trial| trial.pps);
            assert!(passes.fold(0.0, f64::max) < fails.fold(f64::MAX, f64::min));
        }
    }

    #[test]
    fn a_device_that_loses_nothing_takes_one_trial_and_one_that_loses_all_finds_no_rate() {
        let all = search(LIMITS, device(2e6)).unwrap();
        assert_eq!((all.pps, all.trials.len()), (Some(1e6), 1));
        let none = search(LIMITS, |rate| Ok::<_, ()>(Some(outcome(rate, 1.0)))).unwrap();
        assert_eq!(none.pps, None);
        assert!(none.trials.last().unwrap().pps <= 5_000.0);
    }

    #[test]
    fn some_loss_may_be_allowed() {
        let limits = Limits { max_loss: 0.01, ..LIMITS };
        let search = search(limits, device(400_000.0)).unwrap();
        let border = 400_000.0 / 0.99;
        assert!((border - search.pps.unwrap()).abs() < 5_000.0);
    }

    #[test]
    fn a_rate_that_could_not_be_sent_does_not_pass() {
        let most = 300_000.0;
        let search = search(LIMITS, |rate: f64| {
            let sent = whole(rate.min(most));
            Ok::<_, ()>(Some(Outcome {
                asked: whole(rate),
                sent,
                arrived: sent,
                lost: 0,
                in_time: true,
            }))
        });
        let search = search.unwrap();
        assert!((search.pps.unwrap() - most).abs() < 10_000.0);
        assert!(search.trials.iter().any(|trial| !trial.was_sent && trial.loss == 0.0));
    }

    #[test]
    fn luck_is_found_out_and_said() {
        let mut seen = 0;
        let search = search(LIMITS, |rate: f64| {
            // Above 200 kpps it is lucky, but for the second time.
            seen += usize::from(rate > 590_000.0 && rate < 610_000.0);
            let is_lucky = rate < 600_000.0 && seen < 3;
            let lost = if rate <= 200_000.0 || is_lucky { 0.0 } else { 5.0 };
            Ok::<_, ()>(Some(outcome(rate, lost)))
        });
        let search = search.unwrap();
        assert!(!search.monotone);
        assert!(search.pps.unwrap() <= 200_000.0, "{search:?}");
    }

    #[test]
    fn an_end_in_between_keeps_what_is_known() {
        let mut left = 3;
        let mut device = device(1e5);
        let search = search(LIMITS, |rate| {
            left -= 1;
            if left < 0 { Ok(None) } else { device(rate) }
        });
        assert_eq!(search.unwrap().trials.len(), 3);
    }
}
