//! How an app ends: one exit code per kind of reason, an `error:` line, and a `hint:` line with the
//! fix.

use std::{fmt, io, process::ExitCode};

/// Why the process ended. After a second ^C it ends with 130, without passing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well; also after one ^C, with the summary printed.
    Ok = 0,
    /// The run failed.
    Failed = 1,
    /// The command line asks for what cannot be.
    Usage = 2,
    /// Something is missing here: memory, a permission, an interface.
    Missing = 3,
    /// The run went well, but what it checked did not hold.
    Check = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error for the user: what went wrong, with which exit code, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppError {
    code: Exit,
    message: String,
    hint: Option<String>,
}

impl AppError {
    fn new(code: Exit, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// The run failed (exit 1).
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The command line is wrong (exit 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something is missing here (exit 3).
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(Exit::Missing, message)
    }

    /// A check did not hold (exit 4).
    pub fn check(message: impl Into<String>) -> Self {
        Self::new(Exit::Check, message)
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> Exit {
        self.code
    }
}

impl fmt::Display for AppError {
    /// The text behind `error: `, the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for AppError {}

impl From<pmd::Error> for AppError {
    fn from(error: pmd::Error) -> Self {
        let code = match &error {
            // The device has what it needs, and failed.
            pmd::Error::System { .. } | pmd::Error::BrokenFile { .. } => Exit::Failed,
            error if error.is_usage() => Exit::Usage,
            _ => Exit::Missing,
        };
        Self::new(code, error.to_string())
    }
}

impl From<mempool::Error> for AppError {
    fn from(error: mempool::Error) -> Self {
        let code = match &error {
            mempool::Error::NotEnoughMemory { .. } => Exit::Missing,
            mempool::Error::Provider { source, .. } => provider_code(source),
            mempool::Error::Draining { .. } => Exit::Failed,
            _ => Exit::Usage,
        };
        Self::new(code, error.to_string())
    }
}

impl From<mempool::ProviderError> for AppError {
    fn from(error: mempool::ProviderError) -> Self {
        Self::new(provider_code(&error), error.to_string())
    }
}

fn provider_code(error: &mempool::ProviderError) -> Exit {
    match error {
        mempool::ProviderError::BadRequest { .. } => Exit::Usage,
        _ => Exit::Missing,
    }
}

impl From<mempool::SizingError> for AppError {
    fn from(error: mempool::SizingError) -> Self {
        let fix = format!("--buffers {}, or smaller rings", error.needed.next_power_of_two());
        Self::usage(error.to_string()).hint(fix)
    }
}

impl From<io::Error> for AppError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => {
                Self::missing(error.to_string())
            }
            _ => Self::failed(error.to_string()),
        }
    }
}

/// What `main` returns: runs the app, prints the error if there is one.
pub fn run(app: impl FnOnce() -> Result<Exit, AppError>) -> ExitCode {
    app()
        .unwrap_or_else(|error| {
            eprintln!("error: {error}");
            error.code
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(error: impl Into<AppError>) -> Exit {
        error.into().code()
    }

    #[test]
    fn the_hint_stands_on_its_own_line() {
        let error = AppError::missing("no hugepages").hint("echo 512 > nr_hugepages");
        assert_eq!(error.to_string(), "no hugepages\n hint: echo 512 > nr_hugepages");
        assert_eq!(error.code() as u8, 3);
    }

    #[test]
    fn a_port_that_cannot_be_is_usage_and_one_that_is_not_here_is_missing() {
        let open = |spec: &str| pmd::Registry::new().open(spec).err().expect("an error");
        assert_eq!(code_of(open("nul:")), Exit::Usage);
        assert_eq!(code_of(open("null:,size=1")), Exit::Usage);
        let gone = pmd::Error::NotThere { port: "af_packet:x".into(), why: "no interface".into() };
        assert_eq!(code_of(gone), Exit::Missing);
    }

    #[test]
    fn too_little_memory_is_missing_and_bad_arguments_are_usage() {
        use mempool::{Cpu, Pool, heap::Heap};
        let small = Heap::with_limit(4096);
        let build = |slots, stride| {
            let pool = Pool::<Cpu>::builder().slots(slots).stride(stride).memory(&small);
            pool.build().expect_err("an error")
        };
        assert_eq!(code_of(build(1024, 2048)), Exit::Missing);
        assert_eq!(code_of(build(0, 2048)), Exit::Usage);
        assert_eq!(code_of(build(1, 100)), Exit::Usage);
    }

    #[test]
    fn a_pool_that_must_wedge_is_usage_with_a_fix() {
        let plan = mempool::QueuePlan { rx_ring: 512, tx_ring: 512 };
        let sizing = mempool::Sizing { queues: vec![plan], ..mempool::Sizing::default() };
        let error = AppError::from(sizing.check(1000).unwrap_err());
        assert_eq!(error.code(), Exit::Usage);
        assert!(error.to_string().ends_with("hint: --buffers 1024, or smaller rings"), "{error}");
    }
}
