//! The box walk, ISO 14496-12 §4.2: every byte read is checked, and every defect knows where it stands.

use std::fmt;

use super::{Defect, ParseError};

/// A box type, handler or codec: four bytes that are mostly letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FourCc(pub [u8; 4]);

impl fmt::Display for FourCc {
    /// Printable characters as they are, other bytes escaped: the text comes from the network.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&byte| match byte {
            b' '..=b'~' => write!(f, "{}", char::from(byte)),
            _ => write!(f, "\\x{byte:02x}"),
        })
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{self}'")
    }
}

/// The deepest box that is read: `moov/trak/mdia/minf/stbl/stsd/encv/sinf/schm`.
const MAX_DEPTH: usize = 9;

/// The types of the boxes around a place, outermost first.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Path([Option<FourCc>; MAX_DEPTH]);

impl Path {
    pub(super) fn of(kind: FourCc) -> Self {
        Self::default().join(kind)
    }

    /// The path of a box inside; a level too deep to be read keeps the path of its parent.
    fn join(mut self, kind: FourCc) -> Self {
        if let Some(free) = self.0.iter_mut().find(|part| part.is_none()) {
            *free = Some(kind);
        }
        self
    }

    pub(super) fn is_top(self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().flatten().enumerate().try_for_each(|(depth, kind)| match depth {
            0 => write!(f, "{kind}"),
            _ => write!(f, "/{kind}"),
        })
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes yet to be read, with their place.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    offset: u64,
    path: Path,
}

impl<'a> Cursor<'a> {
    /// A whole body, from its byte 0.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0, path: Path::default() }
    }

    /// What has not been read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes not read yet.
    pub(super) fn left(&self) -> u64 {
        length(self.bytes)
    }

    /// Position in the body of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// A defect at the next byte.
    pub(super) fn defect(&self, defect: Defect) -> ParseError {
        ParseError { offset: self.offset, path: self.path, defect }
    }

    /// Reads `count` bytes.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], ParseError> {
        let split = usize::try_from(count).ok().and_then(|count| self.bytes.split_at_checked(count));
        let Some((taken, rest)) = split else { return Err(self.defect(Defect::EndsTooEarly)) };
        self.bytes = rest;
        // Both are at most the length of the body.
        self.offset = self.offset.saturating_add(count);
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        let Some(&array) = self.bytes.first_chunk() else { return Err(self.defect(Defect::EndsTooEarly)) };
        self.take(length(&array))?;
        Ok(array)
    }

    pub(super) fn u16(&mut self) -> Result<u16, ParseError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ParseError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, ParseError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, ParseError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, ParseError> {
        self.array().map(i64::from_be_bytes)
    }

    pub(super) fn four_cc(&mut self) -> Result<FourCc, ParseError> {
        self.array().map(FourCc)
    }

    /// Version and flags of a full box, §4.2.2.
    pub(super) fn version_and_flags(&mut self) -> Result<(u8, u32), ParseError> {
        let [version, a, b, c] = self.array()?;
        Ok((version, u32::from_be_bytes([0, a, b, c])))
    }
}

fn length(bytes: &[u8]) -> u64 {
    // No slice is longer than u64 counts.
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// One box.
#[derive(Clone, Copy)]
pub(super) struct Mp4Box<'a> {
    pub(super) kind: FourCc,
    /// Position of its first header byte.
    pub(super) start: u64,
    /// What is there of its body.
    pub(super) body: Cursor<'a>,
    /// Its size by its header where the input ends before that, which only a box at the top may do.
    cut_from: Option<u64>,
}

impl<'a> Mp4Box<'a> {
    /// A defect at the first byte of the box.
    pub(super) fn defect(&self, defect: Defect) -> ParseError {
        ParseError { offset: self.start, path: self.body.path, defect }
    }

    /// The defect of a box that the input ends in.
    pub(super) fn truncation(&self) -> Option<ParseError> {
        let left = self.body.offset.saturating_sub(self.start).saturating_add(self.body.left());
        self.cut_from.map(|size| self.defect(Defect::BoxTooLong { size, left }))
    }

    /// The same box with the rest of its body, after the fields in front of its children were read.
    pub(super) fn with_body(self, body: Cursor<'a>) -> Self {
        Self { body, ..self }
    }

    /// The boxes in the body.
    pub(super) fn children(&self) -> Boxes<'a> {
        Boxes(self.body)
    }

    /// The first box of a type in the body.
    pub(super) fn child(&self, kind: [u8; 4]) -> Result<Option<Self>, ParseError> {
        self.children().find(|child| child.as_ref().map_or(true, |child| child.kind.0 == kind)).transpose()
    }

    /// The same where the box may not be left out.
    pub(super) fn required(&self, kind: [u8; 4]) -> Result<Self, ParseError> {
        self.child(kind)?.ok_or_else(|| self.defect(Defect::MissingBox(FourCc(kind))))
    }
}

/// The boxes one after the other, without going into them. After a defect the iterator ends.
pub(super) struct Boxes<'a>(pub(super) Cursor<'a>);

impl<'a> Boxes<'a> {
    fn split(&mut self) -> Result<Mp4Box<'a>, ParseError> {
        let Cursor { bytes, offset: start, path: parent } = self.0;
        let short = self.0.defect(Defect::BoxHeader { left: length(bytes) });
        let header = &mut self.0;
        let size = header.u32().map_err(|_| short.clone())?;
        let kind = header.four_cc().map_err(|_| short.clone())?;
        let path = parent.join(kind);
        let at_start = |defect| ParseError { offset: start, path, defect };
        // Size 1: a 64-bit size follows. Size 0: up to the end of the file, which makes sense at the top only and is an
        // endless loop for readers that step on by it elsewhere.
        let size = match size {
            0 if parent.is_top() => length(bytes),
            0 => return Err(at_start(Defect::SizeZero)),
            1 => header.u64().map_err(|_| short)?,
            _ => u64::from(size),
        };
        let header_size = header.offset.saturating_sub(start);
        let Some(wanted) = size.checked_sub(header_size) else { return Err(at_start(Defect::BoxSize(size))) };
        let left = header.left();
        if wanted > left && !parent.is_top() {
            return Err(at_start(Defect::BoxTooLong { size, left: left.saturating_add(header_size) }));
        }
        let offset = header.offset;
        let body = Cursor { bytes: header.take(wanted.min(left))?, offset, path };
        Ok(Mp4Box { kind, start, body, cut_from: (wanted > left).then_some(size) })
    }
}

impl<'a> Iterator for Boxes<'a> {
    type Item = Result<Mp4Box<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.bytes.is_empty() {
            return None;
        }
        let result = self.split();
        if result.is_err() {
            self.0.bytes = &[];
        }
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Vec<Result<(String, u64, usize), String>> {
        Boxes(Cursor::new(bytes))
            .map(|found| match found {
                Ok(found) => Ok((found.kind.to_string(), found.start, found.body.rest().len())),
                Err(error) => Err(error.to_string()),
            })
            .collect()
    }

    #[test]
    fn sizes_of_32_and_64_bits_and_to_the_end() {
        let bytes = [
            &[0, 0, 0, 9][..], // size
            b"free\x07",
            &[0, 0, 0, 1], // a 64-bit size follows the type
            b"uuid",
            &[0, 0, 0, 0, 0, 0, 0, 17, 7],
            &[0, 0, 0, 0], // to the end
            b"mdat\x01\x02",
        ]
        .concat();
        let expected = [("free", 0, 1), ("uuid", 9, 1), ("mdat", 26, 2)];
        assert_eq!(walk(&bytes), expected.map(|(kind, at, size)| Ok((kind.to_owned(), at, size))));
    }

    #[test]
    fn damage_is_named_with_its_place_and_ends_the_walk() {
        let cases: [(&[u8], &str); 4] = [
            (b"\0\0\0\x07free\0\0\0\x08free", "at byte 0 in free: box size of 7 bytes, less than its header"),
            (b"\0\0\0\x01free\0\0\0\0\0\0\0\x0f", "at byte 0 in free: box size of 15 bytes, less than its header"),
            (b"\0\0\0\x01free\0\0", "at byte 0: box header cut short after 10 bytes"),
            (b"\0\0", "at byte 0: box header cut short after 2 bytes"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(walk(bytes), [Err(expected.to_owned())]);
        }
    }

    #[test]
    fn nested_boxes_stay_inside_their_parent() {
        let in_moov = |child: &[u8]| {
            let size = u32::try_from(8 + child.len()).unwrap().to_be_bytes();
            let bytes = [&size, &b"moov"[..], child].concat();
            let moov = Boxes(Cursor::new(&bytes)).next().unwrap().unwrap();
            moov.required(*b"trak").map(|trak| trak.start).map_err(|error| error.to_string())
        };
        assert_eq!(in_moov(b"\0\0\0\x08free\0\0\0\x08trak"), Ok(16));
        let cases: [(&[u8], &str); 3] = [
            (b"\0\0\0\0free", "at byte 8 in moov/free: box size of zero inside another box"),
            (b"\0\0\0\x0dtrak\0\0\0\x00", "at byte 8 in moov/trak: box of 13 bytes where 12 are left"),
            (b"\0\0\0\x08free", "at byte 0 in moov: box trak missing"),
        ];
        for (child, expected) in cases {
            assert_eq!(in_moov(child), Err(expected.to_owned()));
        }
    }

    #[test]
    fn hostile_types_are_escaped() {
        assert_eq!(FourCc(*b"a\x1b\xff\n").to_string(), "a\\x1b\\xff\\x0a");
        let mut path = Path::default();
        for _ in 0..20 {
            path = path.join(FourCc(*b"moov"));
        }
        assert_eq!(path.to_string().split('/').count(), MAX_DEPTH);
    }
}
