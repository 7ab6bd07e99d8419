//! The words of a Rust source that a compiler would see: no comments, no string contents. Knows
//! just enough of the lexical grammar to skip those.

/// Identifiers, keywords and numbers in their order.
pub(super) fn words(source: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            char_or_lifetime(rest)
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            words.push(rest[..length].to_owned());
            length
        } else {
            first.len_utf8()
        };
        rest = &rest[skipped..];
    }
    words
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of a raw string (`r"…"`, `br#"…"#`) that starts here.
fn raw_string(text: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| rest.trim_start_matches('#').starts_with('"'))
    })?;
    let rest = &text[prefix.len()..];
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(hashes));
    let body = prefix.len() + hashes + 1;
    let length = text[body..].find(&end).map_or(text.len(), |at| body + at + end.len());
    Some(length)
}

/// The length of a quoted literal with escapes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// The length of `'x'` or `'\n'`; of a lifetime only the tick.
fn char_or_lifetime(text: &str) -> usize {
    let mut after = text.chars().skip(1);
    let (first, second) = (after.next(), after.next());
    if first == Some('\\') || second == Some('\'') { quoted(text, '\'') } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_hold_no_words() {
        let source = r####"
            // unsafe
            /* unsafe /* unsafe */ unsafe */
            let a = "unsafe \" unsafe"; let b = r#"unsafe " unsafe"#; let c = b"unsafe";
        "####;
        assert_eq!(words(source), ["let", "a", "let", "b", "let", "c", "b"]);
    }

    #[test]
    fn ticks_start_characters_or_lifetimes() {
        let source = "fn f<'a>(x: &'a u8) { let q = '\"'; let s = '\\''; unsafe {} }";
        assert!(words(source).contains(&"unsafe".to_owned()), "{:?}", words(source));
    }

    #[test]
    fn a_lint_name_is_a_word_of_its_own() {
        assert_eq!(words("#![deny(unsafe_code)]"), ["deny", "unsafe_code"]);
    }

    #[test]
    fn an_identifier_that_ends_in_r_before_a_string_is_no_raw_string() {
        assert_eq!(words("for \"x\" unsafe"), ["for", "unsafe"]);
    }
}
