//! The text of sysfs files, read strictly: every field must be what the kernel writes there.

use std::str::FromStr;

use super::Resource;

/// A function has fewer windows than this, whatever the kernel was built with.
const MOST_LINES: usize = 32;
/// Six BARs.
const LEAST_LINES: usize = 6;

/// `0x8086`, with a line's end.
pub(crate) fn hex<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let word = text.trim_end_matches('\n');
    let value =
        hex_word(word).ok_or_else(|| format!("expected 0x and digits, got {}", shown(word)))?;
    T::try_from(value).map_err(|_| format!("{} has too many digits", shown(word)))
}

/// A decimal number, with a line's end.
pub(crate) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    let word = text.trim_end_matches('\n');
    word.parse().map_err(|_| format!("expected a number, got {}", shown(word)))
}

/// The lines of `resource`: start, end and flags of each window.
pub(crate) fn resources(text: &str) -> Result<Vec<Resource>, String> {
    let lines = text.lines().count();
    if !(LEAST_LINES..=MOST_LINES).contains(&lines) {
        return Err(format!("expected {LEAST_LINES} to {MOST_LINES} lines, got {lines}"));
    }
    let read = |(at, line)| resource(line).map_err(|why| format!("line {}: {why}", at + 1));
    text.lines().enumerate().map(read).collect()
}

fn resource(line: &str) -> Result<Resource, String> {
    let words: Vec<&str> = line.split(' ').collect();
    let &[start, end, flags] = words.as_slice() else {
        return Err(format!("expected 3 hex fields, got {}", shown(line)));
    };
    let field =
        |word| hex_word(word).ok_or_else(|| format!("expected 3 hex fields, got {}", shown(word)));
    let resource = Resource { start: field(start)?, end: field(end)?, flags: field(flags)? };
    if resource.end < resource.start {
        return Err(format!("ends before it starts: {}", shown(line)));
    }
    Ok(resource)
}

fn hex_word(word: &str) -> Option<u64> {
    let digits = word.strip_prefix("0x")?;
    let is_hex = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Quoted, and not longer than a line of a terminal.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(48).flat_map(char::escape_debug).collect();
    format!("'{short}'")
}
