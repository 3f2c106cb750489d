//! Bodies of the fuzz targets: bytes in, a panic where something is broken that must hold for every input.
//!
//! `fuzz/` calls them with libFuzzer's input and `tests/fuzz_seeds.rs` with seeds and changes of them. Not part of the
//! public interface.
#![allow(missing_docs, reason = "hidden")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a target reports"
)]

mod machine;
mod response;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::decode::{Openh264Decoder, Output, Picture, PixelFormat, convert};
use crate::fmp4::{Demuxer, InitSegment};
use crate::h264::{AccessUnit, AvcConfig, LengthSize, NalUnit, NalUnits, Sps, nal_type};
use crate::hls::{
    Continuity, FragmentNumber, LiveEdge, MediaPlaylist, MultivariantPlaylist, Playlist, PlaylistTracker, ReloadPolicy,
    Segment, TrackerEvent, TrackerOptions, Update, VariantCaps, parse, select,
};
use crate::{Decoder, Dts, Error, Limits, Pts, SecretUrl, Timescale};

pub use machine::machine_steps;
pub use response::session_response;

/// Small enough that input of a few kilobytes can exceed each of them.
fn limits() -> Limits {
    Limits {
        max_playlist_bytes: 64 << 10,
        max_playlist_segments: 100,
        max_variants: 20,
        max_init_bytes: 4 << 10,
        max_segment_bytes: 256 << 10,
        max_samples: 200,
        max_tracks: 4,
        max_macroblocks: 400,
        ..Limits::default()
    }
}

/// Not to be seen in any text that people read.
const SECRET: &str = "CiSecretOfTheSession";

static BASE: LazyLock<SecretUrl> = LazyLock::new(|| {
    let text = format!("https://host/hls/v1/getHLSMediaPlaylist.m3u8?SessionToken={SECRET}");
    SecretUrl::parse(&text).expect("a URL")
});

/// For people, and for their terminals.
fn check_text(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?} steers the terminal");
}

/// Whatever an error says, it says it in short, without a panic and without a secret.
fn check_error<E: std::fmt::Debug + std::fmt::Display + Into<Error>>(error: E) {
    let text = format!("{error} {error:?}");
    check_text(&text);
    let error: Error = error.into();
    assert!(error.to_string().len() < 4000, "{} bytes of text", error.to_string().len());
    assert!(!format!("{text} {error} {error:?} {:?}", error.recovery()).contains(SECRET));
}

/// Playlists of either kind, and the small texts: fragment numbers and policies.
pub fn playlist(data: &[u8]) {
    let limits = limits();
    if let Ok(text) = std::str::from_utf8(data) {
        small_texts(text);
    }
    match parse(data, &BASE, &limits) {
        Ok(playlist) => {
            assert!(!format!("{playlist:?}").contains(SECRET));
            // Line ends are LF or CRLF, whichever (RFC 8216 §4.1).
            if !data.contains(&b'\r') && data.len() <= limits.max_playlist_bytes / 2 {
                let with_returns: Vec<u8> =
                    data.iter().flat_map(|&byte| if byte == b'\n' { vec![b'\r', b'\n'] } else { vec![byte] }).collect();
                assert_eq!(parse(&with_returns, &BASE, &limits).as_ref(), Ok(&playlist));
            }
            let lines = data.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
            match playlist {
                Playlist::Media(playlist) => media_playlist(&playlist, &limits, lines),
                Playlist::Multivariant(playlist) => multivariant_playlist(&playlist, &limits, lines),
            }
        }
        Err(error) => check_error(error),
    }
}

fn small_texts(text: &str) {
    if let Some(number) = FragmentNumber::parse(text) {
        assert_eq!(number.to_string(), text);
        assert_eq!(number, FragmentNumber::parse(text.trim_start_matches('0')).unwrap_or_else(|| number.clone()));
    }
    if let Ok(edge) = text.parse::<LiveEdge>() {
        assert_eq!(edge.to_string().parse::<LiveEdge>().expect("as printed"), edge);
    }
    if let Ok(policy) = text.parse::<ReloadPolicy>() {
        assert_eq!(policy.to_string().parse::<ReloadPolicy>().expect("as printed"), policy);
    }
}

fn is_loadable(url: &SecretUrl) -> bool {
    matches!(url.expose().scheme(), "http" | "https") && url.expose().has_host()
}

fn media_playlist(playlist: &MediaPlaylist, limits: &Limits, lines: usize) {
    assert!(!playlist.target_duration.is_zero());
    assert!(playlist.segments.len() <= limits.max_playlist_segments.min(lines));
    assert!(playlist.warnings.len() <= 16);
    assert!(playlist.warnings.iter().all(|warning| (1..=lines).contains(&warning.line)));
    for (index, segment) in playlist.segments.iter().enumerate() {
        assert_eq!(segment.sequence, playlist.media_sequence + index as u64);
        assert!(is_loadable(&segment.url));
        assert!(segment.program_date_time.is_none() || segment.estimated_start == segment.program_date_time);
        let init = segment.init.as_ref();
        assert!(init.is_none_or(|init| is_loadable(&init.url)));
        for range in [segment.byte_range, init.and_then(|init| init.byte_range)].into_iter().flatten() {
            assert!(range.length > 0 && range.offset.checked_add(range.length).is_some());
        }
    }
    let counts = playlist.segments.iter().map(|segment| segment.discontinuity_sequence);
    assert!(counts.is_sorted());
    // A fresh tracker hands out each segment once.
    let mut tracker = PlaylistTracker::new(TrackerOptions { live_edge: LiveEdge::Oldest, ..Default::default() });
    assert_eq!(tracker.update(playlist, *ZERO, *ZERO).fresh, playlist.segments);
    assert!(tracker.update(playlist, *ZERO, *ZERO).fresh.is_empty());
}

fn multivariant_playlist(playlist: &MultivariantPlaylist, limits: &Limits, lines: usize) {
    assert!((1..=limits.max_variants).contains(&playlist.variants.len()));
    assert!(playlist.renditions.len() <= limits.max_variants && playlist.warnings.len() <= 16);
    assert!(playlist.variants.iter().all(|variant| is_loadable(&variant.url) && variant.line <= lines));
    let caps = VariantCaps { max_height: Some(480), max_bandwidth: Some(1_000_000) };
    match (select(playlist, &VariantCaps::default()), select(playlist, &caps)) {
        (Ok(best), Ok(capped)) => {
            assert!(best.is_within_caps);
            assert!(playlist.variants.contains(best.variant) && playlist.variants.contains(capped.variant));
        }
        (Err(error), Err(_)) => check_error(error),
        (best, capped) => panic!("caps decide about the codec: {best:?} {capped:?}"),
    }
}

/// Initialization segments.
pub fn init_segment(data: &[u8]) {
    let limits = limits();
    let init = match InitSegment::parse(data, &limits) {
        Ok(init) => init,
        Err(error) => {
            assert!(error.offset() <= data.len() as u64);
            return check_error(error);
        }
    };
    let track = init.track();
    assert!((1..=limits.max_tracks).contains(&init.tracks().len()));
    assert!(init.tracks().iter().any(|summary| summary.id == track.id()));
    assert!(track.sample_entries().count() > 0);
    for entry in track.sample_entries() {
        let config = entry.config();
        assert!(config.parameter_sets().all(|set| !set.is_empty()));
        assert!(config.parameter_sets().map(Bytes::len).sum::<usize>() < data.len());
        match config.sps() {
            Ok(sps) => _ = sps.map(|sps| check_sps(&sps, &limits)),
            Err(error) => check_error(error),
        }
    }
}

/// A segment that begins with its own initialization segment.
pub fn media_segment(data: &[u8]) {
    let limits = limits();
    let Ok(init) = InitSegment::parse(data, &limits) else { return };
    let segment = Bytes::copy_from_slice(data);
    let units = demux(&init, &segment, &limits);
    // Of a segment that was cut short, nothing appears that is not in the whole.
    let cut = data.len() * usize::from(data[data.len() - 1]) / 256;
    let places = |units: &[AccessUnit]| -> Vec<Range<usize>> {
        let start = segment.as_ptr() as usize;
        units
            .iter()
            .map(|unit| unit.data().as_ptr() as usize - start)
            .zip(units)
            .map(|(at, unit)| at..at + unit.data().len())
            .collect()
    };
    let of_cut = demux(&init, &segment.slice(..cut), &limits);
    assert!(places(&units).starts_with(&places(&of_cut)));
    if let Ok(prefix) = Demuxer::new(init, limits).peek(segment.slice(..cut)) {
        assert!(places(&units).starts_with(&places(prefix.units())));
        assert!(prefix.closed() <= prefix.units().len());
    }
}

/// Demuxes and checks what holds for every input.
fn demux(init: &InitSegment, segment: &Bytes, limits: &Limits) -> Vec<AccessUnit> {
    let mut units = Vec::new();
    let mut demuxer = Demuxer::new(init.clone(), limits.clone());
    if let Err(error) = demuxer.push(segment.clone(), &mut units) {
        check_error(error);
    }
    let whole = segment.as_ptr_range();
    assert!(units.len() <= limits.max_samples);
    assert!(units.iter().map(|unit| unit.data().len()).sum::<usize>() <= segment.len(), "samples overlap");
    for unit in &units {
        let data = unit.data().as_ptr_range();
        assert!(whole.start <= data.start && data.end <= whole.end);
        check_unit(unit);
    }
    units
}

fn check_unit(unit: &AccessUnit) {
    assert!(unit.nal_units().count() > 0);
    assert_eq!(unit.is_idr(), unit.nal_units().any(|nal| nal.kind() == nal_type::IDR_SLICE));
    assert!(!unit.is_disposable() || unit.nal_units().any(NalUnit::is_slice));
}

/// NAL units behind length fields; the first byte chooses the size of the fields. Decoder configurations, too.
pub fn nal_walk(data: &[u8]) {
    let Some((&choice, sample)) = data.split_first() else { return };
    let length_size = LengthSize::new(1 << (choice % 3)).expect("1, 2 or 4");
    let mut rebuilt = Vec::new();
    let (mut has_error, mut count) = (false, 0);
    for nal in NalUnits::new(sample, length_size) {
        assert!(!has_error, "goes on after an error");
        match nal {
            Ok(nal) => {
                assert!(sample.as_ptr_range().contains(&nal.bytes().as_ptr()));
                let length = (nal.bytes().len() as u32).to_be_bytes();
                rebuilt.extend_from_slice(&length[4 - length_size.bytes()..]);
                rebuilt.extend_from_slice(nal.bytes());
                count += 1;
            }
            Err(error) => {
                has_error = true;
                check_error(error);
            }
        }
    }
    assert!(sample.starts_with(&rebuilt) && (has_error || rebuilt.len() == sample.len()));
    let config = [1, 66, 0, 30, 0xfc | (length_size.bytes() as u8 - 1), 0xe0, 0];
    let config = Arc::new(AvcConfig::parse(&Bytes::copy_from_slice(&config)).expect("a configuration"));
    let pts = Pts::new(0, Timescale::new(1).expect("one"));
    let unit = AccessUnit::new(Bytes::copy_from_slice(sample), config, pts, Dts(0), 0);
    assert_eq!(unit.is_ok(), !has_error && count > 0);
    if let Ok(unit) = unit {
        assert_eq!(unit.nal_units().count(), count);
        check_unit(&unit);
    }
    match AvcConfig::parse(&Bytes::copy_from_slice(sample)) {
        Ok(config) => assert!(config.parameter_sets().map(|set| set.len() + 2).sum::<usize>() <= sample.len()),
        Err(error) => check_error(error),
    }
}

/// Sequence parameter sets, and what openh264 gets of them.
pub fn sps(data: &[u8]) {
    match Sps::parse(data) {
        Ok(sps) => _ = check_sps(&sps, &limits()),
        Err(error) => return check_error(error),
    }
    // Zeros at the end are no part of a NAL unit, so what is rewritten must have its stop bit (H.264 §7.3.2.11).
    let data = [data, &[0x80]].concat();
    let sps = Sps::parse(&data).expect("longer than what was parsed");
    if !check_sps(&sps, &limits()) {
        return;
    }
    let rewritten = sps.for_openh264(&data).expect("what was parsed is long enough");
    let seen = Sps::parse(&rewritten).expect("rewritten to what can be parsed");
    assert_eq!((seen.width, seen.height), (sps.coded_width, sps.coded_height), "not cropped");
    assert_eq!((seen.coded_width, seen.coded_height), (sps.coded_width, sps.coded_height));
    assert_eq!((seen.id, seen.level_idc, seen.max_ref_frames), (sps.id, sps.level_idc, sps.max_ref_frames));
    assert!(matches!(seen.profile_idc, 66 | 83) && seen.is_progressive);
    assert_eq!(seen.chroma_format_idc, sps.chroma_format_idc);
}

/// Whether the decoder takes it.
fn check_sps(sps: &Sps, limits: &Limits) -> bool {
    assert!(sps.id < 32 && sps.max_ref_frames <= 16 && sps.chroma_format_idc <= 3);
    assert!(sps.width > 0 && sps.crop_left + sps.width <= sps.coded_width && sps.coded_width.is_multiple_of(16));
    assert!(sps.height > 0 && sps.crop_top + sps.height <= sps.coded_height && sps.coded_height.is_multiple_of(16));
    assert!(sps.timing.is_none_or(|(scale, units)| scale > 0 && units > 0));
    match sps.check_supported(limits) {
        Ok(()) => {
            assert!(sps.coded_width / 16 * (sps.coded_height / 16) <= limits.max_macroblocks);
            assert!(sps.is_progressive && sps.luma_bit_depth == 8 && sps.chroma_format_idc <= 1);
            true
        }
        Err(error) => {
            check_error(error);
            false
        }
    }
}

/// From the bytes of a self-initializing segment to pixels.
pub fn pipeline(data: &[u8]) {
    /// Enough for references to be used, few enough to be quick.
    const MAX_UNITS: usize = 40;
    let limits = limits();
    let Ok(init) = InitSegment::parse(data, &limits) else { return };
    let units = demux(&init, &Bytes::copy_from_slice(data), &limits);
    let mut decoder = Openh264Decoder::new(limits.clone());
    let mut pixels = Vec::new();
    for unit in units.iter().take(MAX_UNITS) {
        let mut pictures = 0;
        let mut take = |picture: Picture<'_>| {
            assert_eq!(picture.pts, unit.pts());
            let macroblocks = picture.width.div_ceil(16) * picture.height.div_ceil(16);
            assert!((1..=limits.max_macroblocks as usize).contains(&macroblocks));
            for format in [PixelFormat::Bgr, PixelFormat::Gray, PixelFormat::I420] {
                pixels.resize(format.frame_bytes(picture.width, picture.height), 0);
                assert!(convert(&picture, Output::new(format), &mut pixels), "planes too short");
            }
            pictures += 1;
        };
        let result = decoder.decode(unit, &mut take);
        assert!(pictures <= 1, "{pictures} pictures of one access unit");
        if let Err(error) = result {
            check_error(error);
            decoder.reset();
        }
    }
}

static ZERO: LazyLock<Instant> = LazyLock::new(|| crate::Clock::now(&crate::SystemClock));

/// Bytes as decisions; zeros when there are no more.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn below(&mut self, bound: u8) -> u64 {
        u64::from(self.next() % bound)
    }
}

/// Steps of a tracker. The first byte chooses the camera: one that keeps the rules, or any lists at all.
pub fn tracker_steps(data: &[u8]) {
    let mut choices = Choices(data);
    let kind = choices.next();
    let live_edge = match choices.below(4) {
        0 => LiveEdge::Newest,
        1 => LiveEdge::Oldest,
        edge => LiveEdge::Segments(edge as u32),
    };
    let reload = match choices.below(2) {
        0 => ReloadPolicy::Spec,
        _ => ReloadPolicy::Every(Duration::from_millis(choices.below(255) * 100)),
    };
    let options = TrackerOptions { live_edge, reload, ..Default::default() };
    let tracker = PlaylistTracker::new(options);
    match kind % 4 {
        0 => any_lists(tracker, &mut choices),
        naming => Camera::new(naming).run(tracker, &mut choices),
    }
}

/// What holds after every update.
fn check_update(update: &Update, playlist: &MediaPlaylist, now: Instant) {
    assert!(update.reload_at.is_none_or(|at| at >= now));
    assert!(update.fresh.is_sorted_by(|one, next| one.sequence < next.sequence));
    assert!(update.fresh.iter().all(|segment| playlist.segments.contains(segment)));
    assert!(!matches!(
        update.event,
        Some(TrackerEvent::WindowPassed { missed: 0 } | TrackerEvent::Skipped { missed: 0 })
    ));
}

/// Lists without rule or reason: within a count, no sequence number is handed out twice.
fn any_lists(mut tracker: PlaylistTracker, choices: &mut Choices<'_>) {
    let mut now = *ZERO;
    let mut handed_out = BTreeSet::new();
    while !choices.0.is_empty() {
        now += Duration::from_millis(choices.below(255) * 50);
        let flags = choices.next();
        if flags & 1 != 0 {
            tracker.begin_session();
            handed_out.clear();
        }
        if flags & 2 != 0 {
            tracker.skip_to_live_edge();
        }
        let sequence = match choices.next() {
            255 => u64::MAX - 20,
            number => u64::from(number),
        };
        let contents = (0..choices.below(6)).map(|_| choices.below(64));
        let mut playlist = list((flags >> 2) & 3, sequence, contents.collect());
        playlist.has_ended = flags & 0xf0 == 0xf0;
        let update = tracker.update(&playlist, now, now);
        check_update(&update, &playlist, now);
        if matches!(update.event, Some(TrackerEvent::Reset { .. })) {
            handed_out.clear();
        }
        for segment in &update.fresh {
            assert!(handed_out.insert(segment.sequence), "{} handed out twice", segment.sequence);
        }
    }
}

const SEGMENT: Duration = Duration::from_secs(2);

/// A list of contents, numbered from `sequence`. Bit 0 of `naming`: with global fragment numbers; bit 1: with times.
fn list(naming: u8, sequence: u64, contents: Vec<u64>) -> MediaPlaylist {
    let segment = |(index, content): (u64, u64)| {
        let number = FragmentNumber::parse(&format!("{:047}", content + 1)).filter(|_| naming & 1 != 0);
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + SEGMENT * content as u32;
        let start = Some(start).filter(|_| naming & 2 != 0);
        Segment {
            url: BASE.join(&format!("segment?n={content}")).expect("a URL"),
            byte_range: None,
            sequence: sequence + index,
            discontinuity_sequence: 0,
            is_discontinuity: false,
            duration: SEGMENT,
            program_date_time: start,
            estimated_start: start,
            init: None,
            is_gap: false,
            fragment_number: number,
        }
    };
    MediaPlaylist {
        target_duration: SEGMENT,
        media_sequence: sequence,
        discontinuity_sequence: 0,
        playlist_type: None,
        has_ended: false,
        has_independent_segments: true,
        segments: (0..).zip(contents).map(segment).collect(),
        warnings: Vec::new(),
    }
}

/// A camera whose contents count up, seen through sliding windows and sessions that count anew.
struct Camera {
    naming: u8,
    /// One more than the last content that exists.
    end: u64,
    /// The content that has sequence number zero.
    origin: u64,
    /// The contents listed last in this session, which a cache may give again.
    listed: Range<u64>,
    /// The content handed out last.
    last: Option<u64>,
    is_skip_asked: bool,
    /// Whether a loss at a change of session is still to be told.
    is_rejoining: bool,
}

impl Camera {
    fn new(naming: u8) -> Self {
        Self { naming, end: 1, origin: 0, listed: 0..0, last: None, is_skip_asked: false, is_rejoining: false }
    }

    fn run(mut self, mut tracker: PlaylistTracker, choices: &mut Choices<'_>) {
        let mut now = *ZERO;
        while !choices.0.is_empty() {
            let took = Duration::from_millis(choices.below(40) * 100);
            now += took;
            self.end += choices.below(8);
            let window = 1 + choices.below(6);
            let newest = self.end.saturating_sub(window)..self.end;
            let action = choices.below(16);
            match action {
                0 => {
                    tracker.begin_session();
                    self.origin = newest.start;
                    self.listed = newest.clone();
                    self.is_rejoining = self.last.is_some();
                }
                1 => {
                    tracker.skip_to_live_edge();
                    self.is_skip_asked = true;
                }
                _ => {}
            }
            // A list only slides forward, and a cache may answer with the one before.
            let is_stale = action == 2 && !self.listed.is_empty();
            if !is_stale {
                self.listed = newest.start.max(self.listed.start)..newest.end;
            }
            let playlist = list(self.naming, self.listed.start - self.origin, self.listed.clone().collect());
            let update = tracker.update(&playlist, now - took, now);
            check_update(&update, &playlist, now);
            self.check(&update, tracker.stuck_at());
            self.is_skip_asked = false;
        }
    }

    /// Nothing twice, and nothing lost in silence.
    fn check(&mut self, update: &Update, stuck_at: Option<Instant>) {
        assert!(update.reload_at.is_some() && stuck_at.is_some(), "a live list ended");
        assert!(!matches!(update.event, Some(TrackerEvent::Reset { .. })), "no count began anew: {:?}", update.event);
        let fresh: Vec<u64> = update.fresh.iter().map(|segment| segment.sequence + self.origin).collect();
        assert!(fresh.is_sorted_by(|one, next| one + 1 == *next), "{fresh:?}");
        let Some((&first, &newest)) = fresh.first().zip(fresh.last()) else { return };
        let missed = self.last.map(|last| {
            assert!(first > last, "{first} after {last}");
            first - last - 1
        });
        match (missed, update.event) {
            (None, event) => assert_eq!(event, None),
            (Some(lost), Some(TrackerEvent::WindowPassed { missed })) => assert_eq!(missed, lost),
            (Some(lost), Some(TrackerEvent::Skipped { missed })) => {
                assert!(self.is_skip_asked);
                assert_eq!(missed, lost);
            }
            (Some(lost), Some(TrackerEvent::Rejoined { continuity })) => {
                assert!(self.is_rejoining);
                assert!(lost == 0 || continuity != Continuity::Seamless, "{lost} lost in silence");
            }
            (Some(lost), event) => assert_eq!(lost, 0, "{event:?}"),
        }
        self.last = Some(newest);
        self.is_rejoining = false;
    }
}
