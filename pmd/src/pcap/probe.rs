//! What can be found out about the files of a port before it is started.

use std::{io, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use super::{
    FileOptions, ReadError, Reader,
    arena::{self, Arena, LoadError},
    input::Input,
    options::{InputOptions, is_standard},
};
use crate::{Error, PortSpec, Registry, registry::Claim};

/// How the reading side is read.
pub(super) enum Kind {
    /// Opened again for every queue.
    File,
    /// Read once; `None` when that has been done.
    Stream(Option<Input>),
    /// Held in memory.
    Loop(Arc<Arena>),
}

/// A reader of an input, as strict as asked.
pub(super) fn reader(file: Input, options: &InputOptions) -> Reader<Input> {
    let reader = Reader::new(file);
    if options.strict { reader.strict() } else { reader }
}

impl Kind {
    /// Looks at the file, as far as can be without waiting for it.
    pub(super) fn open(
        registry: &mut Registry,
        spec: &PortSpec,
        input: &InputOptions,
        claims: &mut Vec<Claim>,
    ) -> Result<Self, Error> {
        let path = &input.path;
        let missing = |error: io::Error| not_there(spec, path, error);
        let stream = Input::is_stream(path).map_err(missing)?;
        if stream && input.strict {
            return Err(Error::BadOption {
                port: spec.to_string(),
                why: "option strict: reads a file twice, which a stream cannot be".into(),
            });
        }
        if stream {
            claims.push(registry.claim(spec, format!("pcap-in:{}", path.display()), 1)?);
        }
        let file = Input::open(path).map_err(missing)?;
        if input.replay {
            return match Arena::load(&mut reader(file.waiting(), input)) {
                Ok(arena) => Ok(Self::Loop(Arc::new(arena))),
                Err(LoadError::Read(error)) => Err(broken(spec, error)),
                Err(LoadError::TooLarge) => Err(Error::BadOption {
                    port: spec.to_string(),
                    why: format!(
                        "option loop: {} takes more than {} MiB in memory; cut it (editcap -r) or read it without loop",
                        path.display(),
                        arena::LIMIT >> 20
                    ),
                }),
            };
        }
        if stream {
            return Ok(Self::Stream(Some(file)));
        }
        let mut reader = reader(file, input);
        loop {
            match reader.read_record() {
                Ok(Some(_)) if input.strict => {}
                Ok(_) => return Ok(Self::File),
                // The queues deliver what is before it, and say so themselves.
                Err(ReadError::Record { .. }) if !input.strict => return Ok(Self::File),
                Err(error) => return Err(broken(spec, error)),
            }
        }
    }
}

/// The file is not there, or may not be read.
fn not_there(spec: &PortSpec, path: &Path, error: io::Error) -> Error {
    let (port, path) = (spec.to_string(), path.display());
    match error.kind() {
        io::ErrorKind::NotFound => Error::NotThere {
            port,
            why: format!("there is no file '{path}'; a port is pcap:FILE (- is standard input)"),
        },
        io::ErrorKind::PermissionDenied => Error::NoPermission {
            port,
            what: format!("opening {path}"),
            needs: "the right to read it (chmod, or run as its owner)".into(),
        },
        _ => Error::System { port, what: format!("opening {path}"), source: error },
    }
}

fn broken(spec: &PortSpec, error: ReadError) -> Error {
    let port = spec.to_string();
    match error {
        ReadError::Header { offset, why } => Error::BrokenFile { port, record: 0, offset, why },
        ReadError::Record { record, offset, why } => {
            Error::BrokenFile { port, record, offset, why }
        }
        ReadError::Io { offset, source } => {
            Error::System { port, what: format!("reading at offset {offset:#x}"), source }
        }
        ReadError::Pending => Error::State { port, why: "the stream has no data yet" },
    }
}

/// Refuses an output that another port writes, that is the input, or that cannot be made.
pub(super) fn output(
    registry: &mut Registry,
    spec: &PortSpec,
    output: &FileOptions,
    input: Option<&InputOptions>,
    claims: &mut Vec<Claim>,
) -> Result<(), Error> {
    let (path, port) = (&output.path, spec.to_string());
    let there = if is_standard(path) { None } else { path.metadata().ok() };
    let from = input.and_then(|input| input.path.metadata().ok());
    if let (Some(to), Some(from)) = (&there, &from)
        && to.is_file()
        && (to.dev(), to.ino()) == (from.dev(), from.ino())
    {
        let why = format!("option tx={}: is the file that is read", path.display());
        return Err(Error::BadOption { port, why });
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let why = format!("there is no folder '{}' to write in; create it", folder.display());
        return Err(Error::NotThere { port, why });
    }
    if there.is_none_or(|there| there.is_file()) {
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        claims.push(registry.claim(spec, format!("pcap-out:{}", whole.display()), 1)?);
    }
    Ok(())
}
