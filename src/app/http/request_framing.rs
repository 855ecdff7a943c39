//! Finds where request heads and chunked bodies end, so a connection can pass on one request at a time.
//!
//! The server parses these requests; this module only splits them. A line must end with CRLF. RFC 9112 (section 2.2)
//! lets a server accept a bare LF. A proxy in front may not treat it as a line end, and the two would disagree about
//! where a request ends. A bare LF in a head or in chunk framing is therefore replaced by [`INVALID`], which the server
//! rejects with 400.

/// A byte that is valid nowhere in a head or in chunk framing.
const INVALID: u8 = 0;
/// Maximum hexadecimal digits of a chunk's size.
const SIZE_DIGITS: u8 = 15;
/// Maximum bytes of framing between two chunks, or after the last one: extensions and trailers, which nobody reads. The
/// server has no limit of its own, and waits for their end.
const MAX_FRAMING: usize = 4 * 1024;

/// The end of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeadEnd {
    /// The offset of the first byte after the head.
    pub at: usize,
    /// Bytes of the body that may be passed on with the head. 0 if it is unknown, or if the body is chunked.
    pub body: u64,
}

/// The scan of a head that may arrive in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeadScan {
    /// Bytes of the current line.
    line: usize,
    /// The last byte was CR.
    carriage: bool,
    /// A line that is not empty has been seen.
    started: bool,
}

impl HeadScan {
    /// The end of the head, if it is in `bytes`. Replaces bare LFs.
    pub fn end(&mut self, bytes: &mut [u8]) -> Option<HeadEnd> {
        // A head that began in an earlier piece is passed on alone, since the start of its lines is gone.
        let whole = *self == HeadScan::default();
        let (mut start, mut length, mut chunked) = (0, None, false);
        for at in 0..bytes.len() {
            let carriage = std::mem::replace(&mut self.carriage, bytes[at] == b'\r');
            if bytes[at] == b'\n' && !carriage {
                bytes[at] = INVALID;
            }
            match bytes[at] {
                b'\n' => {
                    // Without its CR.
                    let empty = self.line == 1;
                    if empty && self.started {
                        *self = HeadScan::default();
                        let body = if whole && !chunked { length.unwrap_or(0) } else { 0 };
                        return Some(HeadEnd { at: at + 1, body });
                    }
                    if whole && !empty {
                        let line = &bytes[start..at - 1];
                        chunked |= value_of(line, b"transfer-encoding:").is_some();
                        length = length.or_else(|| number(value_of(line, b"content-length:")?));
                    }
                    self.started |= !empty;
                    (self.line, start) = (0, at + 1);
                }
                _ => self.line += 1,
            }
        }
        None
    }
}

/// The rest of a line that starts with `name`, in any case.
fn value_of<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(rest)
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// The next bytes of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkPart {
    /// Digits of a size: its value and their number.
    Size(u64, u8),
    /// An extension, up to the end of the line.
    Extension(u64),
    /// Remaining bytes of a chunk, and the CRLF behind it.
    Data(u64),
    /// Lines after the last chunk: the length of the current one.
    Trailer(usize),
    /// Invalid framing: everything is passed on, and the server rejects it.
    Broken,
}

/// The scan of a chunked body that may arrive in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkScan {
    part: ChunkPart,
    /// The last byte of a framing line was CR.
    carriage: bool,
    /// Bytes of framing since the last chunk.
    framing: usize,
}

impl Default for ChunkScan {
    fn default() -> ChunkScan {
        ChunkScan { part: ChunkPart::Size(0, 0), carriage: false, framing: 0 }
    }
}

impl ChunkScan {
    /// Whether there was more framing than any client needs: the connection must be closed.
    pub fn is_excessive(self) -> bool {
        self.framing > MAX_FRAMING
    }

    /// The offset after the body, if its end is in `bytes`. Replaces bare LFs of the framing.
    pub fn end(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if let ChunkPart::Data(left) = self.part {
                let skipped = (bytes.len() - at).min(usize::try_from(left).unwrap_or(usize::MAX));
                at += skipped;
                let left = left - skipped as u64;
                self.framing = 0;
                self.part = if left == 0 { ChunkPart::Size(0, 0) } else { ChunkPart::Data(left) };
                continue;
            }
            let carriage = std::mem::replace(&mut self.carriage, bytes[at] == b'\r');
            self.framing += 1;
            if bytes[at] == b'\n' && !carriage {
                bytes[at] = INVALID;
            }
            self.part = match (self.part, bytes[at]) {
                (ChunkPart::Extension(0), b'\n') => ChunkPart::Trailer(0),
                // With the CRLF behind the chunk.
                (ChunkPart::Extension(size), b'\n') => ChunkPart::Data(size + 2),
                (ChunkPart::Trailer(1), b'\n') => {
                    *self = ChunkScan::default();
                    return Some(at + 1);
                }
                (ChunkPart::Trailer(_), b'\n') => ChunkPart::Trailer(0),
                (ChunkPart::Trailer(length), _) => ChunkPart::Trailer(length.saturating_add(1)),
                (ChunkPart::Size(size, digits), byte) => match char::from(byte).to_digit(16) {
                    Some(digit) if digits < SIZE_DIGITS => ChunkPart::Size(size * 16 + u64::from(digit), digits + 1),
                    None if digits > 0 => ChunkPart::Extension(size),
                    _ => ChunkPart::Broken,
                },
                (part, _) => part,
            };
            at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing::fuzz;

    fn head(text: &str) -> (Option<HeadEnd>, Vec<u8>) {
        let mut bytes = text.as_bytes().to_vec();
        (HeadScan::default().end(&mut bytes), bytes)
    }

    #[test]
    fn a_head_ends_at_its_empty_line() {
        for (text, at, body) in [
            ("GET / HTTP/1.1\r\n\r\nmore", 18, 0),
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", 22, 0),
            ("POST / HTTP/1.1\r\ncontent-LENGTH:\t7 \r\nA: b\r\n\r\n{}", 45, 7),
            ("POST / HTTP/1.1\r\ncontent-length: 7\r\ntransfer-encoding: chunked\r\n\r\n", 66, 0),
            ("POST / HTTP/1.1\r\nx-content-length: 7\r\n\r\n", 40, 0),
        ] {
            assert_eq!(head(text).0, Some(HeadEnd { at, body }), "{text:?}");
        }
        assert_eq!(head("GET / HTTP/1.1\r\nhost: a\r\n\r").0, None);
    }

    #[test]
    fn a_bare_line_feed_does_not_end_a_line() {
        for text in ["GET / HTTP/1.1\n\r\n\r\n", "GET / HTTP/1.1\r\na: b\nc: d\r\n\r\n", "\nGET / HTTP/1.1\r\n\r\n"] {
            let (end, bytes) = head(text);
            assert_eq!(end.map(|end| end.at), Some(text.len()), "{text:?}");
            assert_eq!(bytes.iter().filter(|byte| **byte == INVALID).count(), 1, "{text:?}");
        }
        assert_eq!(head("GET / HTTP/1.1\n\n").0, None, "it is not even a head");
        let mut chunks = b"1\nx\r\n0\r\n\r\n".to_vec();
        ChunkScan::default().end(&mut chunks);
        assert_eq!(chunks[1], INVALID);
        let mut data = b"3\r\n\n\n\n\r\n0\r\n\r\n".to_vec();
        assert_eq!(ChunkScan::default().end(&mut data), Some(13), "a chunk may contain any byte");
        assert!(!data.contains(&INVALID));
    }

    #[test]
    fn a_chunked_body_ends_at_its_last_empty_line() {
        let end = |text: &str| ChunkScan::default().end(&mut text.as_bytes().to_vec());
        for text in [
            "0\r\n\r\n",
            "5\r\n0\r\n\r\n\r\n0\r\n\r\n",
            "000A;a=\"b\"\r\n0123456789\r\n0;last\r\n\r\n",
            "1 \r\nx\r\n0\r\na: b\r\nc: d\r\n\r\n",
        ] {
            assert_eq!(end(&format!("{text}GET /")), Some(text.len()), "{text:?}");
        }
        for text in ["x\r\n0\r\n\r\n", "\r\n0\r\n\r\n", "ffffffffffffffff\r\n0\r\n\r\n", "-1\r\n0\r\n\r\n"] {
            assert_eq!(end(text), None, "rejected by the server: {text:?}");
        }
    }

    #[test]
    fn framing_without_end_is_excessive() {
        for (start, piece) in [("1", ";a=b"), ("0\r\n", "a: b\r\n")] {
            let mut scan = ChunkScan::default();
            assert_eq!(scan.end(start.as_bytes().to_vec().as_mut_slice()), None);
            assert!(!scan.is_excessive());
            assert_eq!(scan.end(piece.repeat(MAX_FRAMING / piece.len() + 1).as_bytes().to_vec().as_mut_slice()), None);
            assert!(scan.is_excessive(), "{piece:?}");
        }
        let mut scan = ChunkScan::default();
        assert_eq!(scan.end("1\r\nx\r\n".repeat(MAX_FRAMING).as_bytes().to_vec().as_mut_slice()), None);
        assert!(!scan.is_excessive(), "chunks reset it");
    }

    /// However the input is split, each byte is passed on once, and heads and bodies end at the same places.
    #[test]
    fn fuzz_framing() {
        let texts = prop_oneof![
            "(GET|POST) / HTTP/1.1\r\n([a-z]{1,3}: [a-z]{0,3}\r?\n){0,3}\r\n.{0,8}",
            "([0-9a-f]{1,3}(;[a-z]*)?\r?\n[a-z\r\n]{0,12}\r\n){0,4}0\r\n(a: b\r\n)?\r\n.{0,4}",
            "[\r\nab:0-9 ;]{0,60}",
        ];
        fuzz("framing", texts, prop::collection::vec(0usize..60, 0..6), |text, cuts| {
            let whole = text.as_bytes();
            let mut cuts: Vec<usize> =
                cuts.iter().copied().filter(|cut| *cut <= whole.len()).chain([0, whole.len()]).collect();
            cuts.sort_unstable();
            let pieces = || cuts.windows(2).map(|cut| (cut[0], whole[cut[0]..cut[1]].to_vec()));
            let (mut once, mut scan) = (whole.to_vec(), HeadScan::default());
            let head = HeadScan::default().end(&mut once).map(|end| end.at);
            let found = pieces().find_map(|(from, mut piece)| scan.end(&mut piece).map(|end| from + end.at));
            prop_assert_eq!(found, head, "a head: {:?}", text);
            let (mut once, mut scan) = (whole.to_vec(), ChunkScan::default());
            let body = ChunkScan::default().end(&mut once);
            let found = pieces().find_map(|(from, mut piece)| scan.end(&mut piece).map(|end| from + end));
            prop_assert_eq!(found, body, "chunks: {:?}", text);
            prop_assert!(once.iter().zip(whole).all(|(now, before)| now == before || *now == INVALID));
            Ok(vec![format!("{} {} {}", head.is_some(), body.is_some(), once == whole)])
        });
    }
}
