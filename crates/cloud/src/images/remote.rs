//! Images made of a file system that is fetched from a web server.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;
use weft_image::registry::{Fetch, RegistryError};
use weft_model::Digest;

use super::{ImportDraft, registry};
use crate::{Action, Caller, Cloud, Progress, ProgressSink, Result};

/// Between two byte counts.
const TELL: Duration = Duration::from_millis(100);

impl Cloud {
    /// Fetches an archive and makes an image of it. Dropped, it stops fetching.
    pub async fn image_import_url(
        &self,
        caller: &Caller,
        mut draft: ImportDraft,
        source: &str,
        sink: ProgressSink,
    ) -> Result<Digest> {
        caller.authorise(Action::Write, caller.project)?;
        let fetch = self.0.parts.registry.fetch(source).await.map_err(registry::error)?;
        if draft.message.is_empty() {
            draft.message = format!("Imported from {}", fetch.url);
        }
        sink.status(format!("Downloading from {}", fetch.url)).await;
        let (send, receive) = mpsc::channel(4);
        let pieces =
            futures_util::stream::unfold(receive, |mut r| async { r.recv().await.map(|piece| (piece, r)) });
        let import = self.import(caller, draft, StreamReader::new(Box::pin(pieces)));
        let (image, broken) = tokio::join!(import, pump(fetch, send, sink));
        match broken {
            Some(error) => Err(registry::error(error)),
            None => image,
        }
    }
}

/// Hands over pieces until the end, which an error takes the place of when the transfer breaks; answers that error.
async fn pump(
    mut fetch: Fetch,
    pieces: mpsc::Sender<std::io::Result<Bytes>>,
    sink: ProgressSink,
) -> Option<RegistryError> {
    let (mut current, mut told) = (0, None::<Instant>);
    loop {
        let piece = tokio::select! {
            piece = fetch.piece() => piece,
            () = pieces.closed() => return None,
        };
        match piece {
            Ok(Some(piece)) => {
                current += piece.len() as u64;
                if told.is_none_or(|t| t.elapsed() >= TELL) || Some(current) == fetch.total {
                    told = Some(Instant::now());
                    sink.hint(bytes(current, fetch.total));
                }
                // The import gave up, and says why.
                pieces.send(Ok(piece)).await.ok()?;
            }
            Ok(None) => return None,
            Err(error) => {
                let _gave_up = pieces.send(Err(std::io::Error::other("the transfer broke"))).await;
                return Some(error);
            }
        }
    }
}

fn bytes(current: u64, total: Option<u64>) -> Progress {
    Progress::Bytes { id: String::new(), action: "Importing".into(), current, total }
}
