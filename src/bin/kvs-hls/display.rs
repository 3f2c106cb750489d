//! What a terminal shows while the program works: lines that are drawn over each time.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

/// Between two drawings.
pub const REDRAW_EVERY: Duration = Duration::from_millis(250);

/// Whether colours are welcome (<https://no-color.org>).
pub fn wants_color() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    has_color: bool,
}

impl Style {
    pub fn of_stderr() -> Self {
        Self { has_color: stderr().is_terminal() && wants_color() }
    }

    pub fn of_stdout() -> Self {
        Self { has_color: std::io::stdout().is_terminal() && wants_color() }
    }

    #[cfg(test)]
    pub fn plain() -> Self {
        Self { has_color: false }
    }

    pub fn bold(self, text: impl std::fmt::Display) -> String {
        self.paint("1", text)
    }

    pub fn dim(self, text: impl std::fmt::Display) -> String {
        self.paint("2", text)
    }

    pub fn good(self, text: impl std::fmt::Display) -> String {
        self.paint("32", text)
    }

    pub fn bad(self, text: impl std::fmt::Display) -> String {
        self.paint("31", text)
    }

    fn paint(self, code: &str, text: impl std::fmt::Display) -> String {
        if self.has_color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// A part of standard error that is drawn over.
#[derive(Debug, Default)]
pub struct Screen {
    /// Lines drawn last, above the cursor.
    lines: usize,
}

impl Screen {
    /// `None` unless standard error is a terminal that can move its cursor.
    pub fn of_stderr() -> Option<Self> {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        (stderr().is_terminal() && !is_dumb).then(Self::default)
    }

    /// Draws the lines over those drawn before. The terminal cuts lines that are too long, so nothing wraps.
    pub fn draw(&mut self, lines: &[String]) {
        let mut text = String::from("\x1b[?7l");
        if self.lines > 0 {
            let _ = write!(text, "\x1b[{}A", self.lines);
        }
        for line in lines {
            let _ = write!(text, "\r\x1b[K{line}\n");
        }
        text.push_str("\x1b[J\x1b[?7h");
        self.lines = lines.len();
        // One write, so that nothing flickers. A terminal that went away is no reason to stop.
        let _ = stderr().write_all(text.as_bytes());
    }

    /// Takes the lines away.
    pub fn clear(&mut self) {
        self.draw(&[]);
    }
}

/// A bar of `width` characters.
pub fn bar(part: f64, width: usize) -> String {
    let filled = ((part.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
    format!("[{}{}]", "#".repeat(filled), "-".repeat(width - filled))
}

/// Bits a second for people.
pub fn bit_rate(bits: f64) -> String {
    match bits {
        bits if bits >= 1e9 => format!("{:.1} Gbit/s", bits / 1e9),
        bits if bits >= 1e6 => format!("{:.1} Mbit/s", bits / 1e6),
        bits => format!("{:.0} kbit/s", bits / 1e3),
    }
}

/// `1 frame`, `2 frames`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(bar(0.5, 4), "[##--]");
        assert_eq!(bar(7.0, 4), "[####]");
        assert_eq!(bit_rate(2_340_000.0), "2.3 Mbit/s");
        assert_eq!((count(1, "frame"), count(0, "frame")), ("1 frame".into(), "0 frames".into()));
    }
}
