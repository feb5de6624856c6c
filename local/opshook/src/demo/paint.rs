//! What the terminal can show: colours, and a line that is written over.

use std::io::{self, IsTerminal, Write};

/// How to write on standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    colour: bool,
    live: bool,
}

impl Paint {
    /// Colours only on a terminal, and not where `NO_COLOR` is set (<https://no-color.org>).
    pub(crate) fn of_this_terminal() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let live = io::stdout().is_terminal() && set("TERM").is_none_or(|term| term != "dumb");
        Self { colour: live && set("NO_COLOR").is_none(), live }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.wrapped("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.wrapped("2", text)
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.wrapped("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.wrapped("31", text)
    }

    pub(crate) fn accent(self, text: &str) -> String {
        self.wrapped("36", text)
    }

    fn wrapped(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Shows a line that the next one replaces; nothing where that can't be done. Empty takes it away.
    pub(crate) fn progress(self, line: &str) {
        if self.live {
            let mut out = io::stdout().lock();
            // A page that can't be written says so at its next real line.
            let _ = write!(out, "\r\u{1b}[2K{line}").and_then(|()| out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Paint;

    #[test]
    fn nothing_but_text_is_written_where_there_is_no_colour() {
        let plain = Paint { colour: false, live: false };
        assert_eq!(
            plain.bold("a") + &plain.dim("b") + &plain.good("c") + &plain.bad("d") + &plain.accent("e"),
            "abcde"
        );
        let paint = Paint { colour: true, live: true };
        assert_eq!(paint.good("ok"), "\u{1b}[32mok\u{1b}[0m");
    }
}
