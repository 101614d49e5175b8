//! `check` and `dump` on sound and on damaged files.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests say what they expect")]

use std::path::{Path, PathBuf};

use weft_store::{Condition, Embedded, Kv, Op, Options, Request, StoreError, check, dump};

const KEYS: usize = 300;

async fn filled(dir: &Path) -> PathBuf {
    let path = dir.join("store.redb");
    let kv = Embedded::open(&path, Options::default()).unwrap();
    for n in 0..KEYS {
        let key = format!("/weft/v1/{}/{n:03}", if n % 3 == 0 { "port" } else { "container" });
        let value = format!("{{\"v\":1,\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(200));
        kv.txn(Request::always(vec![Op::put(key.clone(), "{\"v\":1,\"old\":true}")])).await.unwrap();
        kv.txn(Request::always(vec![Op::put(key, value)])).await.unwrap();
    }
    kv.txn(Request::always(vec![Op::put("/weft/v1/port/gone", "x")])).await.unwrap();
    kv.txn(Request::always(vec![Op::delete("/weft/v1/port/gone")])).await.unwrap();
    path
}

fn lines(path: &Path, prefix: &str) -> Vec<serde_json::Value> {
    let mut out = Vec::new();
    let dumped = dump(path, prefix, &mut out).unwrap();
    let lines: Vec<_> = out.split(|b| *b == b'\n').filter(|l| !l.is_empty()).collect();
    assert_eq!(lines.len(), dumped.keys);
    lines.iter().map(|l| serde_json::from_slice(l).unwrap()).collect()
}

#[tokio::test]
async fn a_sound_file_is_reported_dumped_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path()).await;
    let before = std::fs::read(&path).unwrap();
    let report = check(&path).unwrap();
    assert_eq!(report.condition, Condition::Sound, "{report:?}");
    assert_eq!(
        (report.keys, report.kinds["port"], report.kinds["container"]),
        (KEYS, KEYS / 3, 2 * KEYS / 3)
    );
    assert_eq!(report.revision, 1 + 2 * KEYS as u64 + 2);
    let ports = lines(&path, "/weft/v1/port/");
    assert_eq!(ports.len(), KEYS / 3);
    assert_eq!((&ports[1]["key"], &ports[1]["value"]["n"]), (&"/weft/v1/port/003".into(), &3.into()));
    assert!(std::fs::read(&path).unwrap() == before, "looking must not change the file");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no copy stays");
}

#[tokio::test]
async fn damage_is_reported_with_what_can_be_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path()).await;
    let sound = std::fs::read(&path).unwrap();
    let needle = b"\"n\":150,";
    let places: Vec<_> = (0..sound.len()).filter(|at| sound[*at..].starts_with(needle)).collect();
    type Harm<'a> = Box<dyn Fn(&mut Vec<u8>) + 'a>;
    let harms: [(&str, usize, Harm<'_>); 3] = [
        ("the header is lost", KEYS, Box::new(|raw| raw[..4096].fill(0))),
        ("the second half is lost", 1, Box::new(|raw| raw.truncate(raw.len() / 2))),
        (
            "one value is overwritten",
            KEYS - 1,
            Box::new(|raw| places.iter().for_each(|at| raw[*at + 4] = b'9')),
        ),
    ];
    for (name, at_least, harm) in harms {
        let mut raw = sound.clone();
        harm(&mut raw);
        std::fs::write(&path, &raw).unwrap();
        let report = check(&path).unwrap();
        assert_eq!(report.condition, Condition::Damaged, "{name}");
        assert!(!report.problems.is_empty(), "{name}");
        assert!(report.keys >= at_least && report.keys <= KEYS + 1, "{name}: {report:?}");
        let all = lines(&path, "");
        assert_eq!(all.len(), report.keys, "{name}");
        assert!(all.iter().all(|l| l["value"]["n"] != 950), "{name}: a damaged value was printed");
        assert!(std::fs::read(&path).unwrap() == raw, "{name}: looking must not change the file");
    }
}

#[tokio::test]
async fn what_cannot_be_examined_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path()).await;
    let error = check(dir.path().join("missing")).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    let text = dir.path().join("text");
    std::fs::write(&text, "hello\n".repeat(1000)).unwrap();
    let error = check(&text).unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    let _open = Embedded::open(&path, Options::default()).unwrap();
    let error = check(&path).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
}
