//! Patterns of names as Go's `path.Match` has them, which is what dockerd matches `reference=` with
//! (`reference.FamiliarMatch`): `*`, `?`, classes, escapes.
//!
//! ```text
//!  pattern  { term }
//!  term     '*' anything without a slash │ '?' one character that is none │ '[' [ '^' ] range { range } ']' │ '\\' c │ c
//!  range    c │ c '-' c      where c is '\\' c, or none of \ - ]
//! ```
//!
//! A pattern is read once and as a whole, so that a malformed one is refused whatever it is held against. Matching is Go's, too:
//! what follows a star is taken where it fits first. That is never more work than pattern times name.

/// Some stars, and what must follow them at once.
#[derive(Debug, Default)]
struct Chunk {
    star: bool,
    terms: Vec<Term>,
}

/// What one character is held against.
#[derive(Debug)]
enum Term {
    One(char),
    NoSlash,
    /// A class may hold a slash (and a negated one does), as Go's.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// A pattern that was read.
#[derive(Debug)]
pub(crate) struct Pattern(Vec<Chunk>);

/// The pattern is malformed (Go's `path.ErrBadPattern`).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub(crate) struct Malformed;

impl std::str::FromStr for Pattern {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut chunks = vec![Chunk::default()];
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            let term = match letter {
                '*' => {
                    // Several are as one.
                    if chunks.last().is_none_or(|c| !c.star || !c.terms.is_empty()) {
                        chunks.push(Chunk { star: true, terms: Vec::new() });
                    }
                    continue;
                }
                '?' => Term::NoSlash,
                '\\' => Term::One(letters.next().ok_or(Malformed)?),
                '[' => class(&mut letters)?,
                other => Term::One(other),
            };
            if let Some(chunk) = chunks.last_mut() {
                chunk.terms.push(term);
            }
        }
        Ok(Self(chunks))
    }
}

/// The rest of a class, behind its bracket.
fn class(letters: &mut std::str::Chars<'_>) -> Result<Term, Malformed> {
    let negated = letters.as_str().starts_with('^');
    if negated {
        letters.next();
    }
    let mut ranges = Vec::new();
    loop {
        if letters.as_str().starts_with(']') && !ranges.is_empty() {
            letters.next();
            return Ok(Term::Class { negated, ranges });
        }
        let first = bound(letters)?;
        let last = if letters.as_str().starts_with('-') {
            letters.next();
            bound(letters)?
        } else {
            first
        };
        ranges.push((first, last));
    }
}

/// One end of a range.
fn bound(letters: &mut std::str::Chars<'_>) -> Result<char, Malformed> {
    match letters.next().ok_or(Malformed)? {
        '-' | ']' => Err(Malformed),
        '\\' => letters.next().ok_or(Malformed),
        other => Ok(other),
    }
}

impl Term {
    fn takes(&self, letter: char) -> bool {
        match self {
            Self::One(one) => *one == letter,
            Self::NoSlash => letter != '/',
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&letter)) != *negated
            }
        }
    }
}

impl Chunk {
    /// What is left of a name that begins so.
    fn begins<'n>(&self, name: &'n [char]) -> Option<&'n [char]> {
        let (head, rest) = name.split_at_checked(self.terms.len())?;
        self.terms.iter().zip(head).all(|(term, letter)| term.takes(*letter)).then_some(rest)
    }
}

impl Pattern {
    /// Whether it fits the whole name.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let mut rest = name.as_slice();
        for (at, chunk) in self.0.iter().enumerate() {
            let ends = at + 1 == self.0.len();
            if ends && chunk.star && chunk.terms.is_empty() {
                return !rest.contains(&'/');
            }
            // What the star takes has no slash.
            let most = if chunk.star { rest.iter().take_while(|c| **c != '/').count() } else { 0 };
            let fits = |from: usize| {
                let after = rest.get(from..).and_then(|name| chunk.begins(name))?;
                (!ends || after.is_empty()).then_some(after)
            };
            let Some(after) = (0..=most).find_map(fits) else { return false };
            rest = after;
        }
        rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go's own table of `path.Match` (`src/path/match_test.go`), and names of images.
    #[test]
    fn names_match_as_in_go() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[x\\-]", "z", false),
            ("[\\-x]", "a", false),
            ("*x", "xxx", true),
            ("bb[ab]", "bbb", true),
            ("bb[ab]", "bbc", false),
            ("bb[ab]:[0-9]*", "bba:1.2", true),
            // Not the shell's: the sign is one of the class.
            ("bb[!a]", "bb!", true),
            ("bb[!a]", "bbb", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(pattern.parse::<Pattern>().unwrap().matches(name), expected, "{pattern} {name}");
        }
        // A star that takes what makes others fit would be tried again and again.
        let stars = "a*".repeat(40) + "b";
        assert!(!stars.parse::<Pattern>().unwrap().matches(&"a".repeat(4000)));
    }

    #[test]
    fn malformed_ones_are_refused() {
        for pattern in
            ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\", "[\\", "[a\\"]
        {
            assert_eq!(
                pattern.parse::<Pattern>().unwrap_err().to_string(),
                "syntax error in pattern",
                "{pattern}"
            );
        }
    }
}
