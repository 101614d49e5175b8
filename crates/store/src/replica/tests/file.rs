//! The file: whose it is, and what a damaged one costs.

use super::*;

#[tokio::test]
async fn the_file_belongs_to_one_and_is_no_other_store() {
    let bed = Bed::new();
    let replica = bed.open().await.unwrap();
    let second = bed.open().await.err();
    assert!(matches!(second, Some(StoreError::InUse { .. })), "{second:?}");
    assert!(second.unwrap().to_string().contains("replica.redb"));
    drop(replica);
    drop(bed.open().await.unwrap());
    let path = bed.dir.path().join("single.redb");
    drop(Embedded::open(&path, Options::default()).unwrap());
    let options = ReplicaOptions { path: Some(path), ..bed.options() };
    let foreign = Replica::open(Arc::clone(&bed.wire) as Arc<dyn Kv>, options).await.err();
    assert!(matches!(foreign, Some(StoreError::NotAStore { .. })), "{foreign:?}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(bed.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A byte of a record is flipped on the disk: the copy is put aside and made anew from the store, and refused without it.
#[tokio::test]
async fn a_damaged_file_is_put_aside() {
    let bed = Bed::new();
    put(&*bed.origin, "/a/1", "a value that is easily found").await;
    drop(bed.open().await.unwrap());
    let mut bytes = std::fs::read(bed.path()).unwrap();
    let needle = b"easily found";
    let places: Vec<_> =
        (0..bytes.len() - needle.len()).filter(|&n| bytes[n..].starts_with(needle)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|n| bytes[n] ^= 1);
    std::fs::write(bed.path(), bytes).unwrap();
    bed.wire.set(Mode::Silent);
    let refused = bed.open().await.err();
    assert!(matches!(refused, Some(StoreError::Unavailable { .. })), "{refused:?}");
    assert!(bed.path().with_extension("redb.damaged").exists());
    bed.wire.set(Mode::Whole);
    let replica = bed.open().await.unwrap();
    assert_eq!(value(&replica, "/a/1").await.as_deref(), Some("a value that is easily found"));
    assert!(replica.file_error().is_none());
}
