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
        let command = apps::command(named.unwrap_or("memwire"))?;
        let (_, page) = pages(command).into_iter().next().unwrap_or_default();
        return Ok(out.write_all(&page)?);
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
    page
}

fn version(command: &Command) -> String {
    format!("memwire {}", command.get_version().unwrap_or(env!("CARGO_PKG_VERSION")))
}

/// The text below `--help` as sections: a line without indent that ends in a colon is a heading.
fn sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    let mut in_section = false;
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let (first, rest) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        let heading = first.strip_suffix(':').filter(|_| !first.starts_with(' '));
        match heading.filter(|_| !rest.is_empty()) {
            Some("Exit codes") => exit_status(&mut roff, rest),
            Some(heading) => {
                roff.control("SH", [heading.to_uppercase().as_str()]);
                listing(&mut roff, rest);
            }
            None => {
                if in_section {
                    roff.control("PP", []);
                } else {
                    roff.control("SH", ["NOTES"]);
                }
                if paragraph.starts_with(' ') {
                    listing(&mut roff, paragraph);
                } else {
                    roff.text([roman(paragraph.trim())]);
                }
            }
        }
        in_section = true;
    }
    roff
}

/// Lines of two spaces name something (an example, a port), deeper ones say what it is.
fn listing(roff: &mut Roff, text: &str) {
    for line in text.lines() {
        let words = line.trim();
        let depth = line.len() - line.trim_start().len();
        if depth > 2 {
            roff.text([roman(words)]);
        } else {
            roff.control("TP", ["4"]);
            roff.text([bold(words)]);
        }
    }
}

/// `0 ok    2 bad usage`: entries apart by several spaces, each a number and its meaning.
fn exit_status(roff: &mut Roff, text: &str) {
    roff.control("SH", ["EXIT STATUS"]);
    let entries = text.lines().flat_map(|line| line.split("    ")).map(str::trim);
    for entry in entries.filter(|entry| !entry.is_empty()) {
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
