//! The archive reader against foreign bytes, and the writer against the reader.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Cursor, Read};

use proptest::prelude::*;
use weft_image::tar::{Entry, Kind, TarReader, TarWriter};

fn entries() -> impl Strategy<Value = Vec<(Entry, Vec<u8>)>> {
    let kind = prop_oneof![
        Just(Kind::File),
        Just(Kind::Dir),
        Just(Kind::Symlink),
        Just(Kind::HardLink),
        Just(Kind::Char),
        Just(Kind::Fifo)
    ];
    let path = "[a-zä/]{1,200}[a-z]";
    let attribute = ("user\\.[a-z]{1,8}", proptest::collection::vec(any::<u8>(), 0..40));
    let entry = (
        kind,
        path,
        "[a-z/]{0,150}",
        0u32..0o10000,
        any::<u32>(),
        (-9_000_000_000i64..90_000_000_000, 0u32..1_000_000_000),
        proptest::collection::vec(attribute, 0..3),
        proptest::collection::vec(any::<u8>(), 0..1500),
    );
    let made = entry.prop_map(|(kind, path, link, mode, id, mtime, xattrs, data)| {
        let data = if kind == Kind::File { data } else { Vec::new() };
        let links = matches!(kind, Kind::Symlink | Kind::HardLink);
        let entry = Entry {
            link: if links { link.into_bytes() } else { Vec::new() },
            mode,
            uid: id,
            gid: id / 3,
            mtime,
            size: data.len() as u64,
            device: if kind == Kind::Char { (id % 4096, id % 2048) } else { (0, 0) },
            xattrs: xattrs.into_iter().map(|(n, v)| (n.into_bytes(), v)).collect(),
            ..Entry::new(path, kind)
        };
        (entry, data)
    });
    proptest::collection::vec(made, 0..8)
}

fn read_all(bytes: &[u8]) -> std::io::Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = TarReader::new(bytes);
    let mut out = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        reader.read_to_end(&mut data)?;
        out.push((entry, data));
    }
    Ok(out)
}

proptest! {
    #[test]
    fn what_is_written_is_read(list in entries()) {
        let mut writer = TarWriter::new(Vec::new());
        for (entry, data) in &list {
            writer.append(entry, &mut Cursor::new(data)).unwrap();
        }
        let bytes = writer.finish().unwrap();
        prop_assert_eq!(read_all(&bytes).unwrap(), list.clone());
        // Cut anywhere, and with any byte changed: an error or an answer, no panic and no hang.
        for cut in (0..bytes.len()).step_by(101) {
            let _either = read_all(&bytes[..cut]);
        }
        let mut bytes = bytes;
        for at in (0..bytes.len()).step_by(37) {
            bytes[at] ^= 0x55;
            let _either = read_all(&bytes);
            bytes[at] ^= 0x55;
        }
    }
}

/// `tar` of the machine, with the options given, over files with holes.
fn gnu_tar(options: &[&str]) -> Option<(Vec<u8>, tempfile::TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("sparse")).unwrap();
    use std::os::unix::fs::FileExt;
    for i in 0..30u64 {
        file.write_at(b"data", i * (1 << 20)).unwrap();
    }
    file.set_len(64 << 20).unwrap();
    drop(file);
    std::fs::write(dir.path().join("after"), "after").unwrap();
    let out = std::process::Command::new("tar")
        .args(["-C".as_ref(), dir.path().as_os_str(), "-cS".as_ref()])
        .args(options)
        .args(["sparse", "after"])
        .output()
        .ok()?;
    assert!(out.status.success());
    Some((out.stdout, dir))
}

#[test]
fn all_kinds_of_sparse_files_are_read() {
    for options in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let Some((bytes, _dir)) = gnu_tar(options) else { return };
        assert!(bytes.len() < 4 << 20, "holes are left out");
        let list = read_all(&bytes).unwrap();
        assert_eq!(list.len(), 2, "{options:?}");
        let (entry, data) = &list[0];
        assert_eq!((entry.path.as_slice(), entry.length()), (&b"sparse"[..], 64 << 20), "{options:?}");
        let sparse = entry.sparse.as_ref().unwrap();
        let mut at = 0;
        for (i, (offset, length)) in sparse.extents.iter().enumerate() {
            assert_eq!(*offset, (i as u64) << 20);
            assert_eq!(&data[at..at + 4], b"data", "{options:?}");
            at += usize::try_from(*length).unwrap();
        }
        assert_eq!(list[1].1, b"after");
    }
}
