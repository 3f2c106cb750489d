//! Builds initialization and media segments byte by byte.

/// A box of the concatenated parts.
pub fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let size = u32::try_from(8 + body.len()).unwrap();
    [&size.to_be_bytes(), &kind[..], &body].concat()
}

/// A box with version and flags.
pub fn full(kind: &[u8; 4], version: u8, flags: u32, parts: &[&[u8]]) -> Vec<u8> {
    let head = (u32::from(version) << 24 | flags).to_be_bytes();
    boxed(kind, &[&head, &parts.concat()])
}

/// 32-bit fields one after the other.
pub fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

/// A sample of one NAL unit behind a length of `length_size` bytes; `size` counts all of it.
pub fn sample(header: u8, size: usize, length_size: usize) -> Vec<u8> {
    let length = (size - length_size).to_be_bytes();
    let mut sample = length[length.len() - length_size..].to_vec();
    sample.push(header);
    sample.resize(size, 0xa0);
    sample
}

/// The payload of an avcC with one SPS and one PPS, which nothing here decodes.
pub fn avcc(length_size: u8) -> Vec<u8> {
    vec![1, 66, 0, 30, 0xfc | (length_size - 1), 0xe1, 0, 2, 0x67, 66, 1, 0, 2, 0x68, 1]
}

/// The payload of an avcC without parameter sets.
pub fn empty_avcc() -> Vec<u8> {
    vec![1, 66, 0, 30, 0xff, 0xe0, 0]
}

/// A visual sample entry of 64x48 with these boxes inside.
pub fn visual(kind: &[u8; 4], extensions: &[u8]) -> Vec<u8> {
    boxed(kind, &[&[0; 24], &[0, 64, 0, 48], &[0; 50], extensions])
}

/// An `avc1` entry.
pub fn avc1(length_size: u8) -> Vec<u8> {
    visual(b"avc1", &boxed(b"avcC", &[&avcc(length_size)]))
}

/// One track of an initialization segment.
#[derive(Clone)]
pub struct Trak {
    pub id: u32,
    pub version: u8,
    pub handler: [u8; 4],
    pub timescale: u32,
    pub entries: Vec<Vec<u8>>,
    /// A whole `edts` box, or nothing.
    pub edts: Vec<u8>,
}

impl Default for Trak {
    fn default() -> Self {
        Self { id: 1, version: 0, handler: *b"vide", timescale: 1000, entries: vec![avc1(4)], edts: Vec::new() }
    }
}

impl Trak {
    pub fn bytes(&self) -> Vec<u8> {
        let times = vec![0; if self.version == 0 { 8 } else { 16 }];
        let tkhd = full(b"tkhd", self.version, 7, &[&times, &words(&[self.id]), &[0; 60]]);
        let mdhd = full(b"mdhd", self.version, 0, &[&times, &words(&[self.timescale]), &[0; 8]]);
        let hdlr = full(b"hdlr", 0, 0, &[&[0; 4], &self.handler, &[0; 13]]);
        let count = u32::try_from(self.entries.len()).unwrap();
        let stsd = full(b"stsd", 0, 0, &[&words(&[count]), &self.entries.concat()]);
        let minf = boxed(b"minf", &[&boxed(b"stbl", &[&stsd])]);
        boxed(b"trak", &[&tkhd, &self.edts, &boxed(b"mdia", &[&mdhd, &hdlr, &minf])])
    }
}

/// A `moov` with a movie clock of 600 ticks a second.
pub fn moov(traks: &[Trak], mvex: &[u8]) -> Vec<u8> {
    let mvhd = full(b"mvhd", 0, 0, &[&words(&[0, 0, 600, 0]), &[0; 80]]);
    let traks: Vec<u8> = traks.iter().flat_map(Trak::bytes).collect();
    boxed(b"moov", &[&mvhd, &traks, mvex])
}

/// `mvex` with one `trex`: track, sample description, duration, size, flags.
pub fn mvex(trex: [u32; 5]) -> Vec<u8> {
    boxed(b"mvex", &[&full(b"trex", 0, 0, &[&words(&trex)])])
}

/// One video track whose fragments say everything themselves.
pub fn plain_init() -> Vec<u8> {
    moov(&[Trak::default()], &mvex([1, 1, 0, 0, 0]))
}

/// `tfhd` with these flags and fields behind the track's number.
pub fn tfhd(track: u32, flags: u32, fields: &[u32]) -> Vec<u8> {
    full(b"tfhd", 0, flags, &[&words(&[track]), &words(fields)])
}

/// `tfdt` of 32 bits.
pub fn tfdt(time: u32) -> Vec<u8> {
    full(b"tfdt", 0, 0, &[&words(&[time])])
}

/// `trun` of `count` samples with the words that follow.
pub fn trun(version: u8, flags: u32, count: u32, rest: &[u32]) -> Vec<u8> {
    full(b"trun", version, flags, &[&words(&[count]), &words(rest)])
}

/// A `traf` of these boxes.
pub fn traf(boxes: &[Vec<u8>]) -> Vec<u8> {
    boxed(b"traf", &[&boxes.concat()])
}

/// A fragment whose `traf` boxes are built from the distance of the data from the `moof`.
pub fn fragment(data: &[Vec<u8>], trafs: impl Fn(u32) -> Vec<Vec<u8>>) -> Vec<u8> {
    let moof = |offset| boxed(b"moof", &[&full(b"mfhd", 0, 0, &[&words(&[1])]), &trafs(offset).concat()]);
    let offset = u32::try_from(moof(0).len() + 8).unwrap();
    [moof(offset), boxed(b"mdat", &[&data.concat()])].concat()
}
