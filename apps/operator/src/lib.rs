//! `memwire`, the operator's command: what is here (`info`, `status`), what is in the way (`doctor`), who drives NICs (`bind`, `unbind`),
//! hugepages, completions and manuals of all apps. Reads the machine and sets what it is asked to set; moves no packet.

mod apps;
mod args;
mod bind;
mod completions;
mod dmabuf;
mod doctor;
mod hugepages;
mod info;
mod man;
mod pci;
mod status;
mod support;

use std::io::{self, Write};

use memwire_apps::AppError;

pub use args::Args;
use args::Command;
pub use support::markdown as support_table;

/// Does what the command line says; results go to `out`.
///
/// # Errors
/// The command line asks for what cannot be, something is missing here, or `out` takes no more.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    match &args.command {
        Command::Info(info) => info::run(info, &args.root, out),
        Command::Doctor(doctor) => doctor::run(doctor, &args.root, out),
        Command::Status(status) => status::run(status, &args.root, out),
        Command::Bind(bind) => bind::bind(bind, &args.root, out),
        Command::Unbind(unbind) => bind::unbind(unbind, &args.root, out),
        Command::Hugepages(hugepages) => hugepages::run(hugepages, &args.root, out),
        Command::Dmabuf(dmabuf) => dmabuf::run(dmabuf, &args.root, out),
        Command::Completions(completions) => completions::run(completions, out),
        Command::Man(man) => man::run(man, out),
    }
}

/// Why the command ended early.
#[derive(Debug)]
pub enum Failure {
    /// What the user must be told.
    App(AppError),
    /// The results could not be written.
    Output(io::Error),
}

impl Failure {
    /// The error for the user; none if it only is that nobody reads the results any more.
    #[must_use]
    pub fn for_user(self) -> Option<AppError> {
        match self {
            Self::App(error) => Some(error),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Self::Output(error) => Some(AppError::failed(format!("writing the results: {error}"))),
        }
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        Self::App(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Writes one JSON value: to `out`, or to the file that `--json=FILE` names.
fn write_json(
    value: &impl serde::Serialize,
    path: &std::path::Path,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)? + "\n";
    if path.as_os_str() == "-" {
        return Ok(out.write_all(text.as_bytes())?);
    }
    std::fs::write(path, text)
        .map_err(|error| AppError::missing(format!("--json={}: {error}", path.display())).into())
}
