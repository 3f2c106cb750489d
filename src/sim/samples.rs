//! Plain MP4 files: the sample tables of one H.264 track (ISO 14496-12 §8.5 to §8.7), resolved into samples.
//!
//! The `mp4` crate parses the `moov`. Its own sample access walks the tables anew for each sample and trusts them, so the
//! tables are resolved here, each position checked against the file.

use std::io::Cursor;
use std::iter;

use bytes::Bytes;
use mp4::Mp4Reader;

use crate::error::{Error, ErrorKind};
use crate::h264::{LengthSize, NalUnits, Sps, nal_type};
use crate::time::Timescale;

/// One coded picture of the recording, in decoding order.
#[derive(Clone)]
pub(super) struct Sample {
    /// NAL units with length fields.
    pub(super) data: Bytes,
    /// Ticks until the next sample's decoding time.
    pub(super) duration: u32,
    /// Presentation minus decoding time in ticks.
    pub(super) composition_offset: i32,
    pub(super) is_idr: bool,
}

/// What an init fragment has to say about the track.
#[derive(Clone)]
pub(super) struct Track {
    pub(super) timescale: Timescale,
    pub(super) length_size: LengthSize,
    /// Sequence parameter sets, at least one.
    pub(super) sps: Vec<Vec<u8>>,
    pub(super) pps: Vec<Vec<u8>>,
    /// The first sequence parameter set, parsed.
    pub(super) format: Sps,
}

fn container(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::Container, context)
}

/// Reads the first H.264 track of a progressive MP4.
pub(super) fn read(file: &Bytes) -> Result<(Track, Vec<Sample>), Error> {
    let headers = headers(file)?;
    let size = headers.len() as u64;
    let reader = Mp4Reader::read_header(Cursor::new(headers), size)
        .map_err(|error| container("unreadable headers in the MP4 recording").with_source(error))?;
    let is_video = |handler: &mp4::FourCC| handler.value == *b"vide";
    let mut videos = reader.moov.traks.iter().filter(|track| is_video(&track.mdia.hdlr.handler_type)).peekable();
    if videos.peek().is_none() {
        return Err(container("recording without a video track"));
    }
    let Some((media, avc1)) = videos.find_map(|track| Some((&track.mdia, track.mdia.minf.stbl.stsd.avc1.as_ref()?)))
    else {
        return Err(container("recording without an H.264 (avc1) track").unsupported());
    };

    let avcc = &avc1.avcc;
    let sps: Vec<_> = avcc.sequence_parameter_sets.iter().map(|nal| nal.bytes.clone()).collect();
    let first = sps.first().ok_or_else(|| container("recording without a sequence parameter set"))?;
    let track = Track {
        timescale: Timescale::new(media.mdhd.timescale)
            .ok_or_else(|| container("recording with a timescale of zero"))?,
        length_size: LengthSize::new((avcc.length_size_minus_one & 3) + 1)?,
        format: Sps::parse(first)?,
        pps: avcc.picture_parameter_sets.iter().map(|nal| nal.bytes.clone()).collect(),
        sps,
    };

    let tables = &media.minf.stbl;
    let runs: Vec<_> = tables.stsc.entries.iter().map(|run| (run.first_chunk, run.samples_per_chunk)).collect();
    let chunks: Vec<u64> = match (&tables.stco, &tables.co64) {
        (Some(stco), _) => stco.entries.iter().copied().map(u64::from).collect(),
        (None, Some(co64)) => co64.entries.clone(),
        (None, None) => vec![],
    };
    let sizes: Box<dyn Iterator<Item = u32>> = match tables.stsz.sample_size {
        0 => Box::new(tables.stsz.sample_sizes.iter().copied()),
        size => Box::new(iter::repeat_n(size, tables.stsz.sample_count as usize)),
    };
    let data = sample_data(file, &chunks, &runs, sizes)?;
    let durations = tables.stts.entries.iter().map(|run| (run.sample_count, run.sample_delta));
    let durations = expand(durations, data.len()).ok_or_else(|| container("recording with too short a stts table"))?;
    let offsets = match &tables.ctts {
        Some(ctts) => expand(ctts.entries.iter().map(|run| (run.sample_count, run.sample_offset)), data.len())
            .ok_or_else(|| container("recording with too short a ctts table"))?,
        None => vec![0; data.len()],
    };
    let mut samples = Vec::with_capacity(data.len());
    for (index, ((data, duration), composition_offset)) in data.into_iter().zip(durations).zip(offsets).enumerate() {
        // §8.6.2: without a stss box every sample is a sync sample. One that is no IDR picture is no place to cut.
        let is_sync = tables.stss.as_ref().is_none_or(|stss| stss.entries.iter().any(|&id| id as usize == index + 1));
        let is_idr = is_sync
            && NalUnits::new(&data, track.length_size)
                .any(|nal| nal.is_ok_and(|nal| nal.kind() == nal_type::IDR_SLICE));
        samples.push(Sample { data, duration, composition_offset, is_idr });
    }
    Ok((track, samples))
}

/// `ftyp` and `moov` alone. The rest is nothing for the `mp4` crate: it misreads fragments, and may never come back from it.
fn headers(file: &Bytes) -> Result<Vec<u8>, Error> {
    let mut headers = Vec::new();
    let mut rest = file.as_ref();
    let mut has_movie = false;
    while let Some((head, body)) = rest.split_at_checked(8) {
        let [s0, s1, s2, s3, kind @ ..] = head else { break };
        let kind = <[u8; 4]>::try_from(kind).unwrap_or_default();
        let size = match u32::from_be_bytes([*s0, *s1, *s2, *s3]) {
            0 => rest.len() as u64, // to the end of the file
            1 => body.first_chunk().map_or(0, |large| u64::from_be_bytes(*large)),
            size => u64::from(size),
        };
        let part = usize::try_from(size).ok().filter(|size| *size >= 8).and_then(|size| rest.split_at_checked(size));
        let Some((whole, tail)) = part else {
            return Err(container("file that is no MP4 recording or ends too early"));
        };
        match &kind {
            b"moof" => {
                return Err(container(
                    "fragmented MP4 given as recording (`ffmpeg -i FILE -c copy PLAIN.mp4` makes a plain one)",
                )
                .unsupported());
            }
            b"ftyp" => headers.extend_from_slice(whole),
            b"moov" => {
                has_movie = true;
                headers.extend_from_slice(whole);
            }
            _ => {}
        }
        rest = tail;
    }
    if has_movie { Ok(headers) } else { Err(container("file without a moov box")) }
}

/// The bytes of each sample: chunk offsets, `(first_chunk, samples_per_chunk)` runs and sizes, combined (§8.7).
fn sample_data(
    file: &Bytes,
    chunks: &[u64],
    runs: &[(u32, u32)],
    sizes: impl Iterator<Item = u32>,
) -> Result<Vec<Bytes>, Error> {
    let mut sizes = sizes.peekable();
    let mut data = Vec::new();
    let mut runs = runs.iter().copied().peekable();
    let mut per_chunk = 0;
    for (chunk, &offset) in (1_u64..).zip(chunks) {
        while let Some((_, samples)) = runs.next_if(|(first, _)| u64::from(*first) <= chunk) {
            per_chunk = samples;
        }
        let mut start = usize::try_from(offset).map_err(|_| container("chunk outside the recording"))?;
        for size in sizes.by_ref().take(per_chunk as usize) {
            let end = start.saturating_add(size as usize);
            if size == 0 || end > file.len() {
                return Err(container(format!("sample {} empty or outside the recording", data.len() + 1)));
            }
            data.push(file.slice(start..end));
            start = end;
        }
    }
    if sizes.peek().is_some() {
        return Err(container("recording with more sample sizes than places in chunks"));
    }
    Ok(data)
}

/// `count` values from run lengths; `None` when there are fewer.
fn expand<T: Copy>(runs: impl Iterator<Item = (u32, T)>, count: usize) -> Option<Vec<T>> {
    let values: Vec<T> = runs.flat_map(|(length, value)| iter::repeat_n(value, length as usize)).take(count).collect();
    (values.len() == count).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_and_runs_are_combined() {
        let file = Bytes::from_static(b"0123456789abcdef");
        let data = |chunks: &[u64], runs: &[(u32, u32)], sizes: &[u32]| {
            sample_data(&file, chunks, runs, sizes.iter().copied()).map(|samples| {
                samples.iter().map(|data| String::from_utf8_lossy(data).into_owned()).collect::<Vec<_>>()
            })
        };
        // Two chunks of two samples, then chunks of one.
        let runs = [(1, 2), (3, 1)];
        assert_eq!(data(&[0, 6, 12, 14], &runs, &[1, 2, 3, 1, 2, 1]).unwrap(), ["0", "12", "678", "9", "cd", "e"]);
        assert!(data(&[0, 15], &[(1, 1)], &[1, 2]).is_err(), "a sample ends outside");
        assert!(data(&[u64::MAX], &[(1, 1)], &[1]).is_err());
        assert!(data(&[0], &[(1, 1)], &[1, 1]).is_err(), "a sample has no place");
        assert!(data(&[0], &[], &[1]).is_err());
        assert_eq!(expand([(2, 'a'), (1, 'b')].into_iter(), 3), Some(vec!['a', 'a', 'b']));
        assert_eq!(expand([(2, 'a')].into_iter(), 3), None);
    }

    #[test]
    fn files_that_are_no_recording_are_refused_by_name() {
        let message = |bytes: &'static [u8]| read(&Bytes::from_static(bytes)).map(|_| ()).unwrap_err().to_string();
        assert_eq!(message(b""), "container error: file without a moov box");
        assert_eq!(message(b"not an MP4 file"), "container error: file that is no MP4 recording or ends too early");
        assert!(message(b"\0\0\0\x08ftyp\0\0\0\x08moof").contains("fragmented MP4"));
        assert!(message(b"\0\0\0\x08ftyp\0\0\0\x08moov").contains("unreadable headers"));
        assert!(message(b"\0\0\0\x01ftyp\xff\xff\xff\xff\xff\xff\xff\xff").contains("ends too early"));
    }
}
