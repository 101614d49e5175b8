//! Reads a log's files one after another; the blocking half of the reader.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;

use super::{
    decode::{Decoder, Format},
    files::{self, Segment},
    local,
    reader::LogQuery,
    tail,
    types::{LogEntry, Stream},
};

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

enum Bytestream {
    Plain(File),
    Packed(Box<MultiGzDecoder<File>>),
}

impl Read for Bytestream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buf),
            Self::Packed(packed) => packed.read(buf),
        }
    }
}

struct Input {
    segment: Segment,
    stream: Bytestream,
    /// Bytes still to be read; a log that is not followed is read up to its length at the beginning.
    left: u64,
}

/// What one step brought.
#[derive(Debug)]
pub(super) enum Step {
    /// Entries; there may be more.
    Entries(Vec<LogEntry>),
    /// Nothing for now: all that was written has been read.
    Idle,
    /// Nothing any more.
    End,
}

/// A position in a log.
pub(super) struct Cursor {
    path: PathBuf,
    format: Format,
    query: LogQuery,
    decoder: Decoder,
    waiting: VecDeque<Segment>,
    input: Option<Input>,
    /// The live file that was read to its end and then rotated away.
    seen: Option<Segment>,
    /// The beginning of an entry whose end was not yet read.
    rest: Bytes,
    ended: bool,
}

impl Cursor {
    pub fn open(path: PathBuf, format: Format, query: LogQuery) -> io::Result<Self> {
        let mut segments = files::open_all(&path)?;
        if let Some(since) = query.since {
            segments.retain(|s| !s.ends_before(since));
        }
        let place = match query.tail {
            Some(wanted) => Some(tail::find(&segments, format, wanted)?),
            None => None,
        };
        let mut waiting: VecDeque<_> = segments.into();
        if let Some(place) = place {
            // With `tail 0` the live file is kept, to be followed from its end.
            let past = place.file.min(waiting.len().saturating_sub(1));
            waiting.drain(..past);
        }
        let decoder = Decoder::new(format);
        let mut made = Self {
            path,
            format,
            query,
            decoder,
            waiting,
            input: None,
            seen: None,
            rest: Bytes::new(),
            ended: false,
        };
        if let Some(place) = place
            && let Some(first) = made.waiting.pop_front()
        {
            let only_new = made.query.tail == Some(0);
            let offset = if only_new { first.file.metadata()?.len() } else { place.offset };
            made.enter(first, offset)?;
        }
        Ok(made)
    }

    fn enter(&mut self, segment: Segment, offset: u64) -> io::Result<()> {
        let mut file = tail::rewound(&segment.file)?;
        self.decoder.begin_file();
        let mut left = u64::MAX;
        let stream = if segment.compressed {
            let mut packed = MultiGzDecoder::new(file);
            if offset > 0 {
                self.skip_packed(&mut packed, offset)?;
            }
            Bytestream::Packed(Box::new(packed))
        } else {
            if !self.query.follow {
                left = file.metadata()?.len().saturating_sub(offset);
            }
            if offset > 0 {
                self.take_header(&mut file)?;
                file.seek(SeekFrom::Start(offset))?;
            }
            Bytestream::Plain(file)
        };
        self.rest = Bytes::new();
        self.input = Some(Input { segment, stream, left });
        Ok(())
    }

    /// The header of a file that is entered in its middle.
    fn take_header(&mut self, reader: &mut dyn Read) -> io::Result<u64> {
        if self.format != Format::Local {
            return Ok(0);
        }
        let mut head = Vec::new();
        reader.take(12).read_to_end(&mut head)?;
        let size = head.get(8..12).and_then(|n| n.try_into().ok()).map_or(0, u32::from_le_bytes);
        reader.take(u64::from(size)).read_to_end(&mut head)?;
        if let Some((attrs, _)) = local::read_header(&head) {
            self.decoder.header(attrs);
        }
        Ok(head.len() as u64)
    }

    fn skip_packed(&mut self, packed: &mut MultiGzDecoder<File>, offset: u64) -> io::Result<()> {
        let taken = self.take_header(packed)?;
        io::copy(&mut packed.take(offset.saturating_sub(taken)), &mut io::sink())?;
        Ok(())
    }

    /// Reads on.
    pub fn step(&mut self) -> io::Result<Step> {
        loop {
            if self.ended {
                return Ok(Step::End);
            }
            if self.input.is_none() {
                match self.waiting.pop_front() {
                    Some(next) => self.enter(next, 0)?,
                    None if self.query.follow => {
                        // Not yet written, or between two files of a rotation.
                        self.waiting.extend(match &self.seen {
                            Some(seen) => files::open_after(&self.path, seen)?,
                            None => files::open_all(&self.path)?,
                        });
                        if self.waiting.is_empty() {
                            return Ok(Step::Idle);
                        }
                        continue;
                    }
                    None => return Ok(Step::End),
                }
            }
            let Some(input) = &mut self.input else { continue };
            let gone = input.segment.live && self.query.follow && files::rotated(&self.path, &input.segment);
            let mut chunk = Vec::with_capacity(self.rest.len() + CHUNK);
            chunk.extend_from_slice(&self.rest);
            let limit = input.left.min(CHUNK as u64);
            let read = read_some(&mut input.stream, limit, &mut chunk)?;
            if read > 0 {
                input.left = input.left.saturating_sub(read as u64);
                let entries = self.decode(Bytes::from(chunk));
                if !entries.is_empty() {
                    return Ok(Step::Entries(entries));
                }
                continue;
            }
            if input.segment.live && self.query.follow && !gone {
                return Ok(Step::Idle);
            }
            // The name changed before the last read found nothing: all of this file has been seen.
            let done = self.input.take();
            if gone && let Some(done) = done {
                self.waiting.extend(files::open_after(&self.path, &done.segment)?);
                self.seen = Some(done.segment);
            }
        }
    }

    fn decode(&mut self, chunk: Bytes) -> Vec<LogEntry> {
        let query = &self.query;
        let mut entries = Vec::with_capacity(chunk.len() / 128);
        let mut ended = false;
        let used = self.decoder.decode(&chunk, &mut |entry| {
            if query.until.is_some_and(|until| entry.time > until) {
                ended = true;
                return;
            }
            let stream = match entry.stream {
                Stream::Stdout => query.stdout,
                Stream::Stderr => query.stderr,
            };
            if stream && query.since.is_none_or(|since| entry.time >= since) {
                entries.push(entry);
            }
        });
        // Entries of two streams may be out of order by a little; a second is plenty.
        self.ended = ended;
        self.rest = chunk.slice(used..);
        entries
    }
}

fn read_some(stream: &mut Bytestream, limit: u64, out: &mut Vec<u8>) -> io::Result<usize> {
    match stream.take(limit).read_to_end(out) {
        Ok(n) => Ok(n),
        // A compressed file cut short by a crash: what could be read counts.
        Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput) => Ok(0),
        Err(e) => Err(e),
    }
}
