//! The `json-file` form of an entry, byte for byte as Docker writes it:
//! `{"log":"text\n","stream":"stdout"[,"attrs":{…}],"time":"…"}` and a line feed.
//!
//! `<`, `>`, `&` are escaped as Go's encoder does, invalid UTF-8 becomes `\ufffd`.

use weft_base::Timestamp;

use super::{lines::Line, time, types::Stream};

/// Turns lines into JSON; remembers the end of the last entry, because many lines share stream and time.
#[derive(Debug)]
pub(super) struct Encoder {
    attrs: String,
    end: Vec<u8>,
    end_of: Option<(Stream, Timestamp)>,
}

impl Encoder {
    /// `attrs` is a JSON object, or empty when there are none.
    pub fn new(attrs: String) -> Self {
        Self { attrs, end: Vec::new(), end_of: None }
    }

    /// Appends one entry.
    pub fn push(&mut self, out: &mut Vec<u8>, line: &Line<'_>) {
        if self.end_of != Some((line.stream, line.at)) {
            self.prepare_end(line.stream, line.at);
        }
        out.extend_from_slice(b"{\"log\":\"");
        push_escaped(out, line.text);
        if line.ends() {
            out.extend_from_slice(b"\\n");
        }
        out.extend_from_slice(&self.end);
    }

    fn prepare_end(&mut self, stream: Stream, at: Timestamp) {
        self.end.clear();
        self.end.extend_from_slice(b"\",\"stream\":\"");
        self.end.extend_from_slice(stream.as_str().as_bytes());
        self.end.extend_from_slice(b"\",");
        if !self.attrs.is_empty() {
            self.end.extend_from_slice(b"\"attrs\":");
            self.end.extend_from_slice(self.attrs.as_bytes());
            self.end.push(b',');
        }
        self.end.extend_from_slice(b"\"time\":\"");
        time::push_trimmed(&mut self.end, at);
        self.end.extend_from_slice(b"\"}\n");
        self.end_of = Some((stream, at));
    }
}

/// Bytes that stand for themselves inside a JSON string as Go writes it.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0x20u8;
    while b < 0x80 {
        table[b as usize] = !matches!(b, b'"' | b'\\' | b'<' | b'>' | b'&');
        b += 1;
    }
    table
};

/// Appends `text` as the inside of a JSON string.
pub(super) fn push_escaped(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        let plain = text.iter().position(|b| !PLAIN[usize::from(*b)]).unwrap_or(text.len());
        out.extend_from_slice(&text[..plain]);
        text = &text[plain..];
        let Some(&first) = text.first() else { return };
        if first < 0x80 {
            push_escape(out, first);
            text = &text[1..];
        } else {
            text = &text[push_wide(out, text)..];
        }
    }
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        _ => out.extend_from_slice(&[
            b'\\',
            b'u',
            b'0',
            b'0',
            HEX[usize::from(byte >> 4)],
            HEX[usize::from(byte & 15)],
        ]),
    }
}

/// Writes the run of bytes above ASCII that `text` begins with; says how many bytes were used.
fn push_wide(out: &mut Vec<u8>, text: &[u8]) -> usize {
    let run = text.iter().position(u8::is_ascii).unwrap_or(text.len());
    for chunk in text[..run].utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\u{2028}' => out.extend_from_slice(b"\\u2028"),
                '\u{2029}' => out.extend_from_slice(b"\\u2029"),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        // Go replaces each offending byte, not each offending sequence.
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::lines::Part;

    #[test]
    fn an_entry_is_written_as_docker_writes_it() {
        let at = Timestamp::from_unix(1_700_000_000, 120_000_000).unwrap();
        let line = |text, part| Line { stream: Stream::Stderr, at, text, part };
        let part = Part { started: at, ordinal: 1, last: false };
        for (attrs, line, expected) in [
            (
                "",
                line(&b"hi"[..], None),
                r#"{"log":"hi\n","stream":"stderr","time":"2023-11-14T22:13:20.12Z"}"#,
            ),
            (
                r#"{"a":"b"}"#,
                line(&b"hi"[..], Some(part)),
                r#"{"log":"hi","stream":"stderr","attrs":{"a":"b"},"time":"2023-11-14T22:13:20.12Z"}"#,
            ),
        ] {
            let mut out = Vec::new();
            Encoder::new(attrs.to_owned()).push(&mut out, &line);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\n"));
        }
    }

    #[test]
    fn escapes() {
        for (text, expected) in [
            (&b"plain text"[..], "plain text"),
            (b"a\"b\\c", r#"a\"b\\c"#),
            (b"<&>\t\x1b\r", r"\u003c\u0026\u003e\u0009\u001b\r"),
            ("gr\u{fc}n \u{2028}\u{1f600}".as_bytes(), "gr\u{fc}n \\u2028\u{1f600}"),
            (b"\xff\xfeok\xe2\x82", r"\ufffd\ufffdok\ufffd\ufffd"),
        ] {
            let mut out = Vec::new();
            push_escaped(&mut out, text);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_json_reader_gets_the_text_back(text in "(?s).*") {
            let mut out = vec![b'"'];
            push_escaped(&mut out, text.as_bytes());
            out.push(b'"');
            proptest::prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn any_bytes_make_valid_json(bytes: Vec<u8>) {
            let mut out = vec![b'"'];
            push_escaped(&mut out, &bytes);
            out.push(b'"');
            let back = serde_json::from_slice::<String>(&out).unwrap();
            proptest::prop_assert_eq!(back.replace('\u{fffd}', "").is_empty(),
                String::from_utf8_lossy(&bytes).replace('\u{fffd}', "").is_empty());
        }
    }
}
