//! Printing an error with its causes, once, at the edge.

use std::{error::Error, io};

/// `error: cause: cause of the cause`, leaving out a cause whose text its parent already ends with. What the kernel answered
/// is written as the C library and Docker's clients know it: `no such file or directory`, without Rust's number behind.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = shown(error);
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = shown(cause);
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn shown(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    let Some(plain) = code.and_then(|code| text.strip_suffix(&format!(" (os error {code})"))) else {
        return text;
    };
    let mut letters = plain.chars();
    let first = letters.next().map(|c| c.to_ascii_lowercase());
    // `Is a directory` becomes small, `RPC struct is bad` stays.
    if letters.clone().next().is_some_and(|c| c.is_ascii_uppercase()) {
        return plain.to_owned();
    }
    first.into_iter().chain(letters).collect()
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
        let e = Door(std::io::Error::from_raw_os_error(2));
        assert_eq!(super::chain(&e), "opening the door: no such file or directory");
    }
}
