//! Completions of the apps' flags, for five shells.

use std::io::Write;

use crate::{Failure, apps, args::CompletionsArgs};

pub(crate) fn run(args: &CompletionsArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let mut command = apps::command(&args.app)?;
    // Into memory first: the generator panics where its output fails, such as a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, &args.app, &mut script);
    Ok(out.write_all(&script)?)
}
