//! Who a process is: names looked up in the image's own `/etc/passwd` and `/etc/group`.
//!
//! The files are opened beneath the root file system (`openat2`, `RESOLVE_IN_ROOT`), so that a symbolic link
//! of the image leads nowhere else. Rules and texts are those of Docker's `user` package.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// A user as numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, the primary one first.
    pub groups: Vec<u32>,
    /// Home directory; `/` when the user is in no list.
    pub home: String,
}

/// Why a user is not known; texts are Docker's.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    /// No such group.
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
    /// No such group, of the further ones (`--group-add`); the capital is Docker's.
    #[error("Unable to find group {0}: no matching entries in group file")]
    FurtherGroup(String),
    /// A number too large.
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
    /// A list cannot be read.
    #[error("reading /etc/{file} of {root}")]
    Read {
        /// `passwd` or `group`.
        file: &'static str,
        /// The root file system.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// No sane list is longer; a longer one would only eat memory.
const LONGEST: u64 = 16 << 20;

/// Finds `user[:group]` (by name or number; root when empty) and `extra` groups in the lists of `rootfs`.
pub fn resolve(rootfs: &Path, user: &str, extra: &[String]) -> Result<ResolvedUser, UserError> {
    let passwd = list(rootfs, "passwd")?;
    let group = list(rootfs, "group")?;
    lookup(&passwd, &group, user, extra)
}

fn list(rootfs: &Path, file: &'static str) -> Result<String, UserError> {
    let read = || -> io::Result<String> {
        let dir = openat(CWD, rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        // A list that is a pipe must not stop us.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let path = Path::new("etc").join(file);
        let file = File::from(openat2(&dir, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?);
        if !file.metadata()?.is_file() {
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => Ok(text),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(String::new())
        }
        Err(source) => Err(UserError::Read { file, root: rootfs.to_owned(), source }),
    }
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn users(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Entry { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

/// Name, id, members.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn number(text: &str) -> Option<Result<u32, UserError>> {
    let value: i64 = text.parse().ok()?;
    Some(u32::try_from(value).ok().filter(|n| *n <= 0x7fff_ffff).ok_or(UserError::Range))
}

fn lookup(passwd: &str, group: &str, user: &str, extra: &[String]) -> Result<ResolvedUser, UserError> {
    let (user, wanted_group) = user.split_once(':').unwrap_or((user, ""));
    let written = if user.is_empty() { "0" } else { user };
    let id = number(written);
    let by_id = id.as_ref().and_then(|id| id.as_ref().ok()).copied();
    let entry = users(passwd).find(|e| e.name == written || Some(e.uid) == by_id);
    let mut found = match (&entry, id) {
        (Some(e), _) => ResolvedUser { uid: e.uid, gid: e.gid, groups: vec![], home: e.home.to_owned() },
        (None, Some(id)) => ResolvedUser { uid: id?, ..ResolvedUser::default() },
        (None, None) => return Err(UserError::User(user.to_owned())),
    };
    let mut further = Vec::new();
    if !wanted_group.is_empty() {
        found.gid = find_group(group, wanted_group)?;
    } else if let Some(e) = &entry {
        further.extend(
            groups(group)
                .filter(|(_, _, members)| members.split(',').any(|m| m == e.name))
                .map(|(_, gid, _)| gid),
        );
    }
    for written in extra {
        further.push(find_group(group, written).map_err(|e| match e {
            UserError::Group(name) => UserError::FurtherGroup(name),
            other => other,
        })?);
    }
    found.groups.push(found.gid);
    for gid in further {
        if !found.groups.contains(&gid) {
            found.groups.push(gid);
        }
    }
    if found.home.is_empty() {
        "/".clone_into(&mut found.home);
    }
    Ok(found)
}

fn find_group(group: &str, written: &str) -> Result<u32, UserError> {
    let id = number(written);
    let by_id = id.as_ref().and_then(|id| id.as_ref().ok()).copied();
    match (groups(group).find(|(name, gid, _)| *name == written || Some(*gid) == by_id), id) {
        (Some((_, gid, _)), _) => Ok(gid),
        (None, Some(id)) => id,
        (None, None) => Err(UserError::Group(written.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\n# odd\npostgres:x:70:70::/var/lib/postgresql:/bin/sh\n";
    const GROUP: &str = "root:x:0:root\npostgres:x:70:\nwheel:x:10:root,postgres\n";

    /// The lists are the image's.
    #[test]
    fn fuzz_passwd_and_group() {
        let seeds = [PASSWD.as_bytes().to_vec(), GROUP.as_bytes().to_vec()];
        let words = [":", "\n", ",", "4294967295", "-1", "root", "\u{feff}"];
        weft_testkit::fuzz::run("passwd", &seeds, &words, |input| {
            let text = String::from_utf8_lossy(input);
            for user in ["", "root", "70", "postgres:wheel", text.lines().next().unwrap_or_default()] {
                let _ = lookup(&text, &text, user, &["wheel".into(), "7".into()]);
            }
        });
    }

    fn check(user: &str, extra: &[&str]) -> String {
        let extra: Vec<_> = extra.iter().map(|s| (*s).to_owned()).collect();
        match lookup(PASSWD, GROUP, user, &extra) {
            Ok(u) => format!("{}:{} {:?} {}", u.uid, u.gid, u.groups, u.home),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn users_and_groups_as_docker_finds_them() {
        for (user, extra, expected) in [
            ("", &[][..], "0:0 [0, 10] /root"),
            ("0", &[], "0:0 [0, 10] /root"),
            ("postgres", &[], "70:70 [70, 10] /var/lib/postgresql"),
            ("70", &[], "70:70 [70, 10] /var/lib/postgresql"),
            ("postgres:wheel", &[], "70:10 [10] /var/lib/postgresql"),
            ("1234", &[], "1234:0 [0] /"),
            ("1234:5678", &["wheel", "99"], "1234:5678 [5678, 10, 99] /"),
            (":postgres", &[], "0:70 [70] /root"),
            ("foo", &[], "unable to find user foo: no matching entries in passwd file"),
            ("0:foo", &[], "unable to find group foo: no matching entries in group file"),
            ("0", &["foo"], "Unable to find group foo: no matching entries in group file"),
            ("2147483648", &[], "uids and gids must be in range 0-2147483647"),
            ("-1", &[], "uids and gids must be in range 0-2147483647"),
        ] {
            assert_eq!(check(user, extra), expected, "{user:?} {extra:?}");
        }
    }

    #[test]
    fn links_of_the_image_stay_inside_it() {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        std::os::unix::fs::symlink("/../../../../etc/passwd", etc.join("passwd")).unwrap();
        // The link leads to itself within the root: nothing is found, the host's list is not read.
        let error = resolve(dir.path(), "daemon", &[]).unwrap_err();
        assert!(matches!(error, UserError::Read { .. } | UserError::User(_)), "{error}");
        std::fs::remove_file(etc.join("passwd")).unwrap();
        std::os::unix::fs::symlink("/lists/p", etc.join("passwd")).unwrap();
        std::fs::create_dir(dir.path().join("lists")).unwrap();
        std::fs::write(dir.path().join("lists/p"), "me:x:7:8::/home/me:/bin/sh\n").unwrap();
        assert_eq!(resolve(dir.path(), "me", &[]).unwrap().uid, 7);
    }

    #[test]
    fn an_image_without_lists_knows_numbers_only() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(resolve(dir.path(), "", &[]).unwrap().home, "/");
        assert!(resolve(dir.path(), "root", &[]).is_err());
    }
}
