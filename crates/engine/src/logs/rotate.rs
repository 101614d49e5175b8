//! An append-only file that is set aside when it is full.
//!
//! `NAME` is written; `NAME.1` is the newest one set aside, `NAME.2` the one before, and so on up to
//! `max_files - 1`. With compression, `NAME.K` is replaced by `NAME.K.gz` a little later, by a short-lived
//! child process, so that writing goes on meanwhile.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{compress::Compressor, options::FileOptions};

/// Bytes gathered before they are handed to the kernel.
const GATHER: usize = 64 * 1024;

/// A file of whole entries with rotation.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    /// Bytes in the current file; all of them whole entries.
    written: u64,
    /// Whole entries not yet handed over.
    gathered: Vec<u8>,
    /// What each new file begins with.
    header: Vec<u8>,
    options: FileOptions,
    compressor: Compressor,
}

/// `NAME.K`, or `NAME.K.gz`.
pub(super) fn numbered(path: &Path, number: u32, compressed: bool) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    if compressed {
        name.push(".gz");
    }
    PathBuf::from(name)
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(libc::O_NOFOLLOW).open(path)
}

impl RotatingFile {
    /// Opens or creates the file. `repair` is given an existing non-empty file and returns how many of its
    /// bytes are whole entries, and text to append to it before anything else.
    pub fn open(
        path: &Path,
        options: FileOptions,
        header: Vec<u8>,
        repair: impl FnOnce(&Path) -> io::Result<(u64, &'static [u8])>,
    ) -> io::Result<Self> {
        let mut file = open_append(path)?;
        let mut written = file.metadata()?.len();
        if written == 0 {
            file.write_all(&header)?;
            written = header.len() as u64;
        } else {
            let (whole, mend) = repair(path)?;
            if whole < written {
                file.set_len(whole)?;
            }
            file.write_all(mend)?;
            written = whole + mend.len() as u64;
        }
        let compressor = Compressor::new(path);
        Ok(Self { path: path.to_owned(), file, written, gathered: Vec::new(), header, options, compressor })
    }

    /// Where the next entry is to be appended. Call [`Self::entry_done`] behind each.
    pub fn gather(&mut self) -> &mut Vec<u8> {
        &mut self.gathered
    }

    /// An entry is complete: hands over and rotates when it is time.
    pub fn entry_done(&mut self) -> io::Result<()> {
        let full = self.options.max_size.is_some_and(|max| self.written + self.gathered.len() as u64 >= max);
        if full || self.gathered.len() >= GATHER {
            self.hand_over()?;
        }
        if full { self.rotate() } else { Ok(()) }
    }

    /// Hands everything to the kernel, looks after compression, gives back memory.
    pub fn flush(&mut self) -> io::Result<()> {
        let result = self.hand_over();
        if self.gathered.capacity() > GATHER / 8 {
            self.gathered = Vec::new();
        }
        self.compress();
        result
    }

    /// Flushes; what is to be compressed is left to a child.
    pub fn close(&mut self) -> io::Result<()> {
        let result = self.hand_over();
        self.compressor.poll(&self.path);
        if self.options.compress {
            self.compressor.leave(&self.path, self.options.max_files.saturating_sub(1));
        } else {
            self.compressor.abandon();
        }
        result
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let result = self.file.write_all(&self.gathered);
        match &result {
            Ok(()) => self.written += self.gathered.len() as u64,
            // A full disk leaves half an entry behind: take it away, so that the file stays readable.
            Err(_) => self.file.set_len(self.written).unwrap_or_default(),
        }
        self.gathered.clear();
        result
    }

    fn rotate(&mut self) -> io::Result<()> {
        let keep = self.options.max_files.saturating_sub(1);
        if keep == 0 {
            remove(&self.path)?;
        } else {
            for compressed in [false, true] {
                remove(&numbered(&self.path, keep, compressed))?;
                for k in (1..keep).rev() {
                    rename(&numbered(&self.path, k, compressed), &numbered(&self.path, k + 1, compressed))?;
                }
            }
            rename(&self.path, &numbered(&self.path, 1, false))?;
            self.compressor.shifted();
        }
        self.file = open_append(&self.path)?;
        self.file.write_all(&self.header)?;
        self.written = self.header.len() as u64;
        self.compress();
        Ok(())
    }

    /// Finishes a compression that is done, and begins the next where a file waits.
    fn compress(&mut self) {
        self.compressor.poll(&self.path);
        if self.options.compress && self.options.max_files > 1 && !self.compressor.busy() {
            self.compressor.begin(&self.path, self.options.max_files - 1);
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    ignore_missing(fs::remove_file(path))
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    ignore_missing(fs::rename(from, to))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
