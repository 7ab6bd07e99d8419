//! Runs in the guest, and does there what the host asks for.

use std::process::ExitCode;

fn main() -> ExitCode {
    match testbed::agent::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testbed-agent: {error}");
            ExitCode::FAILURE
        }
    }
}
