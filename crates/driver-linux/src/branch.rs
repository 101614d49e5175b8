//! Ports that are sub-interfaces: born in their sandbox, with nothing on the host's side.
//!
//! No dump of the host's links shows them. So each is first noted, in a file called as the port beside the sandboxes' names
//! (`RUN/netns/wfp…`: the sandbox, the interface's name inside and the port's identity), and only sandboxes that are named in such a note are
//! visited when the machine is looked at. The interface's alias says, as everywhere, what it was last configured as.

use std::{collections::BTreeMap, fs, io::ErrorKind, os::fd::AsFd, path::PathBuf};

use weft_dataplane::{Parent, Port, SandboxId, SeenPort};
use weft_sys::{
    netlink::{
        Channel, Family, Socket, branch,
        link::{self, Change, Kind, Link},
    },
    netns,
};

use crate::{LinuxError, driver::LinuxDriver, links, mark, uplink};

/// Where a port is, as its note says.
struct Note {
    sandbox: SandboxId,
    ifname: String,
    /// Empty in a note of an earlier version.
    identity: String,
}

impl Note {
    /// Whether a link of the sandbox is the port, perhaps by a name that the container gave it.
    fn is_of(&self, link: &Link) -> bool {
        let named = link.name == self.ifname;
        let known = || !self.identity.is_empty() && mark::as_branch(link).identity == self.identity;
        is_branch(&link.kind) && (named || known())
    }
}

fn note_path(driver: &LinuxDriver, link: &str) -> PathBuf {
    driver.directory.join(link)
}

fn write_note(driver: &LinuxDriver, port: &Port) -> Result<(), LinuxError> {
    let path = note_path(driver, &port.link);
    let text = format!("{} {} {}\n", port.sandbox, port.ifname, port.identity());
    fs::write(&path, text).map_err(|source| LinuxError::Note { path, source })
}

fn read_note(driver: &LinuxDriver, link: &str) -> Option<Note> {
    let text = fs::read_to_string(note_path(driver, link)).ok()?;
    let mut words = text.split_whitespace();
    let (sandbox, ifname) = (words.next()?.parse().ok()?, words.next()?.to_owned());
    Some(Note { sandbox, ifname, identity: words.next().unwrap_or_default().to_owned() })
}

/// Whether a link could be a port of this kind.
pub(crate) fn is_branch(kind: &Kind) -> bool {
    matches!(kind, Kind::Other(name) if name == "macvlan" || name == "ipvlan")
}

/// Makes a sub-interface in the sandbox, and configures it.
pub(crate) fn create(driver: &LinuxDriver, port: &Port, parent: &Parent) -> Result<(), LinuxError> {
    let path = driver.path(port.sandbox);
    let target = netns::open(&path)?;
    write_note(driver, port)?;
    links::clear_inside(driver, port, &path)?;
    {
        let socket = &mut *driver.route.lock();
        let missing = || weft_dataplane::ParentFault::Missing { link: parent.link.clone() };
        let below = link::get(socket, &parent.link)?.ok_or_else(|| LinuxError::Parent(missing()))?;
        let mac = parent.branch.chooses_mac().then_some(port.mac.0);
        let mtu = Some(port.mtu).filter(|mtu| *mtu > 0);
        let change = Change { mac, mtu, ..Change::default() };
        let kind = uplink::sub(parent.branch);
        socket.transact(&[branch::create(
            &port.ifname,
            below.index,
            &kind,
            Some(target.as_fd()),
            &change,
        )])?;
    }
    links::configure_inside(driver, port, true)?;
    finish(driver, port)
}

/// Brings an existing one to its configuration.
pub(crate) fn configure(driver: &LinuxDriver, port: &Port) -> Result<(), LinuxError> {
    links::configure_inside(driver, port, false)?;
    finish(driver, port)
}

fn finish(driver: &LinuxDriver, port: &Port) -> Result<(), LinuxError> {
    let (name, alias) = (port.ifname.clone(), Some(mark::port(port, false)));
    driver.netns.run(&driver.path(port.sandbox), move || {
        let complete = Change { alias, ..Change::default() };
        Socket::open(Family::Route)?.transact(&[link::change(&name, &complete)])
    })??;
    Ok(())
}

/// All that are there, by link name.
pub(crate) fn observe(
    driver: &LinuxDriver,
    notes: &[String],
    sandboxes: &BTreeMap<SandboxId, u64>,
) -> Result<BTreeMap<String, SeenPort>, LinuxError> {
    let mut by_sandbox: BTreeMap<SandboxId, Vec<(String, String)>> = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for link in notes {
        match read_note(driver, link) {
            Some(note) if sandboxes.contains_key(&note.sandbox) => {
                by_sandbox.entry(note.sandbox).or_default().push((note.ifname, link.clone()));
            }
            // A note without a sandbox: the port went with it, and the note is all there is to remove.
            _ => {
                seen.insert(link.clone(), SeenPort::default());
            }
        }
    }
    for (sandbox, wanted) in by_sandbox {
        let found =
            driver.netns.run(&driver.path(sandbox), || link::list(&mut Socket::open(Family::Route)?))??;
        for (ifname, link) in wanted {
            let port = found.iter().find(|l| l.name == ifname && is_branch(&l.kind));
            seen.insert(link, port.map(mark::as_branch).unwrap_or_default());
        }
    }
    Ok(seen)
}

/// Whether a port is one of these.
pub(crate) fn is_noted(driver: &LinuxDriver, link: &str) -> bool {
    note_path(driver, link).exists()
}

/// Removes a port, and then its note.
pub(crate) fn delete(driver: &LinuxDriver, name: &str) -> Result<(), LinuxError> {
    if let Some(note) = read_note(driver, name) {
        let path = driver.path(note.sandbox);
        if netns::is_alive(&path) {
            driver.netns.run(&path, move || {
                let socket = &mut Socket::open(Family::Route)?;
                let all = link::list(socket)?;
                let mine = all.iter().filter(|found| note.is_of(found));
                let delete = |found: &Link| link::delete(&found.name).tolerating(&[libc::ENODEV]);
                socket.transact(&mine.map(delete).collect::<Vec<_>>())
            })??;
        }
    }
    let path = note_path(driver, name);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(LinuxError::Note { path, source }),
        _ => Ok(()),
    }
}
