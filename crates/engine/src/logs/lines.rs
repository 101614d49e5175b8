//! Cuts the two streams into lines; a line longer than 16 KiB becomes several parts, as Docker's copier does.

use std::io;

use weft_base::Timestamp;

use super::types::Stream;

/// The longest piece of a line, in bytes.
pub(super) const PART: usize = 16 * 1024;

/// A piece of a line that was too long for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// When the first piece was seen; all pieces carry this time.
    pub started: Timestamp,
    /// Counts pieces from 1.
    pub ordinal: u32,
    /// A line feed ends this piece.
    pub last: bool,
}

/// A line or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub stream: Stream,
    pub at: Timestamp,
    pub text: &'a [u8],
    pub part: Option<Part>,
}

impl Line<'_> {
    /// A line feed followed the text.
    pub fn ends(&self) -> bool {
        self.part.is_none_or(|p| p.last)
    }
}

#[derive(Debug, Default)]
struct Pending {
    held: Vec<u8>,
    run: Option<(Timestamp, u32)>,
}

/// Splitter for both streams.
#[derive(Debug, Default)]
pub(super) struct Lines([Pending; 2]);

impl Lines {
    /// Takes `chunk` and gives each line it completes to `out`. All lines are given even when `out` fails;
    /// the first failure is returned.
    pub fn feed(
        &mut self,
        stream: Stream,
        mut chunk: &[u8],
        at: Timestamp,
        out: &mut dyn FnMut(&Line<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let pending = &mut self.0[stream as usize];
        let mut result = Ok(());
        while !chunk.is_empty() {
            let window = &chunk[..chunk.len().min(PART - pending.held.len())];
            let found = memchr::memchr(b'\n', window);
            let (text, rest) = match found {
                Some(end) => (&window[..end], &chunk[end + 1..]),
                None => (window, &chunk[window.len()..]),
            };
            chunk = rest;
            if found.is_none() && pending.held.len() + text.len() < PART {
                pending.held.extend_from_slice(text);
                break;
            }
            result = result.and(pending.give(stream, text, found.is_some(), at, out));
        }
        result
    }

    /// Gives what no line feed ended.
    pub fn finish(
        &mut self,
        at: Timestamp,
        out: &mut dyn FnMut(&Line<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut result = Ok(());
        for stream in [Stream::Stdout, Stream::Stderr] {
            let pending = &mut self.0[stream as usize];
            if !pending.held.is_empty() {
                result = result.and(pending.give(stream, &[], false, at, out));
            }
        }
        result
    }

    /// Gives back memory that is not in use.
    pub fn shrink(&mut self) {
        for pending in &mut self.0 {
            if pending.held.is_empty() {
                pending.held = Vec::new();
            }
        }
    }
}

impl Pending {
    fn give(
        &mut self,
        stream: Stream,
        text: &[u8],
        ends: bool,
        at: Timestamp,
        out: &mut dyn FnMut(&Line<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let part = match (self.run, ends) {
            (None, true) => None,
            (run, last) => {
                let (started, seen) = run.unwrap_or((at, 0));
                self.run = (!last).then_some((started, seen + 1));
                Some(Part { started, ordinal: seen + 1, last })
            }
        };
        let at = part.map_or(at, |p| p.started);
        if self.held.is_empty() {
            return out(&Line { stream, at, text, part });
        }
        self.held.extend_from_slice(text);
        let result = out(&Line { stream, at, text: &self.held, part });
        self.held.clear();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_unix(secs, 0).unwrap()
    }

    /// Stream, length, ordinal and last of a part, second.
    type Seen = (Stream, usize, Option<(u32, bool)>, i64);

    fn split(chunks: &[(Stream, &[u8])]) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        let mut out = |l: &Line<'_>| {
            seen.push((l.stream, l.text.len(), l.part.map(|p| (p.ordinal, p.last)), l.at.unix_secs()));
            Ok(())
        };
        for (i, (stream, chunk)) in chunks.iter().enumerate() {
            lines.feed(*stream, chunk, at(i64::try_from(i).unwrap()), &mut out).unwrap();
        }
        lines.finish(at(99), &mut out).unwrap();
        seen
    }

    #[test]
    fn lines_long_lines_and_unfinished_lines() {
        use Stream::{Stderr, Stdout};
        let long = vec![b'x'; 2 * PART + 5];
        let exact = [vec![b'x'; PART], b"\n".to_vec()].concat();
        assert_eq!(
            split(&[(Stdout, b"a\nbb\n\n")]),
            [(Stdout, 1, None, 0), (Stdout, 2, None, 0), (Stdout, 0, None, 0)]
        );
        assert_eq!(
            split(&[(Stdout, b"a"), (Stderr, b"e\n"), (Stdout, b"b\n")]),
            [(Stderr, 1, None, 1), (Stdout, 2, None, 2)]
        );
        assert_eq!(
            split(&[(Stdout, &long), (Stdout, b"y\nz\n")]),
            [
                (Stdout, PART, Some((1, false)), 0),
                (Stdout, PART, Some((2, false)), 0),
                (Stdout, 6, Some((3, true)), 0),
                (Stdout, 1, None, 1)
            ]
        );
        assert_eq!(
            split(&[(Stdout, &exact)]),
            [(Stdout, PART, Some((1, false)), 0), (Stdout, 0, Some((2, true)), 0)]
        );
        assert_eq!(split(&[(Stdout, b"end")]), [(Stdout, 3, Some((1, false)), 99)]);
    }
}
