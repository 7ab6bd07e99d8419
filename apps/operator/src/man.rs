//! Manual pages: clap's own rendering for flags and subcommands, and the text below `--help` as the
//! sections that a manual has.

use std::{fs, io::Write, path::Path};

use clap::Command;
use clap_mangen::Man;
use memwire_apps::AppError;
use roff::{Roff, bold, roman};

use crate::{Failure, apps, args::ManArgs};

pub(crate) fn run(args: &ManArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let named = args.app.as_deref();
    let Some(folder) = &args.dir else {
        return Ok(out.write_all(&one(named.unwrap_or("memwire"))?)?);
    };
    let names = match named {
        None => apps::names(),
        Some(name) => vec![name],
    };
    for name in names {
        for (name, page) in pages(apps::command(name)?) {
            let path = folder.join(format!("{name}.1"));
            write(&path, &page)?;
            writeln!(out, "{}", path.display())?;
        }
    }
    Ok(())
}

/// The page of an app, or of a subcommand: `memwire-info`, or `info` for short.
fn one(name: &str) -> Result<Vec<u8>, AppError> {
    let below = format!("memwire-{name}");
    let names = [name, below.as_str()];
    let apps = apps::names().into_iter().filter_map(|name| apps::command(name).ok());
    let mut all = apps.flat_map(pages);
    match all.find(|(page, _)| names.contains(&page.as_str())) {
        Some((_, page)) => Ok(page),
        // Says which there are.
        None => apps::command(name).map(|command| page(&command)),
    }
}

fn write(path: &Path, page: &[u8]) -> Result<(), AppError> {
    fs::write(path, page).map_err(|error| {
        AppError::missing(format!("{}: {error}", path.display()))
            .hint("--dir names a folder that is there and may be written to")
    })
}

/// The page of a command and those of its subcommands, each with its name.
fn pages(command: Command) -> Vec<(String, Vec<u8>)> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    collect(command, &mut pages);
    pages
}

fn collect(command: Command, pages: &mut Vec<(String, Vec<u8>)>) {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let below: Vec<Command> = command.get_subcommands().cloned().collect();
    pages.push((name, page(&command)));
    below.into_iter().for_each(|command| collect(command, pages));
}

/// One page.
fn page(command: &Command) -> Vec<u8> {
    let closing = command.get_after_long_help().or(command.get_after_help());
    let closing = closing.map(ToString::to_string).unwrap_or_default();
    let man = Man::new(command.clone()).manual("memwire").source(version(command));
    let mut page = Vec::new();
    let rendered = man
        .render_title(&mut page)
        // To the left: specs are too long to be spread over a line.
        .and_then(|()| page.write_all(b".ad l\n"))
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| man.render_options_section(&mut page))
        .and_then(|()| match command.has_subcommands() {
            true => man.render_subcommands_section(&mut page),
            false => Ok(()),
        })
        .and_then(|()| sections(&closing).to_writer(&mut page));
    // Memory takes all that is written to it.
    debug_assert!(rendered.is_ok(), "{rendered:?}");
    plain(&String::from_utf8_lossy(&page)).into_bytes()
}

/// Letters beyond ASCII by their numbers: not every formatter is told of the encoding.
fn plain(page: &str) -> String {
    let letter = |letter: char| match letter.is_ascii() {
        true => letter.to_string(),
        false => format!("\\[u{:04X}]", u32::from(letter)),
    };
    page.chars().map(letter).collect()
}

fn version(command: &Command) -> String {
    format!("memwire {}", command.get_version().unwrap_or(env!("CARGO_PKG_VERSION")))
}

/// The text below `--help` as sections: a line without indent that ends in a colon is a heading, if
/// something stands below it.
fn sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    let mut heading = Some("Notes");
    let (mut is_exit_status, mut is_after_gap) = (false, false);
    for line in text.lines() {
        let is_indented = line.starts_with(' ');
        if line.trim().is_empty() {
            is_after_gap = true;
            continue;
        }
        if let Some(words) = line.strip_suffix(':').filter(|_| !is_indented) {
            heading = Some(words);
            continue;
        }
        let is_first = heading.is_some();
        if let Some(words) = heading.take() {
            is_exit_status = words == "Exit codes";
            let title = if is_exit_status { "EXIT STATUS".into() } else { words.to_uppercase() };
            roff.control("SH", [title.as_str()]);
        }
        match (is_exit_status, is_indented) {
            (true, true) => exit_status(&mut roff, line),
            (false, true) => listing(&mut roff, line),
            (_, false) => {
                if is_after_gap && !is_first {
                    roff.control("PP", []);
                }
                roff.text([roman(line)]);
            }
        }
        is_after_gap = false;
    }
    roff
}

/// A line of two spaces names something (an example, a port), a deeper one says what it is.
fn listing(roff: &mut Roff, line: &str) {
    let words = line.trim();
    if line.len() - line.trim_start().len() > 2 {
        roff.text([roman(words)]);
    } else {
        roff.control("TP", ["4"]);
        roff.text([bold(words)]);
    }
}

/// `0 ok    2 bad usage`: entries apart by several spaces, each a number and its meaning.
fn exit_status(roff: &mut Roff, line: &str) {
    for entry in line.split("    ").map(str::trim).filter(|entry| !entry.is_empty()) {
        let (number, meaning) = entry.split_once(' ').unwrap_or((entry, ""));
        roff.control("TP", ["4"]);
        roff.text([bold(number)]);
        roff.text([roman(meaning)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_below_help_becomes_the_sections_of_a_manual() {
        let text = "Examples:\n  app -x\n      does x\n\nA remark.\n\nExit codes:\n  0 ok    2 bad usage\n  3 gone";
        let roff = sections(text).to_roff();
        assert_eq!(
            roff,
            ".SH EXAMPLES\n.TP 4\n\\fBapp \\-x\\fR\ndoes x\n.PP\nA remark.\n.SH \"EXIT STATUS\"\n\
             .TP 4\n\\fB0\\fR\nok\n.TP 4\n\\fB2\\fR\nbad usage\n.TP 4\n\\fB3\\fR\ngone\n"
        );
    }

    #[test]
    fn a_heading_with_nothing_below_it_is_left_out() {
        let roff = sections("Ports:\nPorts (-p):\n  null:\n      nothing\n").to_roff();
        assert_eq!(roff, ".SH \"PORTS (-P)\"\n.TP 4\n\\fBnull:\\fR\nnothing\n");
    }

    #[test]
    fn a_subcommand_is_found_by_its_short_name() {
        assert_eq!(one("hugepages").unwrap(), one("memwire-hugepages").unwrap());
        assert!(
            one("hugepags").unwrap_err().to_string().starts_with("no app 'hugepags'; there are")
        );
    }

    #[test]
    fn letters_beyond_ascii_go_by_their_numbers() {
        assert_eq!(plain("≤ 2 s"), "\\[u2264] 2 s");
    }

    #[test]
    fn text_without_a_heading_is_a_note() {
        assert_eq!(sections("Plain.").to_roff(), ".SH NOTES\nPlain.\n");
    }

    #[test]
    fn each_subcommand_has_a_page_of_its_own() {
        let names: Vec<_> =
            pages(apps::command("memwire").unwrap()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names[0], "memwire");
        for name in ["memwire-info", "memwire-hugepages", "memwire-hugepages-set"] {
            assert!(names.iter().any(|known| known == name), "{name} is not in {names:?}");
        }
    }
}
