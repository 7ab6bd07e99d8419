//! Programs as `tcpdump -ddd` prints them: a count, then a line of four numbers per instruction.

use std::{fmt, str::FromStr};

use super::{Insn, Program, ProgramError};

/// A program's text cannot be read, or the program was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct TextError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl FromStr for Program {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = |line, why: &str| TextError { line, why: why.to_owned() };
        let mut lines = (1..)
            .zip(text.lines())
            .map(|(number, line)| (number, line.trim()))
            .filter(|(_, line)| !line.is_empty());
        let (first, count) = lines.next().ok_or_else(|| wrong(1, "the program is empty"))?;
        let count: usize = count
            .parse()
            .map_err(|_| wrong(first, "should be the number of instructions (tcpdump -ddd)"))?;
        let (mut insns, mut places) = (Vec::new(), Vec::new());
        for (number, line) in lines {
            if insns.len() == count {
                return Err(TextError {
                    line: number,
                    why: format!("goes on after the {count} instructions of the first line"),
                });
            }
            let insn = insn(line).ok_or_else(|| {
                wrong(number, "should be four numbers: code, jump if true, jump if false, constant")
            })?;
            insns.push(insn);
            places.push(number);
        }
        if insns.len() < count {
            let line = text.lines().count().max(1);
            let why = format!("ends after {} of {count} instructions", insns.len());
            return Err(TextError { line, why });
        }
        Self::new(&insns).map_err(|error| match error {
            ProgramError::Insn { at, .. } => TextError { line: places[at], why: error.to_string() },
            error => TextError { line: first, why: error.to_string() },
        })
    }
}

fn insn(line: &str) -> Option<Insn> {
    let mut words = line.split_whitespace();
    let insn = Insn {
        code: words.next()?.parse().ok()?,
        jt: words.next()?.parse().ok()?,
        jf: words.next()?.parse().ok()?,
        k: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(insn)
}

impl fmt::Display for Program {
    /// As `tcpdump -ddd` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.insns.len())?;
        for Insn { code, jt, jf, k } in &self.insns {
            writeln!(f, "{code} {jt} {jf} {k}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_wrong_is_refused_by_its_line() {
        for (text, why) in [
            ("", "line 1: the program is empty"),
            ("(000) ldh [12]", "line 1: should be the number of instructions (tcpdump -ddd)"),
            (
                "2\n\n6 0 0",
                "line 3: should be four numbers: code, jump if true, jump if false, constant",
            ),
            (
                "1\n6 0 0 0 0",
                "line 2: should be four numbers: code, jump if true, jump if false, constant",
            ),
            (
                "1\n6 0 256 0",
                "line 2: should be four numbers: code, jump if true, jump if false, constant",
            ),
            ("2\n6 0 0 0\n", "line 2: ends after 1 of 2 instructions"),
            ("1\n6 0 0 0\n6 0 0 0\n", "line 3: goes on after the 1 instructions of the first line"),
            ("2\n21 9 0 0\n6 0 0 0", "line 2: instruction 0: jumps to instruction 10, of 2"),
            ("0", "line 1: the program is empty"),
        ] {
            assert_eq!(text.parse::<Program>().expect_err(text).to_string(), why);
        }
    }

    #[test]
    fn a_program_is_printed_as_it_was_read() {
        let text = "4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n";
        assert_eq!(text.parse::<Program>().unwrap().to_string(), text);
    }
}
