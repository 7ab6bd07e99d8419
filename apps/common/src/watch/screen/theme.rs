//! Colours of the screen; none with `NO_COLOR`, where weight alone has to do.

use ratatui::style::{Color, Modifier, Style};

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Names of panels and columns.
    Title,
    /// Text that may be overlooked.
    Quiet,
    /// Received, or good.
    Good,
    /// Sent.
    Second,
    /// Cached.
    Third,
    /// With the app.
    Warm,
    /// Something was lost.
    Bad,
}

/// How tones look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    has_colour: bool,
}

impl Theme {
    /// As the environment says: <https://no-color.org>.
    pub(super) fn from_env() -> Self {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { has_colour: !is_plain }
    }

    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self { has_colour: false }
    }

    pub(super) fn style(self, tone: Tone) -> Style {
        let plain = match tone {
            Tone::Title | Tone::Bad => Style::new().add_modifier(Modifier::BOLD),
            Tone::Quiet => Style::new().add_modifier(Modifier::DIM),
            _ => Style::new(),
        };
        let colour = match tone {
            _ if !self.has_colour => return plain,
            Tone::Title => Color::Reset,
            Tone::Quiet => return Style::new().fg(Color::DarkGray),
            Tone::Good => Color::Green,
            // Plain blue can hardly be read on black.
            Tone::Second => Color::LightBlue,
            Tone::Third => Color::Cyan,
            Tone::Warm => Color::Yellow,
            Tone::Bad => Color::Red,
        };
        plain.fg(colour)
    }
}
