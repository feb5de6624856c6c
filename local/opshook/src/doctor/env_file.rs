//! Files of settings as systemd reads them: `EnvironmentFile=` of `systemd.exec(5)`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::outcome::Failure;

/// More is no file of settings.
const MAX_BYTES: u64 = 1024 * 1024;

/// A file that was read.
#[derive(Debug, Clone)]
pub(crate) struct EnvFile {
    pub(crate) path: PathBuf,
    /// The function whose settings it holds; none where it holds for all.
    pub(crate) function: Option<&'static str>,
    pub(crate) text: Text,
    /// The permission bits.
    pub(crate) mode: u32,
    /// Its owner's user id.
    pub(crate) owner: u32,
}

/// What stands in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) values: BTreeMap<String, String>,
    /// The numbers of the lines that systemd leaves out, for they are no settings.
    pub(crate) left_out: Vec<usize>,
}

impl EnvFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It can't be read, or is no text.
    pub(crate) fn read(path: &Path, function: Option<&'static str>) -> Result<Self, Failure> {
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::usage(format!("{}: can't be read as a file of settings: {error}", path.display()))
        };
        let file = File::open(path).map_err(|error| wrong(&error))?;
        let about = file.metadata().map_err(|error| wrong(&error))?;
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| wrong(&error))?;
        let (mode, owner) = (about.mode() & 0o777, about.uid());
        Ok(Self { path: path.to_owned(), function, text: parse(&text), mode, owner })
    }

    pub(crate) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Whether it belongs to root or to the user who runs this.
    pub(crate) fn is_ours(&self) -> bool {
        let me = fs::metadata("/proc/self").map(|process| process.uid());
        self.owner == 0 || me.is_ok_and(|me| me == self.owner)
    }
}

/// Where in a file the reading is.
#[derive(Clone, Copy)]
enum At {
    Line,
    Comment,
    CommentEscape,
    Name,
    BeforeValue,
    Value,
    ValueEscape,
    Single,
    Double,
    DoubleEscape,
}

/// Reads by the rules that systemd has: quotes within a value, `\` before a line's end, `#` and `;` for comments.
pub(crate) fn parse(text: &str) -> Text {
    let mut reading =
        Reading { at: At::Line, line: 1, name: String::new(), value: String::new(), read: Text::default() };
    for c in text.chars() {
        reading.take(c);
        reading.line += usize::from(c == '\n');
    }
    match reading.at {
        At::Line | At::Comment | At::CommentEscape => {}
        // A quote that is never closed has swallowed what came after it.
        At::Single | At::Double | At::DoubleEscape => reading.read.left_out.push(reading.line),
        _ => reading.take('\n'),
    }
    reading.read
}

struct Reading {
    at: At,
    line: usize,
    name: String,
    value: String,
    read: Text,
}

impl Reading {
    fn take(&mut self, c: char) {
        self.at = match (self.at, c) {
            (At::Line, '#' | ';') => At::Comment,
            (At::Line, c) if c.is_ascii_whitespace() => At::Line,
            (At::Line, c) => self.named(c),
            (At::Comment, '\n') => At::Line,
            (At::Comment, '\\') => At::CommentEscape,
            (At::Comment | At::CommentEscape, _) => At::Comment,
            (At::Name, '\n') => {
                self.read.left_out.push(self.line);
                self.name.clear();
                At::Line
            }
            (At::Name, '=') => At::BeforeValue,
            (At::Name, c) => self.named(c),
            (At::BeforeValue, '\n') => self.ended(false),
            (At::BeforeValue, '\'') => At::Single,
            (At::BeforeValue, '"') => At::Double,
            (At::BeforeValue | At::Value, '\\') => At::ValueEscape,
            (At::BeforeValue, c) if c.is_ascii_whitespace() => At::BeforeValue,
            (At::Value, '\n') => self.ended(true),
            (At::ValueEscape, '\n') => At::Value,
            (At::BeforeValue | At::Value | At::ValueEscape, c) => self.valued(c, At::Value),
            (At::Single, '\'') | (At::Double, '"') => At::BeforeValue,
            (At::Double, '\\') => At::DoubleEscape,
            (At::Single, c) => self.valued(c, At::Single),
            (At::DoubleEscape, '\n') => At::Double,
            (At::DoubleEscape, c) => {
                if !matches!(c, '"' | '\\' | '`' | '$') {
                    self.value.push('\\');
                }
                self.valued(c, At::Double)
            }
            (At::Double, c) => self.valued(c, At::Double),
        };
    }

    fn named(&mut self, c: char) -> At {
        self.name.push(c);
        At::Name
    }

    fn valued(&mut self, c: char, next: At) -> At {
        self.value.push(c);
        next
    }

    fn ended(&mut self, is_bare: bool) -> At {
        let (name, value) = (std::mem::take(&mut self.name), std::mem::take(&mut self.value));
        let name = name.trim_end();
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !name.is_empty()
            && !name.as_bytes().first().is_some_and(u8::is_ascii_digit);
        if is_name {
            let value = if is_bare { value.trim_end_matches([' ', '\t', '\r']).to_owned() } else { value };
            self.read.values.insert(name.to_owned(), value);
        } else {
            self.read.left_out.push(self.line);
        }
        At::Line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        parse(text).values.into_iter().collect()
    }

    fn one(text: &str) -> String {
        let Some((name, value)) = read(text).pop() else { return "nothing".to_owned() };
        format!("{name}:{value}")
    }

    #[test]
    fn values_are_read_as_systemd_reads_them() {
        for (text, value) in [
            ("A=b", "A:b"),
            ("  A=  b c  \n", "A:b c"),
            ("A='b \"c'\n", "A:b \"c"),
            ("A=\"b 'c\"  \n", "A:b 'c"),
            ("A=\"b\\\"\\\\\\x\"", "A:b\"\\\\x"),
            ("A='b'\"c\"d", "A:bcd"),
            ("A=b\\\nc", "A:bc"),
            ("A=\"b\nc\"", "A:b\nc"),
            ("A=b # not a comment", "A:b # not a comment"),
            ("A=\n", "A:"),
            ("# x=1\n;y=2\nA=b=c==", "A:b=c=="),
            ("A=1\nA=2", "A:2"),
        ] {
            assert_eq!(one(text), value, "{text:?}");
        }
        assert_eq!(parse("# all\\\nof=this\nA=b\n").values.len(), 1);
    }

    #[test]
    fn lines_that_systemd_leaves_out_are_named_by_their_number() {
        for (text, lines) in [
            ("A=1\nexport B=2\nC=3", vec![2]),
            ("A\n", vec![1]),
            ("=x\n1A=x\nA.B=x\n", vec![1, 2, 3]),
            ("A='b\nC=d\n", vec![3]),
        ] {
            assert_eq!(parse(text).left_out, lines, "{text:?}");
        }
        assert_eq!(read("A=1\nexport B=2\nC=3").len(), 2);
    }
}
