//! Which news of links is of interest, as a program of classic BPF that the kernel runs on each message (`linux/filter.h`):
//! links by mark, addresses and routes that go, and single links by name, which may change while it runs.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::{
    NetlinkError,
    channel::failed,
    watch::{DELADDR, DELLINK, DELROUTE, IFNAME, NEWLINK},
};
use crate::filter;

/// `RTPROT_KERNEL`.
const BY_KERNEL: u32 = 2;
/// A program has 4096 lines at most (`BPF_MAXINSNS`), a name takes nine.
const MOST: usize = 400;

/// What a link is known by: either of these is enough.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// First letters of its name.
    pub name: [u8; 2],
    /// First letters of its `ifalias`.
    pub alias: [u8; 4],
}

/// Says which links without a mark are listened to.
#[derive(Debug)]
pub struct Names {
    route: OwnedFd,
    marks: Marks,
}

impl Names {
    pub(super) fn new(route: BorrowedFd<'_>, marks: Marks) -> Result<Self, NetlinkError> {
        Ok(Self { route: route.try_clone_to_owned().map_err(failed("dup"))?, marks })
    }

    /// From now on to these and no others; 400 at most, what is beyond is not heard.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn listen<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Result<(), NetlinkError> {
        let mut lines = program(self.marks, names.into_iter().map(String::as_str));
        let attached: io::Result<()> = filter::attach(self.route.as_fd(), &mut lines);
        attached.map_err(failed("filter"))
    }
}

fn line(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// `SKF_AD_OFF + SKF_AD_NLATTR`.
const ATTRIBUTE: u32 = (-0x1000_i32 + 12).cast_unsigned();
/// Where attributes begin: after `struct nlmsghdr` and `struct ifinfomsg`.
const FIRST: u32 = 16 + 16;

/// `ld* …` and `jmp …` of classic BPF (`linux/bpf_common.h`). A kind of message is in host order, and loads are in
/// network order. `[A: attribute X]` is the ancillary load `SKF_AD_NLATTR`: where the attribute is, 0 for nowhere.
pub(super) fn program<'a>(marks: Marks, names: impl IntoIterator<Item = &'a str>) -> Vec<libc::sock_filter> {
    let mut lines = marked(marks).to_vec();
    lines.extend([
        line(0x01, 0, 0, u32::from(IFNAME)), // no mark: ldx
        line(0x00, 0, 0, FIRST),             // ld
        line(0x20, 0, 0, ATTRIBUTE),         // ld [A: attribute X]
        line(0x15, 0, 1, 0),                 // jeq nowhere, else over the next
        line(0x06, 0, 0, 0),                 // drop it
        line(0x07, 0, 0, 0),                 // tax
    ]);
    for name in names.into_iter().take(MOST) {
        // With the zero byte that ends it, and those that fill up its last word.
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize((bytes.len() + 1).next_multiple_of(4), 0);
        let words = bytes.chunks_exact(4).filter_map(|word| Some(u32::from_be_bytes(word.try_into().ok()?)));
        let words: Vec<u32> = words.collect();
        for (at, word) in (0u32..).zip(&words) {
            let rest =
                u8::try_from(words.len()).unwrap_or_default() - u8::try_from(at).unwrap_or_default() - 1;
            lines.push(line(0x40, 0, 0, 4 + 4 * at)); // ld [x + …]
            lines.push(line(0x15, 0, 2 * rest + 1, *word)); // jeq, else → the next name
        }
        lines.push(line(0x06, 0, 0, u32::MAX)); // take it
    }
    lines.push(line(0x06, 0, 0, 0)); // drop it
    lines
}

/// What needs no name; links without a mark go on behind the end.
fn marked(marks: Marks) -> [libc::sock_filter; 23] {
    const IFALIAS: u32 = 20;
    let kind = |kind: u16| u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
    [
        line(0x28, 0, 0, 4),                                         // ldh [4]: kind of message
        line(0x15, 5, 0, kind(NEWLINK)),                             // jeq → a link
        line(0x15, 4, 0, kind(DELLINK)),                             // jeq → a link
        line(0x15, 17, 0, kind(DELADDR)),                            // jeq → take it
        line(0x15, 0, 17, kind(DELROUTE)),                           // jeq, else drop
        line(0x30, 0, 0, 21),                                        // ldb [21]: rtm_protocol
        line(0x15, 14, 15, BY_KERNEL),                               // jeq → take it, else drop
        line(0x01, 0, 0, u32::from(IFNAME)),                         // a link: ldx
        line(0x00, 0, 0, FIRST),                                     // ld
        line(0x20, 0, 0, ATTRIBUTE),                                 // ld [A: attribute X]
        line(0x15, 3, 0, 0),                                         // jeq nowhere → its alias
        line(0x07, 0, 0, 0),                                         // tax
        line(0x48, 0, 0, 4),                                         // ldh [x + 4]
        line(0x15, 7, 0, u32::from(u16::from_be_bytes(marks.name))), // jeq → take it
        line(0x01, 0, 0, IFALIAS),                                   // its alias: ldx
        line(0x00, 0, 0, FIRST),                                     // ld
        line(0x20, 0, 0, ATTRIBUTE),                                 // ld [A: attribute X]
        line(0x15, 5, 0, 0),                                         // jeq nowhere → what follows
        line(0x07, 0, 0, 0),                                         // tax
        line(0x40, 0, 0, 4),                                         // ld [x + 4]
        line(0x15, 0, 2, u32::from_be_bytes(marks.alias)),           // jeq → take it, else what follows
        line(0x06, 0, 0, u32::MAX),                                  // take it
        line(0x06, 0, 0, 0),                                         // drop it
    ]
}
