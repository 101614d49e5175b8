//! Images as archives, in and out.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;
use weft_image::{ByteStream, LoadProgress, registry::Platform};

use crate::{Action, Caller, Cloud, Progress, ProgressSink, Result};

/// What a load brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// A name now means an image of the archive.
    Named(String),
    /// An image without a name, by its id.
    Unnamed(String),
}

/// A stream of chunks as a reader.
pub(crate) fn reader<E>(
    chunks: impl Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
) -> impl AsyncRead + Send + Unpin
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    StreamReader::new(chunks.map(|c| c.map_err(std::io::Error::other)))
}

fn shorten(member: &str) -> String {
    let last = member.rsplit('/').find(|p| *p != "layer.tar").unwrap_or(member);
    last.chars().take(12).collect()
}

impl Cloud {
    /// Loads the images of an archive, all or those for `platform`; nothing is left of one that fails.
    pub async fn image_load<E>(
        &self,
        caller: &Caller,
        archive: impl Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
        platform: Option<Platform>,
        sink: Option<ProgressSink>,
    ) -> Result<Vec<Loaded>>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        caller.authorise(Action::Write, caller.project)?;
        let tell = move |step: LoadProgress| {
            if let Some(sink) = &sink {
                sink.hint(Progress::Bytes {
                    id: shorten(&step.member),
                    action: "Loading layer".into(),
                    current: step.current,
                    total: Some(step.total),
                });
            }
        };
        let mut loaded = Vec::new();
        for (image, names) in self.images().load(reader(archive), platform, tell).await? {
            let id = image.spec.id.to_string();
            self.image_event(caller, "load", &id, &id).await;
            if names.is_empty() {
                loaded.push(Loaded::Unnamed(id));
            } else {
                loaded.extend(names.iter().map(|n| Loaded::Named(n.to_string())));
            }
        }
        Ok(loaded)
    }

    /// Images as one archive; with `platform` they must be made for it.
    pub async fn image_save(
        &self,
        caller: &Caller,
        names: Vec<String>,
        platform: Option<&Platform>,
    ) -> Result<ByteStream> {
        caller.authorise(Action::Read, caller.project)?;
        let stream = self.images().save(&names, platform).await?;
        for name in &names {
            let image = self.images().resolve(name).await?;
            let id = image.spec.id.to_string();
            self.image_event(caller, "save", &id, &id).await;
        }
        Ok(stream)
    }
}
