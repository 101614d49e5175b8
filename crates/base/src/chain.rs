//! Printing an error with its causes, once, at the edge.

use std::error::Error;

/// `error: cause: cause of the cause`, leaving out a cause whose text its parent already ends with.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #[derive(Debug, thiserror::Error)]
    #[error("opening the door")]
    struct Door(#[source] std::io::Error);

    #[test]
    fn causes_follow_in_order() {
        let e = Door(std::io::Error::other("locked"));
        assert_eq!(super::chain(&e), "opening the door: locked");
    }
}
