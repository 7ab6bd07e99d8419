//! `--tui`: takes the terminal, draws what the app looks like a few times a second, and gives the
//! terminal back whatever happens.

mod held;
mod layout;
mod panels;
mod theme;
mod view;

use std::{
    io::{self, IsTerminal, Stdout, stdout},
    panic,
    sync::Once,
    time::{Duration, Instant},
};

use crossterm::{
    cursor::{Hide, Show},
    event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use ratatui::{Terminal, backend::CrosstermBackend};

pub(crate) use held::{Stderr, Stream, hold, is_up};

use super::Look;
use crate::AppError;
use theme::Theme;
use view::View;

/// Time between two pictures.
const PICTURE: Duration = Duration::from_millis(250);

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing.
    GoOn,
    /// The app to end.
    Stop,
    /// As ^C on a terminal that is not taken.
    Interrupt,
}

/// The screen: not taken yet, taken, or left.
pub(super) struct Screen {
    terminal: Option<Terminal<CrosstermBackend<Stdout>>>,
    is_over: bool,
    due: Instant,
    view: View,
}

impl Screen {
    /// Looks whether there is a terminal. It is taken when the first picture is drawn.
    pub(super) fn new(app: &'static str) -> Result<Self, AppError> {
        if !stdout().is_terminal() {
            let hint = "leave --tui out; --metrics and --report need no terminal";
            return Err(AppError::missing("--tui: stdout is no terminal").hint(hint));
        }
        let view = View::new(app, Theme::from_env());
        Ok(Self { terminal: None, is_over: false, due: Instant::now(), view })
    }

    /// Takes keys, and draws if it is time.
    pub(super) fn tick(&mut self, now: Instant, look: &mut Look<'_>) -> Result<Wish, AppError> {
        if self.is_over {
            return Ok(Wish::GoOn);
        }
        let gone = |error: io::Error| AppError::failed(format!("--tui: the terminal: {error}"));
        if self.terminal.is_none() {
            self.terminal = Some(enter().map_err(gone)?);
        } else if !is_up() {
            // A panic, on whatever thread, has given the terminal back.
            self.is_over = true;
            return Ok(Wish::GoOn);
        }
        let (wish, is_resized) = wishes().map_err(gone)?;
        if wish != Wish::GoOn {
            self.leave();
            return Ok(wish);
        }
        if now >= self.due {
            self.due = now + PICTURE;
            self.view.push(look.get().clone());
        } else if !is_resized {
            return Ok(wish);
        }
        self.view.log(held::last(3));
        if let Some(terminal) = &mut self.terminal {
            let view = &self.view;
            terminal.draw(|frame| layout::draw(frame, view)).map_err(gone)?;
        }
        Ok(wish)
    }

    /// Gives the terminal back, and prints what waited.
    pub(super) fn leave(&mut self) {
        self.is_over = true;
        if self.terminal.take().is_some() {
            restore();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

fn enter() -> io::Result<Terminal<CrosstermBackend<Stdout>>> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
    });
    held::set_up(true);
    enable_raw_mode().inspect_err(|_| restore())?;
    let entered = execute!(stdout(), EnterAlternateScreen, Hide)
        .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
    if entered.is_err() {
        restore();
    }
    entered
}

/// Gives the terminal back, once; a terminal that is gone needs nothing.
fn restore() {
    if held::set_up(false) {
        // In this order: who sees the old screen again may press ^C, which has to be a signal by then.
        let _ = disable_raw_mode();
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
        held::print();
    }
}

/// What was typed since, and whether the terminal has changed its size.
fn wishes() -> io::Result<(Wish, bool)> {
    let mut is_resized = false;
    while event::poll(Duration::ZERO)? {
        match event::read()? {
            Event::Key(key) => {
                let wish = wish_of(&key);
                if wish != Wish::GoOn {
                    return Ok((wish, is_resized));
                }
            }
            Event::Resize(..) => is_resized = true,
            _ => {}
        }
    }
    Ok((Wish::GoOn, is_resized))
}

fn wish_of(key: &KeyEvent) -> Wish {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        _ if key.kind == KeyEventKind::Release => Wish::GoOn,
        KeyCode::Char('c') if control => Wish::Interrupt,
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Wish::Stop,
        _ => Wish::GoOn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_and_escape_stop_and_control_c_interrupts() {
        let key = |code, modifiers| wish_of(&KeyEvent::new(code, modifiers));
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::NONE), Wish::Stop);
        assert_eq!(key(KeyCode::Esc, KeyModifiers::NONE), Wish::Stop);
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Wish::Interrupt);
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), Wish::GoOn);
        assert_eq!(key(KeyCode::Enter, KeyModifiers::NONE), Wish::GoOn);
    }

    #[test]
    fn without_a_terminal_the_error_says_what_works_instead() {
        if stdout().is_terminal() {
            println!("SKIP without_a_terminal_…: stdout is a terminal");
            return;
        }
        let error = Screen::new("gpurx").err().expect("an error");
        assert_eq!(error.code(), crate::Exit::Missing);
        assert!(error.to_string().contains("--tui: stdout is no terminal\n hint: "), "{error}");
    }
}
