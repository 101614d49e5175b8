//! Foreign bytes of images and registries: names, layers, packed streams, configurations.

use std::io::{BufRead, Cursor};

use weft_model::Reference;
use weft_testkit::fuzz;

use crate::{
    config::{ImageConfig, RunConfig},
    decompress::decompress,
    instructions,
    tar::{Entry, Kind, TarReader, TarWriter},
    unpack::{Limits, Merge, merge, unpack},
};

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for entry in entries {
        let data = vec![b'x'; usize::try_from(entry.size).unwrap()];
        tar.append(entry, &mut Cursor::new(data)).unwrap();
    }
    tar.finish().unwrap()
}

fn layers() -> Vec<Vec<u8>> {
    let named =
        |path: &str, kind, link: &str| Entry { link: link.into(), mode: 0o755, ..Entry::new(path, kind) };
    let attribute = Entry {
        xattrs: vec![(b"user.a".to_vec(), b"b".to_vec())],
        size: 10,
        ..Entry::new("dir/file", Kind::File)
    };
    let long = "deep/".repeat(40) + "file";
    vec![
        tar(&[Entry::new("dir", Kind::Dir), attribute, Entry { size: 700, ..Entry::new("big", Kind::File) }]),
        tar(&[
            Entry { size: 1, ..Entry::new("a", Kind::File) },
            named("h", Kind::HardLink, "a"),
            named("l", Kind::Symlink, "../../outside"),
            named("m", Kind::Symlink, "/tmp"),
            Entry::new("f", Kind::Fifo),
            Entry { device: (1, 3), ..Entry::new("n", Kind::Char) },
            Entry::new("l/x", Kind::File),
        ]),
        tar(&[
            Entry::new("d", Kind::Dir),
            Entry::new("d/.wh..wh..opq", Kind::File),
            Entry::new(".wh.gone", Kind::File),
        ]),
        tar(&[Entry::new(long.as_str(), Kind::File)]),
    ]
}

const TAR_WORDS: &[&str] = &[
    "../",
    ".wh.",
    "/",
    "ustar",
    "11 path=a/b\n",
    "30 GNU.sparse.major=1\n",
    "20 size=9999999\n",
    "\0\0\0\0",
];

#[test]
fn fuzz_tar() {
    fuzz::run("image-tar", &layers(), TAR_WORDS, |input| {
        let mut reader = TarReader::new(input);
        let mut read = 0_u64;
        while let Ok(Some(_)) = reader.next_entry() {
            // Holes cost nothing to describe: a reader of them needs a limit, as the unpacker has.
            while let Ok(data) = reader.data() {
                let n = data.len();
                read += n as u64;
                if n == 0 || read > 1 << 22 {
                    break;
                }
                reader.consume(n);
            }
        }
    });
}

#[test]
fn fuzz_unpack() {
    let limits = Limits { layer_bytes: 1 << 20, entries: 100, ratio: 100 };
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    std::fs::write(&outside, "untouched").unwrap();
    let unharmed = || {
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "untouched");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "something was made outside");
    };
    fuzz::run("image-unpack", &layers(), TAR_WORDS, |input| {
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let _ = unpack(&mut TarReader::new(input), &root, None, limits);
        unharmed();
        let fd = rustix::fs::open(&root, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        let how = Merge { base: "sub".into(), owner: Some((5, 5)), keep_kinds: true };
        let _ = merge(&mut TarReader::new(input), fd, how, None, limits);
        unharmed();
        std::fs::remove_dir_all(&root).unwrap();
    });
}

#[test]
fn fuzz_packed() {
    use std::io::Write;
    let plain = layers().remove(0);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&plain).unwrap();
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    xz.write_all(&plain).unwrap();
    let seeds = [
        gzip.finish().unwrap(),
        zstd::encode_all(&plain[..], 1).unwrap(),
        bzip2.finish().unwrap(),
        xz.finish().unwrap(),
    ];
    fuzz::run("image-packed", &seeds, &[], |input| {
        let Ok((_, mut stream)) = decompress(input) else { return };
        let mut out = 0;
        while let Ok(n) = stream.fill_buf().map(<[u8]>::len) {
            out += n;
            if n == 0 || out > 8 << 20 {
                break;
            }
            stream.consume(n);
        }
    });
}

#[test]
fn fuzz_names() {
    let seeds =
        ["busybox", "a/b:tag", "reg.io:5000/a/b@sha256:0123", "localhost/x", "[::1]:5000/a", "a__b-c.d"];
    let seeds = seeds.map(|s| s.as_bytes().to_vec());
    fuzz::run("image-names", &seeds, &["/", ":", "@sha256:", "docker.io/library/", "..", "__"], |input| {
        let text = String::from_utf8_lossy(input);
        if let Ok(name) = text.parse::<Reference>() {
            let again = name.to_string();
            assert_eq!(
                again.parse::<Reference>().expect("what is written can be read"),
                name,
                "{text:?} {again:?}"
            );
        }
    });
}

#[test]
fn fuzz_config() {
    let config = br#"{"architecture":"amd64","os":"linux","created":"2020-01-01T00:00:00Z","config":{"Env":["A=b"],"Cmd":["sh"],"Entrypoint":null,"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","x"],"Interval":1}},"rootfs":{"type":"layers","diff_ids":["sha256:00"]},"history":[{"created_by":"x","empty_layer":true}]}"#;
    fuzz::run("image-config", &[config.to_vec()], &["null", "{}", "[]", "1e999", "\\ud800", "-1"], |input| {
        if let Ok(config) = ImageConfig::parse(input) {
            let again = config.to_bytes().expect("a form");
            ImageConfig::parse(&again).expect("what is written can be read");
            let _ = config.created_at();
        }
    });
}

#[test]
fn fuzz_instructions() {
    let seeds = [
        "CMD [\"a\", \"b\"]",
        "ENV A=b C=\"d e\"",
        "EXPOSE 80/tcp 1-9",
        "HEALTHCHECK --interval=1s CMD x",
        "LABEL a=b",
        "VOLUME /a",
    ];
    let seeds = seeds.map(|s| s.as_bytes().to_vec());
    fuzz::run(
        "image-instructions",
        &seeds,
        &["ENV ", "\\", "\"", "--timeout=", "=", "[", "9999999999h"],
        |input| {
            let _ = instructions::apply(&mut RunConfig::default(), &String::from_utf8_lossy(input));
        },
    );
}
