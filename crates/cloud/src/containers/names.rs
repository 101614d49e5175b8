//! Friendly names for containers that were given none: `adjective_weaver`.

use weft_model::ContainerId;

const MOODS: &[&str] = &[
    "agile", "amber", "bold", "brave", "bright", "brisk", "calm", "candid", "cheerful", "clever", "cosy",
    "crisp", "curious", "daring", "deft", "eager", "earnest", "elegant", "fair", "fearless", "festive",
    "fond", "frosty", "gentle", "glad", "golden", "graceful", "happy", "hardy", "honest", "humble", "jolly",
    "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow", "merry", "mighty", "modest", "nimble",
    "noble", "patient", "placid", "plucky", "polite", "proud", "quick", "quiet", "radiant", "ready",
    "serene", "sharp", "silent", "sincere", "smooth", "snug", "spry", "steady", "stoic", "sunny", "swift",
    "tender", "tidy", "trusty", "upbeat", "vivid", "warm", "wise", "witty", "zealous",
];
const PEOPLE: &[&str] = &[
    "albers",
    "anning",
    "babbage",
    "bell",
    "blodgett",
    "bohr",
    "booth",
    "cartwright",
    "cerf",
    "clarke",
    "cori",
    "crompton",
    "curie",
    "darwin",
    "dijkstra",
    "driscoll",
    "elion",
    "engelbart",
    "euler",
    "faraday",
    "fermat",
    "franklin",
    "galileo",
    "gauss",
    "germain",
    "goodall",
    "hamilton",
    "hargreaves",
    "hawking",
    "hellman",
    "hertz",
    "hodgkin",
    "hopper",
    "hypatia",
    "jacquard",
    "johnson",
    "joliot",
    "kay",
    "keller",
    "kepler",
    "knuth",
    "kovalevskaya",
    "lamarr",
    "lamport",
    "leavitt",
    "liskov",
    "lovelace",
    "maxwell",
    "mayer",
    "meitner",
    "mendel",
    "metcalfe",
    "mirzakhani",
    "moore",
    "noether",
    "nobel",
    "pascal",
    "payne",
    "perlman",
    "planck",
    "postel",
    "ritchie",
    "rosalind",
    "rubin",
    "shannon",
    "stallman",
    "swan",
    "tesla",
    "thompson",
    "torvalds",
    "turing",
    "volta",
    "wilson",
    "wing",
    "yalow",
];

/// A name derived from the id's random bytes; `attempt` makes further ones, with a number at last.
pub(super) fn friendly(id: &ContainerId, attempt: usize) -> String {
    let bytes = id.as_bytes();
    let at = |i: usize| usize::from(bytes[i % 32]) << 8 | usize::from(bytes[(i + 1) % 32]);
    let mood = MOODS[at(16 + 4 * attempt) % MOODS.len()];
    let person = PEOPLE[at(18 + 4 * attempt) % PEOPLE.len()];
    if attempt < 4 { format!("{mood}_{person}") } else { format!("{mood}_{person}{}", at(attempt)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_attempts_differ() {
        let id = ContainerId::new();
        let names: std::collections::BTreeSet<_> = (0..6).map(|i| friendly(&id, i)).collect();
        assert!(names.len() >= 4, "{names:?}");
        assert!(names.iter().all(|n| weft_base::Name::new(n.as_str()).is_ok()));
    }
}
