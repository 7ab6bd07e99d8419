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
    let names = named.map_or_else(apps::names, |name| vec![name]);
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
    pages.push((name, page(command)));
    below.into_iter().for_each(|command| collect(command, pages));
}

/// One page. Rendering into memory does not fail.
fn page(command: Command) -> Vec<u8> {
    let closing = command.get_after_long_help().or(command.get_after_help());
    let closing = closing.map(ToString::to_string).unwrap_or_default();
    let has_subcommands = command.has_subcommands();
    let man = Man::new(command.clone()).manual("memwire").source(version(&command));
    let mut page = Vec::new();
    let parts: [fn(&Man, &mut dyn Write) -> std::io::Result<()>; 5] = [
        Man::render_title,
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
        Man::render_options_section,
    ];
    for part in parts {
        let _ = part(&man, &mut page);
    }
    if has_subcommands {
        let _ = man.render_subcommands_section(&mut page);
    }
    let _ = sections(&closing).to_writer(&mut page);
    page
}

fn version(command: &Command) -> String {
    format!("{} {}", command.get_name(), command.get_version().unwrap_or(env!("CARGO_PKG_VERSION")))
}

/// The text below `--help` as sections: a line without indent that ends in a colon is a heading.
fn sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    let mut in_section = false;
    for paragraph in text.split("\n\n") {
        let (first, rest) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        let heading = first.strip_suffix(':').filter(|_| !first.starts_with(' ') && !rest.is_empty());
        match heading {
            Some("Exit codes") => exit_status(&mut roff, rest),
            Some(heading) => {
                roff.control("SH", [heading.to_uppercase().as_str()]);
                listing(&mut roff, rest);
            }
            None if paragraph.trim().is_empty() => continue,
            None => {
                roff.control(if in_section { "PP" } else { "SH" }, in_section.then_some([]).unwrap_or_default());
                roff.text([roman(paragraph.trim())]);
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
