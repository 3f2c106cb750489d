//! What a terminal shows while the program works: lines that are drawn over each time.

use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal, Write, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::failure::Failure;

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

    pub fn bold(self, text: impl Display) -> String {
        self.paint("1", text)
    }

    pub fn dim(self, text: impl Display) -> String {
        self.paint("2", text)
    }

    pub fn good(self, text: impl Display) -> String {
        self.paint("32", text)
    }

    pub fn bad(self, text: impl Display) -> String {
        self.paint("31", text)
    }

    fn paint(self, code: &str, text: impl Display) -> String {
        if self.has_color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// There is one standard error, and any thread may log to it.
static DRAWN: Mutex<Drawn> = Mutex::new(Drawn(0));

/// How many lines were drawn last and stand above the cursor.
#[derive(Debug)]
struct Drawn(usize);

impl Drawn {
    /// What draws the lines over those drawn before. The terminal cuts lines that are too long, so nothing wraps.
    fn over(&mut self, lines: &[String]) -> String {
        let mut text = self.first();
        text.push_str("\x1b[?7l");
        for line in lines {
            let _ = writeln!(text, "\x1b[K{line}");
        }
        text.push_str("\x1b[J\x1b[?7h");
        self.0 = lines.len();
        text
    }

    /// What takes the lines away.
    fn away(&mut self) -> String {
        let first = self.first();
        if std::mem::take(&mut self.0) > 0 { first + "\x1b[J" } else { first }
    }

    /// What leads to the first of the lines. What was typed, such as ^C, may stand left of the cursor.
    fn first(&self) -> String {
        if self.0 > 0 { format!("\x1b[{}A\r", self.0) } else { String::new() }
    }
}

/// A part of standard error that is drawn over, below what is said.
#[derive(Clone, Copy, Debug)]
pub struct Screen(());

impl Screen {
    /// `None` unless standard error is a terminal that can move its cursor.
    pub fn of_stderr() -> Option<Self> {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        (stderr().is_terminal() && !is_dumb).then_some(Self(()))
    }

    pub fn draw(self, lines: &[String]) {
        let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
        // One write, so that nothing flickers. A terminal that went away is no reason to stop.
        let _ = stderr().write_all(drawn.over(lines).as_bytes());
    }

    /// Takes the lines away.
    pub fn clear(self) {
        let _ = Words.write_all(&[]);
    }
}

/// Writes a line to standard error, in place of those that are drawn there: they are drawn again below.
pub fn say(line: impl Display) {
    let _ = Words.write_all(format!("{line}\n").as_bytes());
}

/// Writes to standard output. Who reads it may have seen enough.
pub fn print(text: &[u8]) -> Result<(), Failure> {
    match io::stdout().write_all(text).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io("cannot write to standard output", error))
        }
        _ => Ok(()),
    }
}

/// Standard error, for what is said and logged.
#[derive(Clone, Copy, Debug)]
pub struct Words;

impl io::Write for Words {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
        stderr().write_all(drawn.away().as_bytes())?;
        stderr().write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
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
    fn words_take_the_place_of_what_is_drawn_and_are_not_drawn_over() {
        let mut drawn = Drawn(0);
        assert_eq!(drawn.away(), "");
        assert_eq!(drawn.over(&["a".into(), "b".into()]), "\x1b[?7l\x1b[Ka\n\x1b[Kb\n\x1b[J\x1b[?7h");
        assert_eq!(drawn.over(&["c".into()]), "\x1b[2A\r\x1b[?7l\x1b[Kc\n\x1b[J\x1b[?7h");
        assert_eq!(drawn.away(), "\x1b[1A\r\x1b[J");
        // Words stand above the cursor now.
        assert_eq!(drawn.over(&["d".into()]), "\x1b[?7l\x1b[Kd\n\x1b[J\x1b[?7h");
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(bar(0.5, 4), "[##--]");
        assert_eq!(bar(7.0, 4), "[####]");
        assert_eq!(bit_rate(2_340_000.0), "2.3 Mbit/s");
        assert_eq!((count(1, "frame"), count(0, "frame")), ("1 frame".into(), "0 frames".into()));
    }
}
