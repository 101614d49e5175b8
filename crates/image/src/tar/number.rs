//! Numbers in header fields: octal text, or base 256 when the first bit is set.

use std::io;

/// Reads a numeric field; blanks and NULs around octal digits are skipped, an empty field is 0.
pub(super) fn parse(field: &[u8]) -> io::Result<i64> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "tar header with a malformed number");
    if let Some(first) = field.first().filter(|b| **b & 0x80 != 0) {
        let negative = first & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (i, byte) in field.iter().enumerate() {
            let byte = if i == 0 && !negative { byte & 0x7f } else { *byte };
            value = (value << 8) | i128::from(byte);
            if i64::try_from(value).is_err() {
                return Err(bad());
            }
        }
        return i64::try_from(value).map_err(|_| bad());
    }
    let text = field.split(|b| *b == 0).next().unwrap_or_default().trim_ascii();
    text.iter().try_fold(0i64, |sum, b| match b {
        b'0'..=b'7' => sum.checked_mul(8).and_then(|s| s.checked_add(i64::from(b - b'0'))).ok_or_else(bad),
        _ => Err(bad()),
    })
}

/// Reads a number that cannot be negative.
pub(super) fn parse_u64(field: &[u8]) -> io::Result<u64> {
    u64::try_from(parse(field)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "tar header with a negative number"))
}

/// Writes octal digits when they fit, base 256 otherwise.
pub(super) fn format(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    if digits * 3 >= 64 || value >> (digits * 3) == 0 {
        let text = format!("{value:0digits$o}");
        field[..digits].copy_from_slice(text.as_bytes());
        field[digits] = 0;
    } else {
        let bytes = value.to_be_bytes();
        field.fill(0);
        let len = field.len();
        let n = bytes.len().min(len - 1);
        field[len - n..].copy_from_slice(&bytes[bytes.len() - n..]);
        field[0] = 0x80;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_bad_ones_are_refused() {
        for value in [0, 1, 0o777, (1 << 33) - 1, 1 << 33, 1 << 40] {
            let mut field = [0; 12];
            format(&mut field, value);
            assert_eq!(parse_u64(&field).unwrap(), value);
        }
        assert_eq!(parse(b"  644 \0x").unwrap(), 0o644);
        assert_eq!(parse(&[0xff; 12]).unwrap(), -1);
        for bad in [&b"99"[..], b"-1", b"x", &[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
