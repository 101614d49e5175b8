//! Network namespaces with names: a bind mount of the namespace's file, as `ip netns` does it.
//!
//! A thread that enters a namespace must never come back to a pool with it. All such work is done by one long-lived
//! thread ([`Netns`]), which goes home after each job; when it cannot go home it ends, and a new one takes its place. The thread
//! that calls is never moved. Sockets opened by a job belong to the namespace for life and are handed back.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};
use parking_lot::Mutex;

use crate::process::{Holder, Users};

/// What went wrong with a namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// One call on one namespace.
    #[error("{call} network namespace {}", path.display())]
    Call {
        /// What was done.
        call: &'static str,
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The thread for namespace work could not be started, or died in the middle of a job.
    #[error("the thread for network namespaces is gone")]
    Worker,
    /// A socket inside could not be made.
    #[error("binding {address} in network namespace {}", path.display())]
    Bind {
        /// Its file.
        path: PathBuf,
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn failed<E: Into<io::Error>>(call: &'static str, path: &Path) -> impl FnOnce(E) -> NetnsError {
    let path = path.to_owned();
    move |source| NetnsError::Call { call, path, source: source.into() }
}

type Job = Box<dyn FnOnce(&OwnedFd) -> Homecoming + Send>;

/// Whether the thread is where it started.
#[derive(PartialEq, Eq)]
enum Homecoming {
    Home,
    Lost,
}

/// Does work in other namespaces. Its home is the namespace of the thread that made it.
#[derive(Debug)]
pub struct Netns {
    home: OwnedFd,
    worker: Mutex<Option<mpsc::Sender<Job>>>,
}

impl Netns {
    /// Starts the thread.
    ///
    /// # Errors
    /// The own namespace cannot be opened.
    pub fn new() -> Result<Self, NetnsError> {
        let home = open(Path::new("/proc/thread-self/ns/net"))?;
        Ok(Self { home, worker: Mutex::new(None) })
    }

    fn submit(&self, job: Job) -> Result<(), NetnsError> {
        let mut worker = self.worker.lock();
        let job = match worker.as_ref() {
            Some(sender) => match sender.send(job) {
                Ok(()) => return Ok(()),
                Err(mpsc::SendError(job)) => job,
            },
            None => job,
        };
        let (sender, jobs) = mpsc::channel::<Job>();
        let home = self.home.try_clone().map_err(|_| NetnsError::Worker)?;
        thread::Builder::new()
            .name("weft-netns".to_owned())
            .spawn(move || {
                // A replacement may be started by a thread that lives elsewhere.
                if setns(home.as_fd(), CloneFlags::CLONE_NEWNET).is_err() {
                    return;
                }
                while let Ok(job) = jobs.recv() {
                    if job(&home) == Homecoming::Lost {
                        return;
                    }
                }
            })
            .map_err(|_| NetnsError::Worker)?;
        sender.send(job).map_err(|_| NetnsError::Worker)?;
        *worker = Some(sender);
        Ok(())
    }

    /// `enter` moves the worker, `work` runs there, and the worker goes home.
    fn visit<T: Send + 'static>(
        &self,
        enter: impl FnOnce() -> Result<(), NetnsError> + Send + 'static,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NetnsError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.submit(Box::new(move |home| {
            let result = enter().map(|()| work());
            let back = setns(home.as_fd(), CloneFlags::CLONE_NEWNET);
            let _ = reply.send(result);
            if back.is_ok() { Homecoming::Home } else { Homecoming::Lost }
        }))?;
        answer.recv().map_err(|_| NetnsError::Worker)?
    }

    /// Runs something in the namespace at `path`, on the worker.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn run<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NetnsError> {
        let target = open(path)?;
        let path = path.to_owned();
        self.visit(
            move || setns(target.as_fd(), CloneFlags::CLONE_NEWNET).map_err(failed("entering", &path)),
            work,
        )
    }

    /// Makes a namespace, runs `setup` in it, then gives it its name at `path`: what has the name is set up. A name that
    /// is there already is replaced when it is no namespace. It belongs to our user namespace, or to `users`.
    ///
    /// # Errors
    /// Nothing is left behind then. `setup`'s own failure is inside the value.
    pub fn create<T: Send + 'static, E: Send + 'static>(
        &self,
        path: &Path,
        users: Option<Users>,
        setup: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<Result<T, E>, NetnsError> {
        let at = path.to_owned();
        let enter = {
            let at = at.clone();
            move || match users {
                None => unshare(CloneFlags::CLONE_NEWNET).map_err(failed("creating", &at)),
                Some(users) => Holder::start(&users)
                    .and_then(|holder| Ok(setns(holder.network()?, CloneFlags::CLONE_NEWNET)?))
                    .map_err(failed("creating", &at)),
            }
        };
        self.visit(enter, move || match setup() {
            Ok(value) => name(&at).map(|()| Ok(value)),
            Err(error) => Ok(Err(error)),
        })?
    }

    /// A UDP socket in the namespace at `path`.
    ///
    /// # Errors
    /// [`NetnsError::Bind`], or the namespace cannot be entered.
    pub fn bind_udp(&self, path: &Path, address: SocketAddr) -> Result<UdpSocket, NetnsError> {
        let bind = move || UdpSocket::bind(address);
        self.run(path, bind)?.map_err(|source| NetnsError::Bind { path: path.to_owned(), address, source })
    }

    /// A listening TCP socket in the namespace at `path`.
    ///
    /// # Errors
    /// [`NetnsError::Bind`], or the namespace cannot be entered.
    pub fn bind_tcp(&self, path: &Path, address: SocketAddr) -> Result<TcpListener, NetnsError> {
        let bind = move || TcpListener::bind(address);
        self.run(path, bind)?.map_err(|source| NetnsError::Bind { path: path.to_owned(), address, source })
    }
}

/// Opens a namespace, for setting a link into it.
///
/// # Errors
/// It is not there.
pub fn open(path: &Path) -> Result<OwnedFd, NetnsError> {
    fs::File::open(path).map(OwnedFd::from).map_err(failed("opening", path))
}

/// Binds the calling thread's namespace to a name.
fn name(path: &Path) -> Result<(), NetnsError> {
    name_as(Path::new("/proc/thread-self/ns/net"), path)
}

/// Gives the namespace of a process (`/proc/PID/ns/net`) a name. A name that is there already and is no namespace is replaced.
///
/// # Errors
/// Nothing is left behind then.
pub fn name_as(source: &Path, path: &Path) -> Result<(), NetnsError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed("naming", path))?;
    }
    let created = fs::OpenOptions::new().write(true).create_new(true).open(path);
    if let Err(error) = created
        && error.kind() != ErrorKind::AlreadyExists
    {
        return Err(failed("naming", path)(error));
    }
    mount(Some(source), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|error| {
        let _ = fs::remove_file(path);
        failed("naming", path)(error)
    })
}

/// Takes a namespace's name away; the namespace ends with the last process, socket or mount that holds it, and the kernel
/// takes its links down in its own time. Not being there is success.
///
/// # Errors
/// The mount or the file stays.
pub fn delete(path: &Path) -> Result<(), NetnsError> {
    loop {
        // A name mounted over twice is taken down twice.
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(nix::Error::EINVAL | nix::Error::ENOENT) => break,
            Err(error) => return Err(failed("unmounting", path)(error)),
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("removing", path)(error)),
        _ => Ok(()),
    }
}

/// A name in a directory of namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// File name.
    pub name: String,
    /// A namespace is mounted there; otherwise it is what a crash left.
    pub alive: bool,
}

/// All names in a directory; none when it is not there.
///
/// # Errors
/// The directory cannot be read.
pub fn list(directory: &Path) -> Result<Vec<Named>, NetnsError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("listing", directory)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("listing", directory))?;
        if let Ok(name) = entry.file_name().into_string() {
            let alive = is_alive(&entry.path());
            found.push(Named { name, alive });
        }
    }
    Ok(found)
}

/// Whether a namespace is mounted at a path.
#[must_use]
pub fn is_alive(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == NSFS_MAGIC)
}

/// `NSFS_MAGIC` of `linux/magic.h`.
const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;
