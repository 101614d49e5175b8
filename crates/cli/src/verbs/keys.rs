//! The keys that detach: `ctrl-p,ctrl-q`. Pure; a sequence that does not complete is passed on.

use crate::failure::usage;

/// Watches what is typed.
#[derive(Debug)]
pub struct Keys {
    keys: Vec<u8>,
    seen: usize,
}

impl Keys {
    /// Reads `a,ctrl-x,ctrl-[`; nothing given is Docker's `ctrl-p,ctrl-q`.
    pub fn parse(text: Option<&str>) -> anyhow::Result<Self> {
        let keys = text.unwrap_or("ctrl-p,ctrl-q").split(',').map(key).collect::<anyhow::Result<_>>()?;
        Ok(Self { keys, seen: 0 })
    }

    /// Puts what is to be passed on into `out`; `true` when the sequence is complete.
    pub fn feed(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for byte in typed {
            if *byte == self.keys[self.seen] {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return true;
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.seen]);
            self.seen = 0;
            if *byte == self.keys[0] && self.keys.len() > 1 {
                self.seen = 1;
            } else {
                out.push(*byte);
            }
        }
        false
    }
}

fn key(text: &str) -> anyhow::Result<u8> {
    let wrong =
        || usage(format!("unknown detach key {text:?}: a character or ctrl-<a-z@[\\]^_> is expected"));
    match (text.strip_prefix("ctrl-"), text.as_bytes()) {
        (Some(letter), _) => match letter.as_bytes() {
            [c @ b'a'..=b'z'] => Ok(c - b'a' + 1),
            [c @ (b'@' | b'['..=b'_')] => Ok(c - b'@'),
            _ => Err(wrong()),
        },
        (None, [c]) if c.is_ascii() => Ok(*c),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_recognised_across_pieces() {
        for (pieces, passed, detached) in [
            (vec![&b"ab"[..]], &b"ab"[..], false),
            (vec![b"a\x10\x11b"], b"a", true),
            (vec![b"\x10", b"\x11"], b"", true),
            (vec![b"\x10x"], b"\x10x", false),
            (vec![b"\x10\x10\x11"], b"\x10", true),
        ] {
            let mut keys = Keys::parse(None).unwrap();
            let mut out = Vec::new();
            let end = pieces.iter().any(|p| keys.feed(p, &mut out));
            assert_eq!((out.as_slice(), end), (passed, detached), "{pieces:?}");
        }
    }

    #[test]
    fn notations() {
        let mut out = Vec::new();
        assert!(Keys::parse(Some("a")).unwrap().feed(b"a", &mut out));
        assert!(Keys::parse(Some("ctrl-],x")).unwrap().feed(b"\x1dx", &mut out));
        for bad in ["", "ctrl-", "ctrl-A", "ab", "a,,b"] {
            assert!(Keys::parse(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
