//! Images: lists, transfers with registries, archives, names.

pub mod archive;
pub mod change;
pub mod list;
pub mod transfer;

/// `repository[:tag]` apart; a port of the registry is not a tag, and a digest has none.
#[must_use]
pub fn split(reference: &str) -> (&str, &str) {
    if reference.contains('@') {
        return (reference, "");
    }
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, ""),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_are_not_tags() {
        for (reference, expected) in [
            ("alpine", ("alpine", "")),
            ("alpine:3", ("alpine", "3")),
            ("h:5000/a", ("h:5000/a", "")),
            ("h:5000/a:b", ("h:5000/a", "b")),
            ("a@sha256:0", ("a@sha256:0", "")),
        ] {
            assert_eq!(super::split(reference), expected);
        }
    }
}
