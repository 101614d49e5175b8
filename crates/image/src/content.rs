//! The content store: immutable blobs under `ROOT/content/blobs/sha256/<hex>`.
//!
//! A blob is written to `content/ingest/`, hashed on the way, synced, and renamed to its digest: a name that exists
//! is whole. Ingests begun with a key survive a broken transfer and a restart, and continue where they stopped (a
//! registry client asks for the rest by a range request); those without one are swept at start.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};
use weft_model::Digest;

use crate::{
    error::{ImageError, Result},
    pins::{Pin, Pins, Watch},
};

/// Blobs by digest; cheap to clone.
#[derive(Clone)]
pub struct ContentStore(Arc<Inner>);

struct Inner {
    blobs: PathBuf,
    ingest: PathBuf,
    dirty: PathBuf,
    boot: String,
    pins: Pins,
}

/// Larger blobs are synced behind the scenes, marked in `content/dirty` until they are.
const SYNC_AT_ONCE: u64 = 1 << 20;

/// Pause before content is synced behind the scenes: write-back at once would make the store's own sync, and with it the answer to
/// whoever loads an image, wait for all of it.
pub(crate) const SYNC_DELAY: std::time::Duration = std::time::Duration::from_secs(2);

/// What a removal gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Blobs or layers removed.
    pub count: u64,
    /// Bytes given back to the disk.
    pub bytes: u64,
}

impl std::ops::AddAssign for Freed {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

impl ContentStore {
    /// Opens (makes) the store under `root`; sweeps ingests that nobody can continue.
    pub fn open(root: &Path) -> Result<Self> {
        let blobs = root.join("content/blobs/sha256");
        let ingest = root.join("content/ingest");
        let dirty = root.join("content/dirty");
        for dir in [&blobs, &ingest, &dirty] {
            fs::create_dir_all(dir).map_err(ImageError::io("making", dir))?;
        }
        for entry in fs::read_dir(&ingest).map_err(ImageError::io("reading", &ingest))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("tmp-") {
                let _gone = fs::remove_file(entry.path());
            }
        }
        let store = Self(Arc::new(Inner { blobs, ingest, dirty, boot: boot_id()?, pins: Pins::default() }));
        store.check_dirty()?;
        Ok(store)
    }

    /// Blobs whose data may not have reached the disk: in the same boot they only need their sync; after a power
    /// failure they are hashed, and dropped when they do not match.
    fn check_dirty(&self) -> Result<()> {
        let dir = &self.0.dirty;
        for entry in fs::read_dir(dir).map_err(ImageError::io("reading", dir))?.flatten() {
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy()).parse::<Digest>();
            let (Ok(digest), Ok(boot)) = (digest, fs::read_to_string(entry.path())) else {
                let _gone = fs::remove_file(entry.path());
                continue;
            };
            if let Ok(mut file) = File::open(self.path(&digest)) {
                let mut hash = Sha256::new();
                let same_boot = boot == self.0.boot;
                let whole = same_boot || {
                    io::copy(&mut file, &mut hash).map_err(ImageError::io("reading", self.path(&digest)))?;
                    <[u8; 32]>::from(hash.finalize()) == *digest.as_bytes()
                };
                if whole {
                    self.sync_later(&digest, &file)?;
                    continue;
                }
                tracing::warn!(%digest, "blob did not survive a power failure, dropped");
                fs::remove_file(self.path(&digest))
                    .map_err(ImageError::io("removing", self.path(&digest)))?;
            }
            fs::remove_file(entry.path()).map_err(ImageError::io("removing", entry.path()))?;
        }
        Ok(())
    }

    /// Marks the blob as not yet on disk, and syncs it on a thread of its own.
    fn sync_later(&self, digest: &Digest, file: &File) -> Result<()> {
        let marker = self.0.dirty.join(digest.hex());
        fs::write(&marker, &self.0.boot).map_err(ImageError::io("writing", &marker))?;
        let file = file.try_clone().map_err(ImageError::io("sharing", self.path(digest)))?;
        let store = self.clone();
        let work = move || {
            std::thread::sleep(SYNC_DELAY);
            match file.sync_data().map_err(ImageError::io("syncing", &marker)) {
                Ok(()) if sync_dir(&store.0.blobs).is_ok() => drop(fs::remove_file(&marker)),
                other => tracing::warn!(?other, "blob is not synced"),
            }
        };
        std::thread::Builder::new()
            .name("blob-sync".into())
            .spawn(work)
            .map(drop)
            .map_err(|e| ImageError::Internal(format!("starting a thread: {e}")))
    }

    /// Where a blob lies (whether or not it exists).
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.0.blobs.join(digest.hex())
    }

    /// Begins a new blob. Dropped uncommitted, it leaves nothing.
    pub fn begin(&self) -> Result<Ingest> {
        let path = self.0.ingest.join(format!("tmp-{}", random_name()?));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(ImageError::io("creating", &path))?;
        Ok(Ingest { store: self.clone(), file, path, hash: Sha256::new(), written: 0, resumable: false })
    }

    /// Begins or continues the ingest of `digest`; what was received before is hashed again, and
    /// [`Ingest::written`] says where to go on. Dropped uncommitted, it stays for the next time. Fails with
    /// `Invalid` while another task writes the same one.
    pub fn resume(&self, digest: &Digest) -> Result<Ingest> {
        let path = self.0.ingest.join(format!("part-{}", digest.hex()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(ImageError::io("creating", &path))?;
        file.try_lock().map_err(|_| ImageError::Invalid(format!("{digest} is being received already")))?;
        let mut hash = Sha256::new();
        let written = io::copy(&mut file, &mut hash).map_err(ImageError::io("reading", &path))?;
        Ok(Ingest { store: self.clone(), file, path, hash, written, resumable: true })
    }

    /// Stores a small blob.
    pub fn put(&self, bytes: &[u8]) -> Result<Pin> {
        let digest = Digest::from_sha256(Sha256::digest(bytes).into());
        let pin = self.pin(digest);
        if self.contains(&digest) {
            return Ok(pin);
        }
        let mut ingest = self.begin()?;
        ingest.write_all(bytes).map_err(ImageError::io("writing", &ingest.path))?;
        ingest.commit(Some(digest))
    }

    /// Holds a digest against collection, whether or not it exists yet: pin first, then look.
    pub fn pin(&self, digest: Digest) -> Pin {
        self.0.pins.pin(digest)
    }

    /// Whether the blob is there.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Its size in bytes.
    pub fn size(&self, digest: &Digest) -> Result<u64> {
        fs::metadata(self.path(digest)).map(|m| m.len()).map_err(|e| self.not_found(digest, e))
    }

    /// Opens it for reading.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        File::open(self.path(digest)).map_err(|e| self.not_found(digest, e))
    }

    /// Reads a small blob (configuration, manifest) of at most 16 MiB.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        let size = self.size(digest)?;
        const LIMIT: u64 = 16 << 20;
        if size > LIMIT {
            return Err(ImageError::TooLarge { what: format!("blob {digest}"), size, limit: LIMIT });
        }
        let mut bytes = Vec::new();
        self.open_blob(digest)?
            .read_to_end(&mut bytes)
            .map_err(ImageError::io("reading", self.path(digest)))?;
        Ok(bytes)
    }

    fn not_found(&self, digest: &Digest, error: io::Error) -> ImageError {
        if error.kind() == io::ErrorKind::NotFound {
            ImageError::NotFound { what: "blob", name: digest.to_string() }
        } else {
            ImageError::Io { doing: "opening", path: self.path(digest), source: error }
        }
    }

    /// Starts to remember what is held; to be called before records are listed for [`ContentStore::collect`].
    pub(crate) fn watch(&self) -> Watch {
        self.0.pins.watch()
    }

    /// Removes blobs that are not in `keep` and were not held since `watch` began.
    pub(crate) fn collect(&self, watch: &Watch, keep: &HashSet<Digest>) -> Result<Freed> {
        let mut freed = Freed::default();
        let dir = &self.0.blobs;
        for entry in fs::read_dir(dir).map_err(ImageError::io("reading", dir))? {
            let entry = entry.map_err(ImageError::io("reading", dir))?;
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy()).parse::<Digest>();
            let Ok(digest) = digest else { continue };
            if keep.contains(&digest) {
                continue;
            }
            let size = entry.metadata().map(|m| m.len()).unwrap_or(0);
            if let Some(Ok(())) = watch.unless_held(&digest, || fs::remove_file(entry.path())) {
                freed += Freed { count: 1, bytes: size };
            }
        }
        Ok(freed)
    }

    /// Drops the partial transfers that nobody continues at this moment.
    pub fn drop_partial(&self) -> Result<Freed> {
        let mut freed = Freed::default();
        let dir = &self.0.ingest;
        for entry in fs::read_dir(dir).map_err(ImageError::io("reading", dir))?.flatten() {
            if !entry.file_name().to_string_lossy().starts_with("part-") {
                continue;
            }
            let Ok(file) = File::open(entry.path()) else { continue };
            if file.try_lock().is_ok() {
                let bytes = file.metadata().map(|m| m.len()).unwrap_or(0);
                if fs::remove_file(entry.path()).is_ok() {
                    freed += Freed { count: 1, bytes };
                }
            }
        }
        Ok(freed)
    }
}

/// Changes with each start of the kernel.
pub(crate) fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    fs::read_to_string(path).map_err(ImageError::io("reading", path))
}

/// 16 random hexadecimal digits.
pub(crate) fn random_name() -> Result<String> {
    let mut bytes = [0u8; 8];
    File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .map_err(ImageError::io("reading", "/dev/urandom"))?;
    Ok(hex::encode(bytes))
}

/// A blob that is being written; hashes what passes.
pub struct Ingest {
    store: ContentStore,
    file: File,
    path: PathBuf,
    hash: Sha256,
    written: u64,
    resumable: bool,
}

impl Ingest {
    /// Bytes so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Throws away what was received (a server that does not know ranges starts over).
    pub fn restart(&mut self) -> Result<()> {
        let cut = self.file.set_len(0).and_then(|()| self.file.rewind());
        cut.map_err(ImageError::io("truncating", &self.path))?;
        self.hash = Sha256::new();
        self.written = 0;
        Ok(())
    }

    /// Syncs the file, checks the digest and gives the blob its name. With a wrong digest the content is dropped.
    pub fn commit(mut self, expected: Option<Digest>) -> Result<Pin> {
        let found = Digest::from_sha256(std::mem::take(&mut self.hash).finalize().into());
        if let Some(expected) = expected.filter(|e| *e != found) {
            self.resumable = false;
            return Err(ImageError::DigestMismatch { what: "blob".into(), expected, found });
        }
        let pin = self.store.pin(found);
        let target = self.store.path(&found);
        if !target.exists() {
            if self.written <= SYNC_AT_ONCE {
                self.file.sync_data().map_err(ImageError::io("syncing", &self.path))?;
            }
            fs::rename(&self.path, &target).map_err(ImageError::io("renaming", &self.path))?;
            if self.written <= SYNC_AT_ONCE {
                sync_dir(&self.store.0.blobs)?;
            } else {
                self.store.sync_later(&found, &self.file)?;
            }
        }
        self.resumable = false;
        Ok(pin)
    }
}

/// Makes renames in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(ImageError::io("syncing", dir))
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if !self.resumable {
            let _renamed_or_gone = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, ContentStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path()).unwrap();
        (dir, store)
    }

    #[test]
    fn blobs_are_whole_and_verified() {
        let (dir, store) = store();
        let pin = store.put(b"hello").unwrap();
        assert_eq!(store.read(&pin.digest()).unwrap(), b"hello");
        let mut wrong = store.begin().unwrap();
        wrong.write_all(b"other").unwrap();
        assert!(matches!(wrong.commit(Some(pin.digest())), Err(ImageError::DigestMismatch { .. })));
        assert_eq!(fs::read_dir(dir.path().join("content/ingest")).unwrap().count(), 0);
        let missing = Digest::from_sha256([7; 32]);
        assert!(matches!(store.open_blob(&missing), Err(ImageError::NotFound { what: "blob", .. })));
    }

    #[test]
    fn a_broken_transfer_goes_on_after_a_restart() {
        let (dir, store) = store();
        let digest = Digest::from_sha256(Sha256::digest(b"first second").into());
        let mut part = store.resume(&digest).unwrap();
        part.write_all(b"first ").unwrap();
        assert!(store.resume(&digest).is_err(), "one writer at a time");
        drop(part);
        let store = ContentStore::open(dir.path()).unwrap();
        let mut part = store.resume(&digest).unwrap();
        assert_eq!(part.written(), 6);
        part.write_all(b"second").unwrap();
        assert_eq!(part.commit(Some(digest)).unwrap().digest(), digest);
        assert_eq!(store.drop_partial().unwrap(), Freed::default());
    }

    #[test]
    fn what_a_power_failure_tore_is_dropped() {
        let (dir, store) = store();
        let mut ingest = store.begin().unwrap();
        ingest.write_all(&vec![1; 2 << 20]).unwrap();
        let whole = ingest.commit(None).unwrap().digest();
        let torn = Digest::from_sha256([9; 32]);
        fs::write(store.path(&torn), vec![0; 2 << 20]).unwrap();
        for digest in [whole, torn] {
            fs::write(dir.path().join("content/dirty").join(digest.hex()), "another boot").unwrap();
        }
        let store = ContentStore::open(dir.path()).unwrap();
        assert!(store.contains(&whole) && !store.contains(&torn));
    }

    #[test]
    fn collection_spares_the_named_and_the_held() {
        let (_dir, store) = store();
        let [a, c] = [b"a", b"c"].map(|x| store.put(x).unwrap().digest());
        let b = store.put(b"b").unwrap();
        let freed = store.collect(&store.watch(), &HashSet::from([a])).unwrap();
        assert_eq!(freed, Freed { count: 1, bytes: 1 });
        assert!(store.contains(&a) && store.contains(&b.digest()) && !store.contains(&c));
    }
}
