//! Findings for people: short, aligned, with colours where they can be seen.

use std::io::{IsTerminal, stdout};

use super::finding::{Finding, Section, Status};

/// How it is shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    pub(super) colour: bool,
    /// Whether details are shown.
    pub(super) verbose: bool,
}

impl Style {
    /// Colours on a terminal, unless the user wants none (`NO_COLOR`).
    pub(super) fn here(verbose: bool) -> Self {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: stdout().is_terminal() && !is_plain, verbose }
    }

    fn paint(self, text: &str, code: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn status(self, status: Status) -> String {
        let code = match status {
            Status::Ok => "32",
            Status::Warn => "33",
            Status::Fail => "1;31",
            Status::Skip => "2",
        };
        self.paint(&format!("{:<4}", status.name()), code)
    }
}

pub(super) fn text(sections: &[Section], style: Style) -> String {
    let mut out = String::new();
    for section in sections {
        out += &style.paint(section.title, "1");
        out.push('\n');
        let widths = section.findings.iter().map(|finding| finding.what.chars().count());
        // What is longer than that does not push the others away.
        let width = widths.filter(|width| *width <= 32).max().unwrap_or(0);
        for finding in &section.findings {
            out += &line(finding, width, style);
        }
        out.push('\n');
    }
    out + &summary(sections) + "\n"
}

fn line(finding: &Finding, width: usize, style: Style) -> String {
    let Finding { status, what, says, fix, details } = finding;
    let mut lines = format!("  {}  {what:<width$}  {says}\n", style.status(*status));
    let indent = " ".repeat(8);
    for detail in details.iter().filter(|_| style.verbose) {
        lines += &format!("{indent}{detail}\n");
    }
    if let Some(fix) = fix {
        lines += &format!("{indent}{} {fix}\n", style.paint("fix:", "36"));
    }
    lines
}

/// How many of each there are.
fn summary(sections: &[Section]) -> String {
    let all = || sections.iter().flat_map(|section| &section.findings);
    let count = |status: Status| all().filter(|finding| finding.status == status).count();
    let counts = Status::ALL.map(|status| (count(status), status.name()));
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    counts.map(|(count, name)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections() -> Vec<Section> {
        let one = Finding::ok("2M", "3 of 4 free").details(vec!["more".into()]);
        let other = Finding::fail("0000:01:00.0", "not bound").fix("bind it");
        vec![Section { name: "memory", title: "Memory", findings: vec![one, other] }]
    }

    #[test]
    fn findings_are_aligned_and_fixes_stand_below() {
        let plain = text(&sections(), Style::default());
        assert_eq!(
            plain,
            "Memory\n  OK    2M            3 of 4 free\n  FAIL  0000:01:00.0  not bound\n        fix: \
             bind it\n\n1 OK, 1 FAIL\n"
        );
        let verbose = text(&sections(), Style { verbose: true, ..Style::default() });
        assert!(verbose.contains("3 of 4 free\n        more\n"), "{verbose}");
    }

    #[test]
    fn colours_change_nothing_else() {
        let coloured = text(&sections(), Style { colour: true, ..Style::default() });
        assert!(coloured.contains("\x1b[1;31mFAIL\x1b[0m"), "{coloured:?}");
        let mut plain = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once("\x1b[") {
            plain += before;
            rest = after.split_once('m').unwrap().1;
        }
        assert_eq!(plain + rest, text(&sections(), Style::default()));
    }
}
