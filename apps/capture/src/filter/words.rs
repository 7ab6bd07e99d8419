//! Cuts an expression into words. Knows no meaning.

use super::FilterError;

/// Bytes of an expression, at most.
const LONGEST: usize = 4096;

/// A word and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) at: usize,
    pub(super) text: &'a str,
}

/// The words of an expression; `&&`, `||` and `!` become `and`, `or` and `not`.
pub(super) fn words(text: &str) -> Result<Vec<Word<'_>>, FilterError> {
    if text.len() > LONGEST {
        let why = format!("the expression is longer than {LONGEST} bytes");
        return Err(FilterError { at: None, why });
    }
    let (mut words, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let rest = &text[at..];
        let (word, len) = if let Some((_, word, len)) =
            [("&&", "and", 2), ("||", "or", 2), ("!", "not", 1), ("(", "(", 1), (")", ")", 1)]
                .into_iter()
                .find(|(sign, ..)| rest.starts_with(sign))
        {
            (word, len)
        } else if let Some(space) = rest.chars().next().filter(|c| c.is_whitespace()) {
            at += space.len_utf8();
            continue;
        } else if rest.starts_with('\\') {
            // Marks a name as such, where it could be a keyword, too: `ether proto \ip`.
            at += 1;
            continue;
        } else {
            let is_word = |c: char| c.is_ascii_alphanumeric() || ".:/-_".contains(c);
            let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            if len == 0 {
                let sign = rest.chars().next().unwrap_or_default();
                return Err(FilterError { at: Some(at), why: format!("'{sign}' is not known") });
            }
            (&rest[..len], len)
        };
        words.push(Word { at, text: word });
        at += len;
    }
    Ok(words)
}
