//! What is wrong with text that is no JSON, in the words of Go's `encoding/json`.
//!
//! The parser that reads bodies says it in its own words; when it refuses, the text is walked once more as Go's scanner walks it,
//! up to the character where Go stops.

/// Deeper than any body goes; Go follows ten thousand levels.
const DEEPEST: usize = 10_000;

/// Go's error for the first value in `text`; `None` when Go would take it.
pub(crate) fn explain(text: &[u8]) -> Option<String> {
    let mut scan = Scan { text, at: 0 };
    scan.document().err()
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

/// What an open object or array waits for.
#[derive(Clone, Copy, PartialEq)]
enum Open {
    Object,
    Array,
}

type Step<T = ()> = Result<T, String>;

impl Scan<'_> {
    fn document(&mut self) -> Step {
        let mut open: Vec<Open> = Vec::new();
        loop {
            // A value begins here, unless it is the end of an empty object or array.
            match self.peek()? {
                b'{' => {
                    self.at += 1;
                    if self.peek()? != b'}' {
                        self.key()?;
                        open.push(Open::Object);
                        deep(&open)?;
                        continue;
                    }
                    self.at += 1;
                }
                b'[' => {
                    self.at += 1;
                    if self.peek()? != b']' {
                        open.push(Open::Array);
                        deep(&open)?;
                        continue;
                    }
                    self.at += 1;
                }
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                _ => return self.refuse("looking for beginning of value"),
            }
            // It ended: so may those around it.
            if !self.behind(&mut open)? {
                return Ok(());
            }
        }
    }

    /// Behind a value: `true` when another follows in what is open.
    fn behind(&mut self, open: &mut Vec<Open>) -> Step<bool> {
        while let Some(inner) = open.last() {
            match (inner, self.peek()?) {
                (Open::Object, b',') => {
                    self.at += 1;
                    self.key()?;
                    return Ok(true);
                }
                (Open::Array, b',') => {
                    self.at += 1;
                    return Ok(true);
                }
                (Open::Object, b'}') | (Open::Array, b']') => {
                    self.at += 1;
                    open.pop();
                }
                (Open::Object, _) => return self.refuse("after object key:value pair"),
                (Open::Array, _) => return self.refuse("after array element"),
            }
        }
        Ok(false)
    }

    fn key(&mut self) -> Step {
        if self.peek()? != b'"' {
            return self.refuse("looking for beginning of object key string");
        }
        self.string()?;
        if self.peek()? != b':' {
            return self.refuse("after object key");
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Step {
        self.at += 1;
        loop {
            match self.here()? {
                b'"' => break,
                b'\\' => {
                    self.at += 1;
                    match self.here()? {
                        b'u' => {
                            for _ in 0..4 {
                                self.at += 1;
                                if !self.here()?.is_ascii_hexdigit() {
                                    return self.refuse("in \\u hexadecimal character escape");
                                }
                            }
                        }
                        b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                        _ => return self.refuse("in string escape code"),
                    }
                }
                0..=0x1f => return self.refuse("in string literal"),
                _ => {}
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(())
    }

    fn number(&mut self) -> Step {
        if self.here()? == b'-' {
            self.at += 1;
            if !self.here()?.is_ascii_digit() {
                return self.refuse("in numeric literal");
            }
        }
        if self.here()? == b'0' {
            self.at += 1
        } else {
            self.digits()
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            if !self.here()?.is_ascii_digit() {
                return self.refuse("after decimal point in numeric literal");
            }
            self.digits();
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.here()?, b'+' | b'-') {
                self.at += 1;
            }
            if !self.here()?.is_ascii_digit() {
                return self.refuse("in exponent of numeric literal");
            }
            self.digits();
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str) -> Step {
        for wanted in word.bytes() {
            if self.here()? != wanted {
                return self.refuse(&format!("in literal {word} (expecting '{}')", char::from(wanted)));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Step<u8> {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.here()
    }

    fn here(&self) -> Step<u8> {
        self.text.get(self.at).copied().ok_or_else(|| "unexpected EOF".to_owned())
    }

    fn refuse<T>(&self, context: &str) -> Step<T> {
        let shown = match self.here()? {
            b'\'' => r"'\''".to_owned(),
            b'"' => "'\"'".to_owned(),
            // Go takes the byte for a character of Latin-1.
            byte @ (0x20..=0x7e | 0xa1..) if byte != 0xad => {
                format!("'{}'", if byte == b'\\' { "\\\\".into() } else { char::from(byte).to_string() })
            }
            b'\n' => r"'\n'".to_owned(),
            b'\r' => r"'\r'".to_owned(),
            b'\t' => r"'\t'".to_owned(),
            byte @ 0x80.. => format!("'\\u{byte:04x}'"),
            byte => format!("'\\x{byte:02x}'"),
        };
        Err(format!("invalid character {shown} {context}"))
    }
}

fn deep(open: &[Open]) -> Step {
    if open.len() > DEEPEST { Err("exceeded max depth".into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::explain;

    #[test]
    fn go_says_what_is_wrong() {
        for (text, expected) in [
            ("nonsense", Some("invalid character 'o' in literal null (expecting 'u')")),
            ("xyz", Some("invalid character 'x' looking for beginning of value")),
            ("'a'", Some(r"invalid character '\'' looking for beginning of value")),
            ("{", Some("unexpected EOF")),
            (r#"{"a": }"#, Some("invalid character '}' looking for beginning of value")),
            (r#"{"a" 1}"#, Some("invalid character '1' after object key")),
            (r#"{"a":1 "b"}"#, Some("invalid character '\"' after object key:value pair")),
            (r#"{"a":1,}"#, Some("invalid character '}' looking for beginning of object key string")),
            ("{a:1}", Some("invalid character 'a' looking for beginning of object key string")),
            ("[1 2]", Some("invalid character '2' after array element")),
            ("[1,]", Some("invalid character ']' looking for beginning of value")),
            ("[01]", Some("invalid character '1' after array element")),
            ("[-x]", Some("invalid character 'x' in numeric literal")),
            ("[1.x]", Some("invalid character 'x' after decimal point in numeric literal")),
            ("[1ex]", Some("invalid character 'x' in exponent of numeric literal")),
            (r#"["\x"]"#, Some("invalid character 'x' in string escape code")),
            ("[\"\n\"]", Some(r"invalid character '\n' in string literal")),
            ("[\u{1}]", Some(r"invalid character '\x01' looking for beginning of value")),
            (r#" {"a": [1, {"b": null}], "c": "\u00e4\n"} "#, None),
            ("{} x", None),
        ] {
            assert_eq!(explain(text.as_bytes()).as_deref(), expected, "{text}");
        }
        assert_eq!(explain(&b"[".repeat(20_000)).as_deref(), Some("exceeded max depth"));
    }
}
