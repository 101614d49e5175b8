//! Opens the sink a configuration asks for.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use weft_base::Timestamp;
use weft_model::LogConfig;

use super::{
    attrs,
    journald::Journald,
    json::Encoder,
    lines::{Line, Lines},
    local,
    lossy::Lossy,
    options,
    options::LogOptionError,
    rotate::RotatingFile,
    syslog::Syslog,
    types::{LogFacts, LogSink, Stream},
};

/// What a driver does with a line.
pub(super) trait Driver: Send {
    fn line(&mut self, line: &Line<'_>) -> io::Result<()>;
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn close(&mut self) -> io::Result<()> {
        self.flush()
    }
}

/// Opens the sink of `config` for a container. Files go into `dir` (the container's directory), which must
/// exist. An error's text is what Docker says behind `failed to initialize logging driver: `.
pub fn open(config: &LogConfig, dir: &Path, facts: &LogFacts) -> io::Result<Box<dyn LogSink>> {
    options::validate(config).map_err(invalid)?;
    let opts = &config.options;
    let buffer = options::buffer(opts).map_err(invalid)?;
    Ok(match config.driver.as_str() {
        "none" => Box::new(Nothing),
        "json-file" => {
            let file_options = options::json_file(opts).map_err(invalid)?;
            let encoder = Encoder::new(attrs::json(opts, facts).map_err(invalid)?);
            let file = RotatingFile::open(&json_path(dir, &facts.id), file_options, Vec::new(), mend_json)?;
            boxed(JsonFile { encoder, file }, buffer)
        }
        "local" => {
            let file_options = options::local(opts).map_err(invalid)?;
            boxed(local_file(config, dir, facts, file_options)?, buffer)
        }
        "journald" => boxed(Copied::open(Journald::open(opts, facts)?, config, dir, facts)?, buffer),
        "syslog" => boxed(Copied::open(Syslog::open(opts, facts)?, config, dir, facts)?, buffer),
        other => return Err(invalid(LogOptionError::Driver(other.to_owned()))),
    })
}

/// Where the `json-file` driver writes: `DIR/ID-json.log`, the name that `docker inspect` shows as `LogPath`.
#[must_use]
pub fn json_path(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}-json.log"))
}

/// Where the `local` driver writes.
#[must_use]
pub fn local_path(dir: &Path) -> PathBuf {
    dir.join("container.log")
}

pub(super) fn invalid(error: LogOptionError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// Lines in front of any driver.
struct Sink<D> {
    lines: Lines,
    driver: D,
    latest: Option<Timestamp>,
}

/// A sink that waits for its driver, or drops what does not fit into `buffer` bytes.
fn boxed<D: Driver + 'static>(driver: D, buffer: Option<u64>) -> Box<dyn LogSink> {
    let lines = Lines::default();
    match buffer {
        None => Box::new(Sink { lines, driver, latest: None }),
        Some(max) => Box::new(Sink { lines, driver: Lossy::new(driver, max), latest: None }),
    }
}

fn local_file(
    config: &LogConfig,
    dir: &Path,
    facts: &LogFacts,
    file: options::FileOptions,
) -> io::Result<Local> {
    let header = local::header(&attrs::json(&config.options, facts).map_err(invalid)?);
    Ok(Local(RotatingFile::open(&local_path(dir), file, header, local::mend)?))
}

/// A driver that cannot be read back, with a copy in the `local` form beside it (Docker's dual logging).
struct Copied<D> {
    driver: D,
    copy: Option<Local>,
}

impl<D: Driver> Copied<D> {
    fn open(driver: D, config: &LogConfig, dir: &Path, facts: &LogFacts) -> io::Result<Self> {
        let file = options::cache(config).map_err(invalid)?;
        let copy = file.map(|file| local_file(config, dir, facts, file)).transpose()?;
        Ok(Self { driver, copy })
    }

    /// Both are always tried; the driver's failure is the one that is told.
    fn both(
        &mut self,
        driver: impl FnOnce(&mut D) -> io::Result<()>,
        copy: impl FnOnce(&mut Local) -> io::Result<()>,
    ) -> io::Result<()> {
        let (first, second) = (driver(&mut self.driver), self.copy.as_mut().map_or(Ok(()), copy));
        first.and(second)
    }
}

impl<D: Driver> Driver for Copied<D> {
    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        self.both(|d| d.line(line), |c| c.line(line))
    }
    fn flush(&mut self) -> io::Result<()> {
        self.both(D::flush, Driver::flush)
    }
    fn close(&mut self) -> io::Result<()> {
        self.both(D::close, Driver::close)
    }
}

impl<D: Driver> LogSink for Sink<D> {
    fn write(&mut self, stream: Stream, chunk: &[u8], at: Timestamp) -> io::Result<()> {
        self.latest = Some(at);
        self.lines.feed(stream, chunk, at, &mut |line| self.driver.line(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.shrink();
        self.driver.flush()
    }

    fn close(mut self: Box<Self>) -> io::Result<()> {
        let finished = match self.latest {
            Some(at) => self.lines.finish(at, &mut |line| self.driver.line(line)),
            None => Ok(()),
        };
        finished.and(self.driver.close())
    }
}

/// The `none` driver.
struct Nothing;

impl LogSink for Nothing {
    fn write(&mut self, _: Stream, _: &[u8], _: Timestamp) -> io::Result<()> {
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn close(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

struct JsonFile {
    encoder: Encoder,
    file: RotatingFile,
}

impl Driver for JsonFile {
    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        self.encoder.push(self.file.gather(), line);
        self.file.entry_done()
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
    fn close(&mut self) -> io::Result<()> {
        self.file.close()
    }
}

/// A torn last line is kept, and ended, so that the next entry begins on its own line.
fn mend_json(path: &Path) -> io::Result<(u64, &'static [u8])> {
    let mut file = File::open(path)?;
    let len = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok((len, if last == *b"\n" { b"" } else { b"\n" }))
}

struct Local(RotatingFile);

impl Driver for Local {
    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        local::push(self.0.gather(), line);
        self.0.entry_done()
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
    fn close(&mut self) -> io::Result<()> {
        self.0.close()
    }
}
