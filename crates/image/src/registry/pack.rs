//! Packing a layer for a push. The same layer always gives the same bytes, so that a second push finds them; what
//! came out is remembered in an extended attribute of the plain blob, so that it need not be packed to be found.

use std::io::{self, BufReader};

use weft_model::Digest;

use super::manifest::{DOCKER_LAYER, Descriptor};
use crate::{
    content::ContentStore,
    decompress::decompress,
    error::{ImageError, Result, from_io},
    pins::Pin,
};

const MEMORY: &str = "user.weft.gzip";

/// A packed layer.
pub(crate) struct Packed {
    pub pin: Pin,
    pub size: u64,
}

impl Packed {
    pub(super) fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: DOCKER_LAYER.into(),
            size: self.size,
            digest: self.pin.digest(),
            platform: None,
        }
    }
}

/// What packing `plain` gave before.
pub(super) fn remembered(content: &ContentStore, plain: &Digest) -> Option<Descriptor> {
    let text = String::from_utf8(xattr::get(content.path(plain), MEMORY).ok()??).ok()?;
    let (digest, size) = text.split_once(' ')?;
    let (digest, size) = (digest.parse().ok()?, size.parse().ok()?);
    Some(Descriptor { media_type: DOCKER_LAYER.into(), size, digest, platform: None })
}

/// Packs a stored layer, plain or in a packing that manifests have no word for, into a blob of its own. Blocks.
pub(crate) fn pack(content: &ContentStore, plain: &Digest) -> Result<Packed> {
    let (_, mut input) = decompress(BufReader::with_capacity(256 << 10, content.open_blob(plain)?))?;
    // No name, no time: nothing but the content decides about the bytes.
    let mut encoder =
        flate2::GzBuilder::new().mtime(0).write(content.begin()?, flate2::Compression::default());
    io::copy(&mut input, &mut encoder).map_err(|e| from_io("layer", e))?;
    let ingest = encoder.finish().map_err(|e| from_io("layer", e))?;
    let size = ingest.written();
    let pin = ingest.commit(None)?;
    let text = format!("{} {size}", pin.digest());
    if let Err(error) = xattr::set(content.path(plain), MEMORY, text.as_bytes()) {
        tracing::debug!(
            error = weft_base::chain(&ImageError::io("describing", content.path(plain))(error)),
            "not remembered"
        );
    }
    Ok(Packed { pin, size })
}
