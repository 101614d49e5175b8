//! Maps of files with holes: old GNU headers and the text map of pax format 1.0; all maps are checked alike.

use std::io::{self, BufRead};

use super::{BLOCK, Entry, Sparse, number};

/// More extents than this are refused: a map of 16 MB describes nothing that a program wrote.
const MAX_EXTENTS: usize = 1 << 20;

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("tar sparse map {why}"))
}

fn push(extents: &mut Vec<(u64, u64)>, slots: &[u8]) -> io::Result<()> {
    for slot in slots.chunks_exact(24).take_while(|s| s[0] != 0) {
        extents.push((number::parse_u64(&slot[..12])?, number::parse_u64(&slot[12..])?));
    }
    if extents.len() > MAX_EXTENTS { Err(bad("is too long")) } else { Ok(()) }
}

/// The map of an old GNU entry (type `S`): four slots in the header, 21 in each block that follows.
pub(super) fn gnu(header: &[u8; BLOCK], reader: &mut impl BufRead) -> io::Result<Sparse> {
    let mut extents = Vec::new();
    push(&mut extents, &header[386..482])?;
    let mut more = header[482] != 0;
    while more {
        let mut block = [0; BLOCK];
        reader.read_exact(&mut block)?;
        push(&mut extents, &block[..504])?;
        more = block[504] != 0;
    }
    Ok(Sparse { extents, length: number::parse_u64(&header[483..495])? })
}

/// The map of pax format 1.0, which takes the first blocks of the data; `entry.size` shrinks by them.
pub(super) fn pax1(entry: &mut Entry, reader: &mut impl BufRead) -> io::Result<()> {
    let mut used = 0u64;
    let mut numbers = Vec::new();
    let mut want = 1u64;
    let mut current: Option<u64> = None;
    while (numbers.len() as u64) < want {
        let mut block = [0; BLOCK];
        used += BLOCK as u64;
        if used > entry.size {
            return Err(bad("is cut short"));
        }
        reader.read_exact(&mut block)?;
        for byte in block {
            match byte {
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    let value = current.unwrap_or(0).checked_mul(10).and_then(|v| v.checked_add(digit));
                    current = Some(value.ok_or_else(|| bad("has a number too large"))?);
                }
                b'\n' => numbers.push(current.take().ok_or_else(|| bad("has an empty line"))?),
                _ => return Err(bad("holds something else than digits")),
            }
            if numbers.len() == 1 {
                if numbers[0] > MAX_EXTENTS as u64 {
                    return Err(bad("is too long"));
                }
                want = 1 + 2 * numbers[0];
            }
            if numbers.len() as u64 >= want {
                break;
            }
        }
    }
    entry.size -= used;
    if let Some(sparse) = &mut entry.sparse {
        sparse.extents = numbers[1..].chunks_exact(2).map(|c| (c[0], c[1])).collect();
    }
    Ok(())
}

/// Extents must ascend, lie within the file, and sum up to the data.
pub(super) fn check(entry: &mut Entry) -> io::Result<()> {
    let Some(sparse) = &mut entry.sparse else { return Ok(()) };
    let (mut end, mut sum) = (0u64, 0u64);
    for (offset, length) in &sparse.extents {
        let after = offset.checked_add(*length).ok_or_else(|| bad("overflows"))?;
        if *offset < end || after > sparse.length {
            return Err(bad("is out of order"));
        }
        end = after;
        sum += length;
    }
    sparse.extents.retain(|(_, length)| *length > 0);
    if sum == entry.size { Ok(()) } else { Err(bad("does not match the data")) }
}
