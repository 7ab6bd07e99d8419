//! `memwire info`: what is here. Gathers, then shows: as tables, or as one JSON object.

mod gather;
mod machine;
mod memory;
mod report;
mod text;

use std::{io::Write, path::Path};

use crate::{Failure, args::InfoArgs, write_json};

pub(crate) fn run(args: &InfoArgs, root: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let report = if args.ports.is_empty() {
        gather::here(&args.only, root)?
    } else {
        gather::opened(&args.ports)?
    };
    match &args.json {
        Some(path) => write_json(&report, path, out),
        None => Ok(out.write_all(text::text(&report).as_bytes())?),
    }
}
