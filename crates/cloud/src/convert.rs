//! Errors of the layer below in the words of a use case.

use weft_base::chain;
use weft_engine::EngineError;
use weft_image::ImageError;
use weft_net::NetError;
use weft_store::StoreError;

use crate::{CloudError, Kind};

impl From<StoreError> for CloudError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Conflict { .. } => Self::Conflict(chain(&error)),
            StoreError::TooLarge { size, limit, .. } => Self::Invalid(format!(
                "the request is too large: what is to be remembered has {size} bytes, at most {limit} are possible"
            )),
            _ => Self::internal(&error),
        }
    }
}

impl From<EngineError> for CloudError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NotFound(id) => Self::not_found(Kind::Container, id.to_string()),
            EngineError::NoExec(id) => Self::not_found(Kind::Exec, id.to_string()),
            EngineError::StartFailed { message, code } => Self::StartFailed { message, code },
            EngineError::Image(error) => error.into(),
            EngineError::Store(error) => error.into(),
            EngineError::Invalid(text) => Self::Invalid(text),
            EngineError::ReadOnly(text) => Self::Forbidden(text.to_owned()),
            other @ EngineError::NoFile { .. } => Self::Missing(other.to_string()),
            EngineError::Missing(text) => Self::Missing(text),
            EngineError::Unsupported(text) => Self::Unsupported(text),
            EngineError::Oci(error) => Self::Invalid(chain(&error)),
            other @ (EngineError::NotRunning(_)
            | EngineError::AlreadyPaused(_)
            | EngineError::NotPaused(_)
            | EngineError::Paused(_)
            | EngineError::Conflict(_)) => Self::Conflict(other.to_string()),
            other => Self::internal(&other),
        }
    }
}

impl From<ImageError> for CloudError {
    fn from(error: ImageError) -> Self {
        crate::images::error(error)
    }
}

impl From<NetError> for CloudError {
    fn from(error: NetError) -> Self {
        crate::networks::error(error)
    }
}
