//! The commands there are, for completions and manuals. Knows their command lines and nothing else.

use clap::{Command, CommandFactory};
use memwire_apps::AppError;

/// A command of this project.
struct App {
    name: &'static str,
    command: fn() -> Command,
}

/// Every one.
const APPS: &[App] = &[
    App { name: "memwire", command: crate::Args::command },
    App { name: "gpurx", command: gpurx::args::Args::command },
    App { name: "gpurx-consumer", command: gpurx::process::args::Args::command },
    App { name: "l2fwd", command: l2fwd::Args::command },
    App { name: "pktgen", command: pktgen::Args::command },
    App { name: "capture", command: capture::Args::command },
];

/// Their names.
pub(crate) fn names() -> Vec<&'static str> {
    APPS.iter().map(|app| app.name).collect()
}

/// The command of that name.
///
/// # Errors
/// There is none; the message lists those that there are.
pub(crate) fn command(name: &str) -> Result<Command, AppError> {
    match APPS.iter().find(|app| app.name == name) {
        Some(app) => Ok((app.command)()),
        None => Err(AppError::usage(format!("no app '{name}'; there are: {}", names().join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_sound_and_has_the_name_it_is_listed_by() {
        for name in names() {
            let command = command(name).expect("listed");
            assert_eq!(command.get_name(), name);
            command.debug_assert();
        }
    }

    #[test]
    fn an_unknown_app_is_answered_with_the_known_ones() {
        let error = command("pkgten").expect_err("no such app");
        assert!(error.to_string().starts_with("no app 'pkgten'; there are: memwire, gpurx"));
        assert_eq!(error.code(), memwire_apps::Exit::Usage);
    }
}
