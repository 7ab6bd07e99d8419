//! A command of ours that runs beside the stages, with what of the processors they leave: the guest's kernel takes
//! minutes to build, once. Knows no stage.

use std::thread::{self, JoinHandle};

use anyhow::Result;

use crate::child::{Child, Output};

/// It runs, or has ended.
pub(super) struct Beside {
    words: String,
    thread: JoinHandle<Result<Output>>,
}

impl Beside {
    /// Starts `cargo xtask` with these words; nothing if it cannot be started: whoever needs it does it then.
    pub(super) fn start(words: &[&str]) -> Option<Self> {
        let program = std::env::current_exe().ok()?;
        let child =
            Child::new("nice").args(["-n", "19"]).args([program]).args(words.iter().copied());
        let thread = thread::Builder::new().name("beside".into()).spawn(|| child.output()).ok()?;
        Some(Self { words: words.join(" "), thread })
    }

    /// Waits for its end, and shows what it printed. That it failed is seen by what is missing.
    pub(super) fn wait(self) {
        println!("+ cargo xtask {} (since the build, beside the other stages)", self.words);
        match self.thread.join() {
            Ok(Ok(output)) => print!("{}{}", output.stdout, output.stderr),
            Ok(Err(error)) => println!("{error:#}"),
            Err(_) => println!("it panicked"),
        }
    }
}
