//! Logs go to stderr; stdout is for results.

use tracing_subscriber::EnvFilter;

use crate::watch::Stderr;

/// Starts logging: warnings by default, errors only if `quiet`, more with each `-v`. `RUST_LOG`
/// overrides all of it. A second call does nothing.
pub fn init(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Stderr);
    let _ = logs.with_ansi(false).without_time().try_init();
}
