//! Values that may be partly unknown against values and sets of rules.

use weft_sys::nft::seen::{Element, Set};

use super::packet::Byte;

/// Yes, no, or not known.
pub(crate) type Answer = Option<bool>;

/// Compares as memory does. Equality can be refuted by one known byte.
pub(crate) fn compare(have: &[Byte], op: u32, want: &[u8]) -> Answer {
    let whole: Option<Vec<u8>> = have.iter().copied().collect();
    let Some(whole) = whole else {
        let differs = have.iter().zip(want).any(|(h, w)| h.is_some_and(|h| h != *w));
        return match op {
            0 if differs => Some(false),
            1 if differs => Some(true),
            _ => None,
        };
    };
    let order = whole.as_slice().cmp(want);
    Some(match op {
        0 => order.is_eq(),
        1 => order.is_ne(),
        2 => order.is_lt(),
        3 => order.is_le(),
        4 => order.is_gt(),
        _ => order.is_ge(),
    })
}

/// What a set has.
pub(crate) enum Found<'a> {
    No,
    Maybe,
    Yes(&'a Element),
}

/// What a set has for a value.
pub(crate) fn find<'a>(set: &'a Set, value: &[Byte]) -> Found<'a> {
    let whole: Option<Vec<u8>> = value.iter().copied().collect();
    let otherwise = || set.elements.iter().find(|e| e.catch_all).map_or(Found::No, Found::Yes);
    let Some(whole) = whole else {
        let possible = |e: &&Element| set.interval() || compare(value, 0, &e.key) != Some(false);
        return if set.elements.iter().any(|e| possible(&e)) { Found::Maybe } else { otherwise() };
    };
    let own = || set.elements.iter().filter(|e| !e.catch_all);
    if !set.interval() {
        return own().find(|e| e.key == whole).map_or_else(otherwise, Found::Yes);
    }
    if own().any(|e| e.key_end.is_some()) || !set.fields.is_empty() {
        return own().find(|e| within(set, e, &whole)).map_or_else(otherwise, Found::Yes);
    }
    let last = own().filter(|e| e.key <= whole).max_by(|a, b| a.key.cmp(&b.key).then(b.end.cmp(&a.end)));
    last.filter(|e| !e.end).map_or_else(otherwise, Found::Yes)
}

/// Each field between its ends.
fn within(set: &Set, element: &Element, value: &[u8]) -> bool {
    let end = element.key_end.as_ref().unwrap_or(&element.key);
    let mut at = 0;
    let fields = if set.fields.is_empty() { vec![set.key_length] } else { set.fields.clone() };
    fields.iter().all(|length| {
        let part = |bytes: &[u8]| bytes.get(at..at + length).map(<[u8]>::to_vec);
        let fits = part(&element.key) <= part(value) && part(value) <= part(end);
        at += length.next_multiple_of(4);
        fits
    })
}
