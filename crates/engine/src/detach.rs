//! Detach keys: the key sequence by which a client leaves a terminal without ending the process (moby
//! `term.EscapeProxy`, `term.ToBytes`).

/// `ctrl-p,ctrl-q`.
pub const DEFAULT: [u8; 2] = [16, 17];

/// The text names no keys.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("Unknown character: '{0}'")]
pub struct KeysError(pub String);

/// `a`, `ctrl-a` … `ctrl-z`, `ctrl-@`, `ctrl-[`, `ctrl-\`, `ctrl-]`, `ctrl-^`, `ctrl-_`, `DEL`, separated by commas.
///
/// # Errors
/// Anything else.
pub fn parse(text: &str) -> Result<Vec<u8>, KeysError> {
    let one = |word: &str| {
        let bytes = word.as_bytes();
        let control = word.strip_prefix("ctrl-").map(str::as_bytes);
        match (control, bytes) {
            (Some([c @ b'a'..=b'z']), _) => Some(c - b'a' + 1),
            (Some([b'@']), _) => Some(0),
            (Some([c @ b'['..=b'_']), _) => Some(c - b'[' + 27),
            (None, [c]) => Some(*c),
            _ if word == "DEL" => Some(127),
            _ => None,
        }
        .ok_or_else(|| KeysError(word.to_owned()))
    };
    text.split(',').map(one).collect()
}

/// Looks for the keys in input, and holds back what may be their beginning.
#[derive(Debug)]
pub struct Filter {
    keys: Vec<u8>,
    held: usize,
}

impl Filter {
    /// A filter for `keys`; none lets everything pass.
    #[must_use]
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, held: 0 }
    }

    /// Passes `input` on into `out`; `true` when the keys were seen (what follows them is dropped).
    pub fn pass(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            out.extend_from_slice(input);
            return false;
        }
        for byte in input {
            if self.keys[self.held] == *byte {
                self.held += 1;
                if self.held == self.keys.len() {
                    return true;
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.held]);
            self.held = 0;
            if self.keys[0] == *byte {
                self.held = 1;
                if self.keys.len() == 1 {
                    return true;
                }
            } else {
                out.push(*byte);
            }
        }
        false
    }

    /// What is held back at the end of input.
    pub fn rest(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.keys[..self.held]);
        self.held = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        assert_eq!(parse("ctrl-p,ctrl-q").unwrap(), DEFAULT);
        assert_eq!(parse("a,ctrl-@,ctrl-\\,ctrl-_,DEL").unwrap(), [b'a', 0, 28, 31, 127]);
        for bad in ["", "ctrl-", "ctrl-A", "ab", "a,,b"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_sequence_is_found_across_reads_and_the_rest_passes() {
        let run = |chunks: &[&[u8]]| {
            let (mut filter, mut out) = (Filter::new(DEFAULT.to_vec()), Vec::new());
            let found = chunks.iter().any(|c| filter.pass(c, &mut out));
            if !found {
                filter.rest(&mut out);
            }
            (found, out)
        };
        assert_eq!(run(&[b"ls\n"]), (false, b"ls\n".to_vec()));
        assert_eq!(run(&[b"x\x10", b"\x11y"]), (true, b"x".to_vec()));
        assert_eq!(run(&[b"\x10\x10\x11"]), (true, b"\x10".to_vec()));
        assert_eq!(run(&[b"\x10z\x10"]), (false, b"\x10z\x10".to_vec()));
    }
}
