//! Times load and save of an archive: `load-time ARCHIVE DIRECTORY [NAME]`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{sync::Arc, time::Instant};

use weft_image::{ImageStore, Options};
use weft_store::{Embedded, Stores};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (archive, root) = (args.next().unwrap(), std::path::PathBuf::from(args.next().unwrap()));
    std::fs::create_dir_all(&root).unwrap();
    let stores = Stores::single(Arc::new(
        Embedded::open(root.join("store.redb"), weft_store::Options::default()).unwrap(),
    ));
    let start = Instant::now();
    let store = ImageStore::open(&root, &stores, Options::default()).await.unwrap();
    println!("open {:?}", start.elapsed());
    let start = Instant::now();
    let loaded = store.load(tokio::fs::File::open(archive).await.unwrap(), None, |_| {}).await.unwrap();
    println!("load {:?}", start.elapsed());
    let names: Vec<String> = loaded.iter().map(|(image, _)| image.spec.id.to_string()).collect();
    let start = Instant::now();
    let mut stream = store.save(&names, None).await.unwrap();
    let mut sum = 0;
    while let Some(piece) = stream.recv().await {
        sum += piece.unwrap().len();
    }
    println!("save {:?} {sum} bytes", start.elapsed());
}
