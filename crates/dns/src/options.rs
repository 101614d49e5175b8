//! The options of resolv.conf(5) that matter to who asks for others, with the bounds that the C library has.

use std::time::Duration;

use weft_model::ndots;

/// What the options say; what they do not say is left to whoever uses them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `ndots:1` and more: a name has at least one dot before it is asked as it is.
    pub(crate) dots: Option<bool>,
    /// How long one server is waited for.
    pub(crate) timeout: Option<Duration>,
    /// How often the servers are gone through.
    pub(crate) attempts: Option<u32>,
    /// Each query begins with another server.
    pub(crate) rotate: bool,
}

impl Options {
    /// Reads options such as `ndots:1`; of each kind the last counts that makes sense.
    pub(crate) fn parse<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Self {
        let mut options = Self::default();
        for word in words {
            let word = word.as_ref();
            if let Some(Ok(dots)) = ndots(word) {
                options.dots = Some(dots > 0);
            }
            let (name, value) = word.split_once(':').unwrap_or((word, ""));
            match (name, value.parse::<u32>().ok()) {
                ("timeout", Some(seconds)) => {
                    options.timeout = Some(Duration::from_secs(seconds.clamp(1, 30).into()));
                }
                ("attempts", Some(count)) => options.attempts = Some(count.clamp(1, 5)),
                ("rotate", _) => options.rotate = true,
                _ => {}
            }
        }
        options
    }

    /// These, and where they say nothing what `others` say.
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            dots: self.dots.or(others.dots),
            timeout: self.timeout.or(others.timeout),
            attempts: self.attempts.or(others.attempts),
            rotate: self.rotate || others.rotate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_kind_counts_within_bounds() {
        let dots = |options: &[&str]| Options::parse(options).dots;
        assert_eq!(dots(&[]), None);
        assert_eq!(dots(&["edns0", "ndots:x"]), None);
        assert_eq!(dots(&["ndots:0"]), Some(false));
        assert_eq!(dots(&["ndots:0", "ndots:5"]), Some(true));
        assert_eq!(dots(&["ndots:5", "ndots:x"]), Some(true));
        assert_eq!(dots(&["ndots:99999999999"]), Some(true));
        let options = Options::parse(["timeout:9", "timeout:3", "attempts:2", "rotate"]);
        let wanted =
            Options { dots: None, timeout: Some(Duration::from_secs(3)), attempts: Some(2), rotate: true };
        assert_eq!(options, wanted);
        let wild = Options::parse(["timeout:0", "attempts:4000000"]);
        assert_eq!((wild.timeout, wild.attempts), (Some(Duration::from_secs(1)), Some(5)));
        assert_eq!(Options::parse(["timeout:99"]).timeout, Some(Duration::from_secs(30)));
        let both = Options::parse(["timeout:5"]).or(options);
        assert_eq!(both, Options { timeout: Some(Duration::from_secs(5)), ..wanted });
    }
}
