//! A plan, from one line of text and back. Draws nothing.

use std::{fmt, time::Duration};

use super::kind::Kind;

/// Shares are out of 2^53: whole numbers that a float holds exactly.
pub(super) const WHOLE: u64 = 1 << 53;
/// Frames of the memwire test header, behind UDP or TCP, that flips and cuts leave alone.
pub(super) const TEST_HEADER: usize = 24;

/// What is to happen, to what share of frames or at which.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) rx: Side,
    pub(super) tx: Side,
    /// The items as they were given, without the seed.
    items: Vec<String>,
}

/// The plan of one direction.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Side {
    /// By kind, out of [`WHOLE`].
    pub(super) shares: [u64; Kind::ALL.len()],
    pub(super) placed: Vec<Placed>,
    pub(super) stall_for: Rest,
    /// Frames in a row that one `drop`, or one `exhaust`, takes.
    pub(super) drop_for: u64,
    pub(super) exhaust_for: u64,
    /// How long a frame is held back for the next one to overtake it.
    pub(super) wait: Duration,
    /// Bytes from the frame's start that flips leave alone, if not the headers.
    pub(super) flip_skip: Option<usize>,
    pub(super) truncate_skip: Option<usize>,
    /// Bytes that are left of a truncated frame, if not a random number.
    pub(super) truncate_len: Option<usize>,
    /// What was set already.
    given: Vec<String>,
}

/// A fault at frames of certain numbers, counted from 1 in each queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) kind: Kind,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// How long a stalled queue rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Polls(u64),
    Time(Duration),
}

impl Default for Side {
    fn default() -> Self {
        Self {
            shares: [0; Kind::ALL.len()],
            placed: Vec::new(),
            stall_for: Rest::Polls(64),
            drop_for: 1,
            exhaust_for: 1,
            wait: Duration::from_millis(10),
            flip_skip: None,
            truncate_skip: None,
            truncate_len: None,
            given: Vec::new(),
        }
    }
}

/// Kinds that a plan may ask for.
const KINDS: [Kind; 10] = [
    Kind::Drop,
    Kind::Dup,
    Kind::Reorder,
    Kind::Flip,
    Kind::Truncate,
    Kind::Stall,
    Kind::Exhaust,
    Kind::Down,
    Kind::Fault,
    Kind::Remove,
];

/// What can be set of a kind.
const SETTINGS: [&str; 7] = [
    "stall.for",
    "drop.for",
    "exhaust.for",
    "reorder.wait",
    "flip.skip",
    "truncate.skip",
    "truncate.len",
];

impl Plan {
    /// Reads a plan; the error names the item and says what it should be.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let (rx, tx, items) = (Side::default(), Side::default(), Vec::new());
        let mut plan = Self { seed: 1, rx, tx, items };
        let mut seeds = 0;
        for item in text.split([',', ';']).map(str::trim) {
            if item.is_empty() {
                continue;
            }
            let wrong = |why: String| format!("'{item}': {why}");
            if let Some(seed) = item.strip_prefix("seed=") {
                seeds += 1;
                let Ok(seed) = seed.parse() else {
                    return Err(wrong("the seed should be a whole number".into()));
                };
                if seeds > 1 {
                    return Err(wrong("given twice".into()));
                }
                plan.seed = seed;
                continue;
            }
            let (sides, rest): (&[bool], _) = match item.split_once('.') {
                Some(("rx", rest)) => (&[true], rest),
                Some(("tx", rest)) => (&[false], rest),
                _ => (&[true, false], item),
            };
            for &is_rx in sides {
                if !is_rx && is_for_rx_alone(rest) {
                    if sides.len() == 1 {
                        let why = "buffers run out where frames are received; use tx.stall";
                        return Err(wrong(why.into()));
                    }
                    continue;
                }
                let side = if is_rx { &mut plan.rx } else { &mut plan.tx };
                side.read(rest).map_err(wrong)?;
            }
            plan.items.push(item.to_owned());
        }
        for (direction, side) in [("rx", &plan.rx), ("tx", &plan.tx)] {
            let sum: u64 = side.shares.iter().sum();
            if sum > WHOLE {
                let percent = sum as f64 / WHOLE as f64 * 100.0;
                return Err(format!(
                    "the shares of {direction} add up to {percent:.6} %: a frame has one fate, so at \
                     most 100 %"
                ));
            }
        }
        Ok(plan)
    }
}

fn is_for_rx_alone(item: &str) -> bool {
    item.split(['=', '#', '.']).next() == Some("exhaust")
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed={}", self.seed)?;
        self.items.iter().try_for_each(|item| write!(f, ",{item}"))
    }
}

impl Side {
    /// Whether anything can happen in this direction.
    pub(super) fn is_idle(&self) -> bool {
        self.placed.is_empty() && self.shares == [0; Kind::ALL.len()]
    }

    /// Whether a kind of fault can happen.
    pub(super) fn has(&self, kind: Kind) -> bool {
        self.shares[kind as usize] > 0 || self.placed.iter().any(|placed| placed.kind == kind)
    }

    /// Whether a kind is worth a line in the counts.
    pub(super) fn counts(&self, kind: Kind) -> bool {
        self.has(kind) || kind == Kind::Undelivered
    }

    /// Reads an item without its direction.
    fn read(&mut self, item: &str) -> Result<(), String> {
        if let Some((name, place)) = item.split_once('#') {
            let kind = kind(name)?;
            let (first, last) = place_of(place)?;
            if kind.is_final() && first != last {
                return Err(format!(
                    "a queue that failed stays so: one number, such as {name}#100000"
                ));
            }
            self.placed.push(Placed { kind, first, last });
            return Ok(());
        }
        let Some((name, value)) = item.split_once('=') else {
            return Err(format!(
                "should be FAULT=SHARE, FAULT#FRAME, FAULT#FROM..TO or a setting; {}",
                what_there_is()
            ));
        };
        if self.given.iter().any(|given| given == name) {
            return Err("given twice".into());
        }
        self.given.push(name.to_owned());
        if name.contains('.') {
            return self.set(name, value);
        }
        let kind = kind(name)?;
        if kind == Kind::Down || kind.is_final() {
            return Err(format!("{name} happens at a frame, not to a share: {name}#100000"));
        }
        let share = share(value).ok_or("should be a share from 0 to 1: 1%, 1/1000 or 0.01")?;
        self.shares[kind as usize] = share;
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let bytes = |least: usize| {
            let bytes = value.parse().ok().filter(|bytes| (least..=65535).contains(bytes));
            bytes.ok_or_else(|| format!("should be a number of bytes, {least}..=65535"))
        };
        let frames = || {
            let frames = value.parse().ok().filter(|frames| *frames > 0);
            frames.ok_or("should be a number of frames, from 1")
        };
        match name {
            "stall.for" => {
                let rest = match value.parse() {
                    Ok(polls) if polls > 0 => Some(Rest::Polls(polls)),
                    Ok(_) => None,
                    Err(_) => time(value).map(Rest::Time),
                };
                let what = "should be a number of polls from 1, or a time up to 10s such as 100us";
                self.stall_for = rest.ok_or(what)?;
            }
            "drop.for" => self.drop_for = frames()?,
            "exhaust.for" => self.exhaust_for = frames()?,
            "reorder.wait" => {
                self.wait = time(value).ok_or("should be a time up to 10s, such as 10ms")?;
            }
            "flip.skip" => self.flip_skip = Some(bytes(0)?),
            "truncate.skip" => self.truncate_skip = Some(bytes(1)?),
            "truncate.len" => self.truncate_len = Some(bytes(1)?),
            _ => {
                let hint = nearest(name, &SETTINGS);
                return Err(format!("no such setting '{name}'{hint}; {}", what_there_is()));
            }
        }
        Ok(())
    }
}

fn kind(name: &str) -> Result<Kind, String> {
    KINDS.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
        let hint = nearest(name, &KINDS.map(Kind::name));
        format!("no such fault '{name}'{hint}; {}", what_there_is())
    })
}

fn what_there_is() -> String {
    let kinds = KINDS.map(Kind::name).join(", ");
    format!("faults: {kinds}; settings: {}", SETTINGS.join(", "))
}

fn nearest(name: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|known| (strsim::osa_distance(known, name), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 3 => format!(" (did you mean '{known}'?)"),
        _ => String::new(),
    }
}

/// `5000` or `5000..5999`, both counted from 1 and within.
fn place_of(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err("frames are numbered from 1: #5000, or #5000..5999".into()),
    }
}

/// `1%`, `1/1000` or `0.01`, out of [`WHOLE`].
fn share(text: &str) -> Option<u64> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    let share = if let Some(percent) = text.strip_suffix('%') {
        number(percent)? / 100.0
    } else if let Some((part, whole)) = text.split_once('/') {
        number(part)? / number(whole).filter(|whole| *whole > 0.0)?
    } else {
        number(text)?
    };
    if !(0.0..=1.0).contains(&share) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=1 of 2^53")]
    Some((share * WHOLE as f64) as u64)
}

/// `100us`, `10ms` or `1s`: at most ten seconds.
fn time(text: &str) -> Option<Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let time = match unit {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => return None,
    };
    Some(time).filter(|time| !time.is_zero() && *time <= Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(side: &Side, kind: Kind) -> f64 {
        side.shares[kind as usize] as f64 / WHOLE as f64
    }

    #[test]
    fn shares_come_in_three_forms_and_without_a_direction_for_both() {
        let plan = Plan::read("seed=42; rx.drop=1%, tx.dup=1/1000,flip=0.25").unwrap();
        assert_eq!(plan.seed, 42);
        assert!((of(&plan.rx, Kind::Drop) - 0.01).abs() < 1e-12);
        assert!(!plan.tx.has(Kind::Drop));
        assert!((of(&plan.tx, Kind::Dup) - 0.001).abs() < 1e-12);
        assert_eq!((of(&plan.rx, Kind::Flip), of(&plan.tx, Kind::Flip)), (0.25, 0.25));
        assert_eq!(plan.to_string(), "seed=42,rx.drop=1%,tx.dup=1/1000,flip=0.25");
        assert_eq!(Plan::read(&plan.to_string()), Ok(plan));
    }

    #[test]
    fn nothing_is_a_plan_in_which_nothing_happens() {
        let plan = Plan::read("").unwrap();
        assert!(plan.rx.is_idle() && plan.tx.is_idle());
        assert_eq!(plan.to_string(), "seed=1");
    }

    #[test]
    fn shares_may_add_up_to_everything() {
        let seventh = "drop=1/7,dup=1/7,reorder=1/7,flip=1/7,truncate=1/7,stall=1/7,rx.exhaust=1/7";
        assert!(Plan::read(seventh).is_ok());
    }

    #[test]
    fn places_and_settings_are_read() {
        let plan =
            Plan::read("rx.drop#5,tx.down#7..9,fault#100,rx.stall.for=2ms,stall=1%").unwrap();
        let placed = |kind, first, last| Placed { kind, first, last };
        assert_eq!(plan.rx.placed, [placed(Kind::Drop, 5, 5), placed(Kind::Fault, 100, 100)]);
        assert_eq!(plan.tx.placed, [placed(Kind::Down, 7, 9), placed(Kind::Fault, 100, 100)]);
        assert_eq!(plan.rx.stall_for, Rest::Time(Duration::from_millis(2)));
        assert_eq!(plan.tx.stall_for, Rest::Polls(64));
        // Of what only receivers have, "both" is the receiver.
        let plan = Plan::read("exhaust=1%,exhaust.for=32").unwrap();
        assert!(plan.rx.has(Kind::Exhaust) && plan.tx.is_idle());
    }

    #[test]
    fn what_cannot_be_says_which_item_and_what_it_should_be() {
        for (text, why) in [
            ("seed=-1", "the seed should be a whole number"),
            ("seed=x", "'seed=x': the seed should be a whole number"),
            ("seed=1,seed=2", "'seed=2': given twice"),
            (
                "rx.dorp=1%",
                "'rx.dorp=1%': no such fault 'dorp' (did you mean 'drop'?); faults: drop,",
            ),
            ("drop", "should be FAULT=SHARE, FAULT#FRAME"),
            ("rx.drop=1%,drop=2%", "'drop=2%': given twice"),
            ("drop=2", "'drop=2': should be a share from 0 to 1"),
            ("drop=-1%", "should be a share"),
            ("drop=1/0", "should be a share"),
            ("drop=NaN", "should be a share"),
            ("drop=60%,dup=60%", "the shares of rx add up to 120"),
            ("drop#0", "frames are numbered from 1"),
            ("drop#9..5", "frames are numbered from 1"),
            ("fault#5..9", "a queue that failed stays so"),
            ("remove#5..9", "one number, such as remove#100000"),
            ("remove=1%", "remove happens at a frame, not to a share: remove#100000"),
            ("fault=1%", "fault happens at a frame, not to a share: fault#100000"),
            ("tx.exhaust=1%", "use tx.stall"),
            ("stall.for=0", "should be a number of polls from 1, or a time"),
            ("stall.for=1h", "should be a number of polls from 1, or a time"),
            ("flip.skp=3", "no such setting 'flip.skp' (did you mean 'flip.skip'?)"),
            ("truncate.len=0", "should be a number of bytes, 1..=65535"),
            ("undelivered=1%", "no such fault 'undelivered'"),
        ] {
            let error = Plan::read(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_is_read_reads_back_the_same(
            words in proptest::collection::vec(proptest::sample::select(vec![
                "rx", "tx", ".", ",", ";", "=", "#", "..", "/", "%", " ", "seed", "drop", "dup", "flip",
                "exhaust", "stall", "for", "skip", "fault", "down", "0", "1", "7", "1e9", "10ms", "-", "\u{e9}",
            ]), 0..24),
            items in proptest::collection::vec(proptest::sample::select(vec![
                "seed=9", "rx.drop=1%", "tx.dup=1/3", "flip#5..9", "stall=0.1", "stall.for=3", "exhaust=2%",
                "truncate.len=64", "tx.fault#8", "reorder=5%",
            ]), 0..6),
        ) {
            let _any = Plan::read(&words.concat());
            if let Ok(plan) = Plan::read(&items.join(";")) {
                prop_assert_eq!(Plan::read(&plan.to_string()), Ok(plan));
            }
        }
    }
}
