//! The frame of the table: its chains with their hooks and policies, and its sets. Lines that are the same for what should be and
//! for what the kernel has, so that whatever else others put into the table is seen, and what they changed of it.
//!
//! A chain or set of others that a rule of the user's refers to cannot be taken away, nor is it ours to empty: it is held, and let
//! be. One of ours that is referred to so is emptied and filled again.

use std::collections::BTreeSet;

use weft_sys::{
    netlink::{Channel, NetlinkError, Socket},
    nft::{self, Hook, Names, Set},
};

use crate::{
    LinuxError, TABLE,
    rules::{self, is_users},
};

/// Lines.
pub(crate) type Frame = BTreeSet<String>;

fn chain(name: &str, hook: Option<(&str, u32, i32, bool)>) -> String {
    match hook {
        None => format!("chain {name}"),
        Some((kind, point, priority, accepts)) => {
            let policy = if accepts { "accept" } else { "drop" };
            format!("chain {name} {kind} {point} {priority} {policy}")
        }
    }
}

/// What should be.
pub(crate) fn wanted<'a, 'b>(
    bases: impl Iterator<Item = (&'a str, Hook)>,
    chains: impl Iterator<Item = &'b String>,
    sets: impl Iterator<Item = Set>,
) -> Frame {
    let bases =
        bases.map(|(name, hook)| chain(name, Some((hook.kind, hook.point as u32, hook.priority, true))));
    let sets = sets.map(|set| format!("set {}", set.name));
    bases.chain(chains.map(|name| chain(name, None))).chain(sets).collect()
}

/// What the kernel has; what is the user's, and what is held, left out.
pub(crate) fn seen(socket: &mut Socket, held: &BTreeSet<String>) -> Result<Frame, LinuxError> {
    let ours = |name: &String| !is_users(name) && !held.contains(name);
    let mut lines = Frame::new();
    for (name, found) in nft::seen::chains_of(socket, TABLE)?.iter().filter(|(name, _)| ours(name)) {
        let hook = found.hook.as_ref().map(|h| (h.kind.as_str(), h.number, h.priority, h.accepts));
        lines.insert(chain(name, hook));
    }
    let sets = nft::names(socket, TABLE)?.sets;
    lines.extend(sets.iter().filter(|name| ours(name)).map(|name| format!("set {name}")));
    if nft::seen::is_dormant(socket, TABLE)? {
        lines.insert("dormant".to_owned());
    }
    Ok(lines)
}

/// Wakes the table where somebody sent it to sleep.
pub(crate) fn wake(socket: &mut Socket) -> Result<(), LinuxError> {
    if nft::seen::is_dormant(socket, TABLE)? {
        let mut batch = nft::Batch::new(TABLE);
        batch.wake_table();
        socket.transact(&batch.finish())?;
    }
    Ok(())
}

/// Of what the table has, the one that a refusal is about because something refers to it.
pub(crate) fn referred(error: &NetlinkError, present: &Names) -> Option<String> {
    let text = error.to_string();
    let about = |name: &&String| {
        ["set", "chain"].iter().any(|kind| {
            text.split_once(&format!("delete {kind} {name}")).is_some_and(|(_, rest)| {
                !rest.starts_with(|c: char| c.is_alphanumeric() || "_-./".contains(c))
            })
        })
    };
    let names = rules::ours(present);
    let found = names.chains.iter().chain(&names.sets).find(about).cloned();
    found.filter(|_| error.errno() == Some(libc::EBUSY))
}
