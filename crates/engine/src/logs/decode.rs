//! From bytes of a file to entries.
//!
//! The common shape of a `json-file` line is taken apart by position: it begins with `{"log":"`, ends with
//! `","stream":"…","time":"…"}`, and what lies between needs work only where a backslash occurs. Any other
//! shape goes through a JSON parser. Lines that are neither (torn by a crash) are passed over.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::Deserialize;

use super::{
    local,
    time::TimeParser,
    types::{LogEntry, Stream},
};

type Attrs = Option<Arc<BTreeMap<String, String>>>;

/// The form of a log's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Local,
}

/// Decodes pieces of one log in order.
#[derive(Debug)]
pub(super) struct Decoder {
    format: Format,
    times: TimeParser,
    /// `,"attrs":{…}` of the last line that had some, and what it meant.
    raw_attrs: Vec<u8>,
    attrs: Attrs,
    /// The header of a `local` file is still to come.
    at_start: bool,
}

impl Decoder {
    pub fn new(format: Format) -> Self {
        Self { format, times: TimeParser::default(), raw_attrs: Vec::new(), attrs: None, at_start: true }
    }

    /// A new file begins.
    pub fn begin_file(&mut self) {
        self.at_start = true;
    }

    /// Takes the header of a `local` file that is entered in its middle.
    pub fn header(&mut self, attrs: &[u8]) {
        self.attrs = serde_json::from_slice(attrs).ok().map(Arc::new);
        self.at_start = false;
    }

    /// Gives the entries of `chunk` to `out`; returns how many bytes were used. The rest is not whole.
    pub fn decode(&mut self, chunk: &Bytes, out: &mut dyn FnMut(LogEntry)) -> usize {
        match self.format {
            Format::Json => self.decode_json(chunk, out),
            Format::Local => self.decode_local(chunk, out),
        }
    }

    fn decode_json(&mut self, chunk: &Bytes, out: &mut dyn FnMut(LogEntry)) -> usize {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            if let Some(entry) = self.line(chunk, start, end) {
                out(entry);
            }
            start = end + 1;
        }
        start
    }

    fn line(&mut self, chunk: &Bytes, start: usize, end: usize) -> Option<LogEntry> {
        let line = &chunk[start..end];
        match self.fast(line) {
            Some(Shape { text, stream, time, partial, attrs }) => {
                let line = if memchr::memchr(b'\\', text).is_some() {
                    Bytes::from(unescape(text)?)
                } else {
                    chunk.slice_ref(text)
                };
                Some(LogEntry { stream, time, line, partial, attrs })
            }
            None => self.slow(line),
        }
    }

    fn fast<'a>(&mut self, line: &'a [u8]) -> Option<Shape<'a>> {
        let line = line.strip_prefix(b"{\"log\":\"")?.strip_suffix(b"\"}")?;
        let quote = memchr::memrchr(b'"', line)?;
        let time = self.times.parse(&line[quote + 1..])?;
        let mut head = line[..=quote].strip_suffix(b",\"time\":\"")?;
        let mut attrs = None;
        if head.ends_with(b"}") {
            if self.raw_attrs.is_empty() {
                return None;
            }
            head = head.strip_suffix(self.raw_attrs.as_slice())?;
            attrs.clone_from(&self.attrs);
        }
        let (stream, text) = match head.strip_suffix(b"\",\"stream\":\"stdout\"") {
            Some(text) => (Stream::Stdout, text),
            None => (Stream::Stderr, head.strip_suffix(b"\",\"stream\":\"stderr\"")?),
        };
        let (text, partial) = match text.strip_suffix(b"n") {
            Some(body) if trailing_backslashes(body) % 2 == 1 => (&body[..body.len() - 1], false),
            _ => (text, true),
        };
        Some(Shape { text, stream, time, partial, attrs })
    }

    fn slow(&mut self, line: &[u8]) -> Option<LogEntry> {
        #[derive(Deserialize)]
        struct Line {
            #[serde(default)]
            log: String,
            stream: Stream,
            time: String,
            #[serde(default)]
            attrs: Option<BTreeMap<String, String>>,
        }
        let mut parsed: Line = serde_json::from_slice(line).ok()?;
        let attrs = parsed.attrs.take().map(Arc::new);
        if attrs.is_some() {
            self.remember(line, &attrs);
        }
        let partial = !parsed.log.ends_with('\n');
        if !partial {
            parsed.log.pop();
        }
        let time = self.times.parse(parsed.time.as_bytes())?;
        Some(LogEntry { stream: parsed.stream, time, line: Bytes::from(parsed.log), partial, attrs })
    }

    /// Neighbours have the same attributes: keep their text, so that the next line takes the short way.
    fn remember(&mut self, line: &[u8], attrs: &Attrs) {
        const MARK: &[u8] = b",\"attrs\":{";
        let behind = [&b"\"stdout\""[..], b"\"stderr\""];
        let place = (0..line.len())
            .rev()
            .find(|i| line[*i..].starts_with(MARK) && behind.iter().any(|b| line[..*i].ends_with(b)));
        let end = memchr::memmem::rfind(line, b",\"time\":\"");
        if let (Some(place), Some(end)) = (place, end)
            && place < end
        {
            self.raw_attrs = line[place..end].to_vec();
            self.attrs.clone_from(attrs);
        }
    }

    fn decode_local(&mut self, chunk: &Bytes, out: &mut dyn FnMut(LogEntry)) -> usize {
        let mut used = 0;
        if self.at_start {
            let Some((attrs, size)) = local::read_header(chunk) else { return 0 };
            self.header(attrs);
            used = size;
        }
        // Damage in the middle cannot be passed over (records are found by their lengths): the file ends there.
        while let Ok(Some(record)) = local::read(&chunk[used..]) {
            used += record.size;
            out(LogEntry {
                stream: record.stream,
                time: record.time,
                line: chunk.slice_ref(record.text),
                partial: record.partial,
                attrs: self.attrs.clone(),
            });
        }
        used
    }
}

struct Shape<'a> {
    text: &'a [u8],
    stream: Stream,
    time: weft_base::Timestamp,
    partial: bool,
    attrs: Attrs,
}

fn trailing_backslashes(text: &[u8]) -> usize {
    text.iter().rev().take_while(|b| **b == b'\\').count()
}

/// The inside of a JSON string as bytes.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let (&kind, behind) = rest.get(at + 1..)?.split_first()?;
        rest = behind;
        match kind {
            b'"' | b'\\' | b'/' => out.push(kind),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => rest = unescape_unicode(rest, &mut out)?,
            _ => return None,
        }
    }
    out.extend_from_slice(rest);
    Some(out)
}

fn unescape_unicode<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let hex = |t: &[u8]| u32::from_str_radix(std::str::from_utf8(t).ok()?, 16).ok();
    let (first, mut rest) = text.split_at_checked(4)?;
    let mut code = hex(first)?;
    if (0xd800..0xdc00).contains(&code)
        && let Some(low) = rest.strip_prefix(b"\\u").and_then(|t| hex(t.get(..4)?))
        && (0xdc00..0xe000).contains(&low)
    {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        rest = &rest[6..];
    }
    let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{json::Encoder, lines::Line};
    use weft_base::Timestamp;

    fn decode(text: &str) -> Vec<String> {
        let mut out = Vec::new();
        let chunk = Bytes::from(text.to_owned());
        Decoder::new(Format::Json).decode(&chunk, &mut |e| {
            let attrs = e.attrs.map(|a| format!(" {a:?}")).unwrap_or_default();
            out.push(format!("{} {:?} {}{attrs}", e.stream.as_str(), e.line, e.partial));
        });
        out
    }

    #[test]
    fn shapes() {
        let t = "\"time\":\"2023-11-14T22:13:20.12Z\"";
        for (text, expected) in [
            (format!("{{\"log\":\"hi\\n\",\"stream\":\"stdout\",{t}}}\n"), vec!["stdout b\"hi\" false"]),
            (format!("{{\"log\":\"hi\",\"stream\":\"stderr\",{t}}}\n"), vec!["stderr b\"hi\" true"]),
            // A backslash and an n, not a line feed.
            (
                format!("{{\"log\":\"hi\\\\n\",\"stream\":\"stdout\",{t}}}\n"),
                vec!["stdout b\"hi\\\\n\" true"],
            ),
            (
                format!("{{\"log\":\"a\\u003c\\\"\\ud83d\\ude00\\n\",\"stream\":\"stdout\",{t}}}\n"),
                vec!["stdout b\"a<\\\"\\xf0\\x9f\\x98\\x80\" false"],
            ),
            // Another order of fields, by another writer.
            (format!("{{\"stream\":\"stdout\",{t},\"log\":\"x\\n\"}}\n"), vec!["stdout b\"x\" false"]),
            (
                format!("{{\"log\":\"x\\n\",\"stream\":\"stdout\",\"attrs\":{{\"a\":\"b\"}},{t}}}\n")
                    .repeat(2),
                vec!["stdout b\"x\" false {\"a\": \"b\"}"; 2],
            ),
            // Torn, then mended.
            (
                format!("{{\"log\":\"torn\n{{\"log\":\"y\\n\",\"stream\":\"stdout\",{t}}}\n"),
                vec!["stdout b\"y\" false"],
            ),
            (format!("{{\"log\":\"not whole\\n\",\"stream\":\"stdout\",{t}}}"), vec![]),
        ] {
            assert_eq!(decode(&text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in "[^\n]*", stderr: bool, whole: bool, attrs: bool) {
            let at = Timestamp::from_unix(1_700_000_000, 5).unwrap();
            let stream = if stderr { Stream::Stderr } else { Stream::Stdout };
            let part = (!whole).then_some(crate::logs::lines::Part { started: at, ordinal: 1, last: false });
            let attrs = if attrs { r#"{"k":"},\"time\":\""}"# } else { "" };
            let mut bytes = Vec::new();
            let mut encoder = Encoder::new(attrs.to_owned());
            for _ in 0..2 {
                encoder.push(&mut bytes, &Line { stream, at, text: text.as_bytes(), part });
            }
            let chunk = Bytes::from(bytes);
            let mut seen = Vec::new();
            let used = Decoder::new(Format::Json).decode(&chunk, &mut |e| seen.push(e));
            proptest::prop_assert_eq!(used, chunk.len());
            proptest::prop_assert_eq!(seen.len(), 2);
            for e in seen {
                proptest::prop_assert_eq!(&e.line[..], text.as_bytes());
                proptest::prop_assert_eq!((e.stream, e.time, e.partial), (stream, at, !whole));
                proptest::prop_assert_eq!(e.attrs.is_some(), !attrs.is_empty());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            for format in [Format::Json, Format::Local] {
                let chunk = Bytes::from(bytes.clone());
                let used = Decoder::new(format).decode(&chunk, &mut |_| {});
                proptest::prop_assert!(used <= chunk.len());
            }
        }
    }
}
