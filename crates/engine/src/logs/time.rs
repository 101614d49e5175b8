//! Times as text, fast: a log has one for each line.
//!
//! Civil dates by Howard Hinnant's `days_from_civil` and its inverse (proleptic Gregorian calendar, UTC).

use weft_base::Timestamp;

/// Writes `time` as Go's `RFC3339Nano`: nanoseconds without trailing zeros.
pub(super) fn push_trimmed(out: &mut Vec<u8>, time: Timestamp) {
    let start = out.len();
    push_fixed(out, time);
    out.pop();
    while out.len() > start && out.last() == Some(&b'0') {
        out.pop();
    }
    if out.last() == Some(&b'.') {
        out.pop();
    }
    out.push(b'Z');
}

/// Writes `time` with all nine digits of nanoseconds (`2026-01-02T03:04:05.000000000Z`), as Docker shows it.
pub fn push_fixed(out: &mut Vec<u8>, time: Timestamp) {
    let secs = time.unix_secs();
    let nanos = time.unix_nanos().rem_euclid(1_000_000_000).unsigned_abs();
    let (year, month, day) = civil(secs.div_euclid(86_400));
    let second = secs.rem_euclid(86_400).unsigned_abs();
    digits(out, year, 4);
    for (mark, value) in [(b'-', month), (b'-', day), (b'T', second / 3600)] {
        out.push(mark);
        digits(out, value, 2);
    }
    for value in [second / 60 % 60, second % 60] {
        out.push(b':');
        digits(out, value, 2);
    }
    out.push(b'.');
    digits(out, nanos, 9);
    out.push(b'Z');
}

fn digits(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut text = [b'0'; 20];
    for place in text[..width].iter_mut().rev() {
        *place = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
    out.extend_from_slice(&text[..width]);
}

fn civil(days: i64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year.unsigned_abs(), month.unsigned_abs(), day.unsigned_abs())
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

/// Reads times, remembering the last second because neighbours share it.
#[derive(Debug, Default)]
pub(super) struct TimeParser {
    text: [u8; 19],
    secs: i64,
}

impl TimeParser {
    /// RFC 3339; the common form ending in `Z` costs a few nanoseconds.
    pub fn parse(&mut self, text: &[u8]) -> Option<Timestamp> {
        let (head, tail) = text.split_at_checked(19)?;
        let Some(nanos) = fraction(tail) else {
            return Timestamp::parse_rfc3339(std::str::from_utf8(text).ok()?);
        };
        if head != self.text {
            self.secs = seconds(head)?;
            self.text.copy_from_slice(head);
        }
        Timestamp::from_unix(self.secs, nanos)
    }
}

fn number(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

fn seconds(t: &[u8]) -> Option<i64> {
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|&(i, mark)| t[i] != mark) {
        return None;
    }
    let (year, month, day) = (number(&t[..4])?, number(&t[5..7])?, number(&t[8..10])?);
    let (hour, minute, second) = (number(&t[11..13])?, number(&t[14..16])?, number(&t[17..19])?);
    let sane =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    sane.then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// `Z` or `.` digits `Z`, as nanoseconds.
fn fraction(tail: &[u8]) -> Option<u32> {
    match tail {
        b"Z" => Some(0),
        [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) => {
            let mut nanos = 0u32;
            for i in 0..9 {
                let digit = digits.get(i).copied().unwrap_or(b'0');
                nanos = nanos * 10 + u32::from(digit.is_ascii_digit().then(|| digit - b'0')?);
            }
            Some(nanos)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back_agrees_with_chrono() {
        let mut parser = TimeParser::default();
        for (secs, nanos) in
            [(0, 0), (951_782_400, 1), (1_700_000_000, 120_000_000), (4_102_444_799, 999_999_999), (-1, 5)]
        {
            let time = Timestamp::from_unix(secs, nanos).unwrap();
            let mut trimmed = Vec::new();
            push_trimmed(&mut trimmed, time);
            assert_eq!(String::from_utf8(trimmed.clone()).unwrap(), time.rfc3339_nano());
            assert_eq!(parser.parse(&trimmed), Some(time));
            let mut fixed = Vec::new();
            push_fixed(&mut fixed, time);
            assert_eq!(fixed.len(), 30);
            assert_eq!(parser.parse(&fixed), Some(time));
        }
        let offset = parser.parse(b"2023-11-14T23:13:20+01:00").unwrap();
        assert_eq!(offset.unix_secs(), 1_700_000_000);
    }

    #[test]
    fn nonsense_is_no_time() {
        let mut parser = TimeParser::default();
        for text in
            ["", "2023-11-14", "2023-13-14T22:13:20Z", "2023-11-14T22:13:20.x1Z", "2023-11-14 22:13:20"]
        {
            assert_eq!(parser.parse(text.as_bytes()), None, "{text}");
        }
    }
}
