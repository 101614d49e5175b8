//! Which status code a refusal of the cloud has, in every face.

use http::StatusCode;
use weft_cloud::CloudError;

/// The status code (RFC 9110, section 15) of a use case's failure, as Docker's clients know it.
#[must_use]
pub fn status_of(error: &CloudError) -> StatusCode {
    match error {
        CloudError::NotFound { .. } | CloudError::Missing(_) => StatusCode::NOT_FOUND,
        CloudError::NameInUse { .. } | CloudError::InUse { .. } | CloudError::Conflict(_) => {
            StatusCode::CONFLICT
        }
        CloudError::Ambiguous { .. } | CloudError::Invalid(_) => StatusCode::BAD_REQUEST,
        // No such program, or one that cannot be run: it is the caller's.
        CloudError::StartFailed { code: 126 | 127, .. } => StatusCode::BAD_REQUEST,
        CloudError::NotModified => StatusCode::NOT_MODIFIED,
        CloudError::Forbidden(_) => StatusCode::FORBIDDEN,
        CloudError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        CloudError::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
        CloudError::Unauthorized(_) => StatusCode::UNAUTHORIZED,
        CloudError::StartFailed { .. } | CloudError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault_it_is_says_the_first_digit() {
        let failed = |code| CloudError::StartFailed { message: String::new(), code };
        let seen =
            [failed(127), failed(128), CloudError::Forbidden(String::new())].map(|e| status_of(&e).as_u16());
        assert_eq!(seen, [400, 500, 403]);
    }
}
