//! Docker's stream frames: one byte of channel, three of nothing, four of length (big endian), then the bytes.
//!
//! Pure: bytes in, chunks out; a frame may come in any number of pieces.

/// Where a chunk belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The state of the decoder.
#[derive(Debug, Default)]
pub struct Frames {
    header: Vec<u8>,
    left: usize,
    to_err: bool,
}

impl Frames {
    /// Decodes `bytes`, giving each chunk to `take`. Chunks are not joined: a long frame arrives in pieces.
    pub fn feed<E>(
        &mut self,
        mut bytes: &[u8],
        mut take: impl FnMut(Channel, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (now, rest) = bytes.split_at(self.left.min(bytes.len()));
                take(if self.to_err { Channel::Err } else { Channel::Out }, now)?;
                self.left -= now.len();
                bytes = rest;
                continue;
            }
            let (now, rest) = bytes.split_at((8 - self.header.len()).min(bytes.len()));
            self.header.extend_from_slice(now);
            bytes = rest;
            if let [channel, _, _, _, a, b, c, d] = self.header[..] {
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                // 2 is standard error; 3 is the daemon's own complaint.
                self.to_err = channel >= 2;
                self.header.clear();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_stream_frames() {
        let seed = b"\x01\0\0\0\0\0\0\x05hello\x02\0\0\0\0\0\0\x01!".to_vec();
        weft_testkit::fuzz::run("cli-frames", &[seed], &[], |bytes| {
            let (mut frames, mut taken) = (Frames::default(), 0);
            for piece in bytes.chunks(7) {
                let done: Result<(), ()> = frames.feed(piece, |_, chunk| {
                    taken += chunk.len();
                    Ok(())
                });
                done.unwrap();
            }
            assert!(taken <= bytes.len());
        });
    }

    #[test]
    fn frames_come_apart_however_they_are_cut() {
        let mut wire = Vec::new();
        for (channel, text) in [(1_u8, "hello "), (2, "oops"), (1, ""), (1, "world")] {
            wire.extend([channel, 0, 0, 0, 0, 0, 0, u8::try_from(text.len()).unwrap()]);
            wire.extend(text.as_bytes());
        }
        for cut in 1..wire.len() {
            let (mut frames, mut out, mut err) = (Frames::default(), Vec::new(), Vec::new());
            for piece in wire.chunks(cut) {
                let taken: Result<(), ()> = frames.feed(piece, |channel, bytes| {
                    if channel == Channel::Err {
                        err.extend(bytes)
                    } else {
                        out.extend(bytes)
                    }
                    Ok(())
                });
                taken.unwrap();
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"hello world"[..], &b"oops"[..]), "cut {cut}");
        }
    }
}
