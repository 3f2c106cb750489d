//! The playlists of a session, line by line as captures of Kinesis Video Streams show them.
//!
//! `m3u8-rs` writes them, with three things put right:
//! - it has its own order (EXT-X-INDEPENDENT-SEGMENTS in front, EXT-X-MAP before EXT-X-DISCONTINUITY), leaves out
//!   EXT-X-MEDIA-SEQUENCE when it is 0, and wants chrono's dates: such lines are handed over as tags it does not know,
//!   which it writes in the order given;
//! - it has a process-wide setting for the decimals of EXTINF, so they are filled up to three afterwards;
//! - it puts BANDWIDTH first in EXT-X-STREAM-INF, where Kinesis Video Streams puts it last.

use std::fmt::Write;
use std::time::SystemTime;

use m3u8_rs::{ExtTag, Map, MasterPlaylist, MediaPlaylist, MediaPlaylistType, MediaSegment, Resolution, VariantStream};

use super::mux::TRACK_ID;
use super::session::{Moment, Session};
use super::{Recording, Timeline};

/// The multivariant playlist: one variant.
pub(super) fn master(recording: &Recording, token: &str) -> String {
    let variant = VariantStream {
        uri: format!("getHLSMediaPlaylist.m3u8?SessionToken={token}&TrackNumber={TRACK_ID}"),
        bandwidth: recording.peak_bandwidth(),
        codecs: Some(recording.codec()),
        resolution: Some(Resolution { width: recording.width().into(), height: recording.height().into() }),
        frame_rate: Some(recording.frames_per_kilosecond() as f64 / 1000.0),
        ..VariantStream::default()
    };
    let playlist = MasterPlaylist { version: Some(1), variants: vec![variant], ..MasterPlaylist::default() };
    let text = text(|out| playlist.write_to(out));
    map_lines(&text, |out, line| {
        let attributes = line.strip_prefix("#EXT-X-STREAM-INF:").and_then(|rest| rest.split_once(','));
        match attributes {
            Some((bandwidth, others)) => writeln!(out, "#EXT-X-STREAM-INF:{others},{bandwidth}"),
            None => writeln!(out, "{line}"),
        }
    })
}

/// The media playlist; `None` while there is nothing to list.
pub(super) fn media(session: &Session, timeline: &Timeline, now: Moment) -> Option<String> {
    let listed = session.listed(timeline, now);
    let first = *listed.first()?;
    let token = session.token();
    let mut segments = Vec::new();
    let mut init = None;
    for index in listed {
        let mut tags = Vec::new();
        if index == first {
            tags.push(tag("X-MEDIA-SEQUENCE", session.media_sequence(timeline, index)));
            tags.push(ExtTag { tag: "X-INDEPENDENT-SEGMENTS".into(), rest: None });
        }
        if session.is_discontinuous(timeline, index) {
            tags.push(ExtTag { tag: "X-DISCONTINUITY".into(), rest: None });
        }
        let sequence = timeline.init_sequence(index);
        if init.replace(sequence) != Some(sequence) {
            let uri =
                format!("getMP4InitFragment.mp4?SessionToken={token}&TrackNumber={TRACK_ID}&SequenceNumber={sequence}");
            let map = Map { uri, ..Map::default() };
            tags.push(tag("X-MAP", text(|out| map.write_attributes_to(out))));
        }
        let fragment = timeline.fragment(index);
        let [start_ms, end_ms] = [fragment.start, fragment.end].map(|time| timeline.captured_at_ms(time));
        if session.options().timestamps {
            tags.push(tag("X-PROGRAM-DATE-TIME", date_time(fragment.captured_at)));
        }
        let number = session.fragment_number(timeline, index);
        segments.push(MediaSegment {
            uri: format!("getMP4MediaFragment.mp4?FragmentNumber={number}&SessionToken={token}&TrackNumber={TRACK_ID}"),
            // In captures EXTINF is one millisecond more than the distance of the programme times. A float of 32 bits
            // holds three decimals of anything below four hours.
            duration: (end_ms - start_ms + 1) as f32 / 1000.0,
            unknown_tags: tags,
            ..MediaSegment::default()
        });
    }
    let playlist = MediaPlaylist {
        version: Some(7),
        target_duration: target_duration(timeline.recording()),
        segments,
        playlist_type: session.is_archive().then_some(MediaPlaylistType::Vod),
        end_list: session.is_closed(timeline, now),
        ..MediaPlaylist::default()
    };
    let text = text(|out| playlist.write_to(out));
    Some(map_lines(&text, |out, line| {
        let seconds = line.strip_prefix("#EXTINF:").and_then(|rest| rest.strip_suffix(','));
        match seconds {
            Some(seconds) => {
                let (whole, decimals) = seconds.split_once('.').unwrap_or((seconds, ""));
                writeln!(out, "#EXTINF:{whole}.{decimals:0<3},")
            }
            None => writeln!(out, "{line}"),
        }
    }))
}

/// Seconds, rounded up, of the longest EXTINF there can be.
pub(super) fn target_duration(recording: &Recording) -> u64 {
    let longest = recording.cuts().iter().map(|cut| recording.time(cut.duration.into()).as_nanos()).max();
    let longest_ms = longest.unwrap_or_default().div_ceil(1_000_000) + 1;
    u64::try_from(longest_ms.div_ceil(1000)).unwrap_or(u64::MAX)
}

/// `2023-05-17T13:48:35.994Z`
fn date_time(time: SystemTime) -> String {
    format!("{:.3}", jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX))
}

fn tag(name: &str, value: impl ToString) -> ExtTag {
    ExtTag { tag: name.into(), rest: Some(value.to_string()) }
}

/// What a writer of `m3u8-rs` writes: text into memory, which does not fail.
fn text(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    let written = write(&mut out);
    debug_assert!(written.is_ok());
    String::from_utf8_lossy(&out).into_owned()
}

fn map_lines(text: &str, write: impl Fn(&mut String, &str) -> std::fmt::Result) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let written = write(&mut out, line);
        debug_assert!(written.is_ok());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::{DiscontinuityMode, FragmentNumbers, Playback, SessionOptions};
    use super::*;

    fn timeline() -> Timeline {
        // 2023-05-17T13:48:35.994Z
        let origin = SystemTime::UNIX_EPOCH + Duration::from_millis(1_684_331_315_994);
        Timeline::new(Arc::new(Recording::demo()), origin, Duration::ZERO)
    }

    fn at(published: u64) -> Moment {
        Moment { published, elapsed: Duration::from_secs(published) }
    }

    fn session(options: SessionOptions) -> Session {
        Session::open("CiExampleToken~".into(), options, &timeline(), at(10))
    }

    #[test]
    fn master_has_the_captured_shape() {
        let recording = Recording::demo();
        let (codec, bandwidth) = (recording.codec(), recording.peak_bandwidth());
        assert!((100_000..2_000_000).contains(&bandwidth), "{bandwidth}");
        assert_eq!(
            master(&recording, "CiExampleToken~"),
            format!(
                "#EXTM3U\n\
                 #EXT-X-VERSION:1\n\
                 #EXT-X-STREAM-INF:CODECS=\"{codec}\",RESOLUTION=640x360,FRAME-RATE=15,BANDWIDTH={bandwidth}\n\
                 getHLSMediaPlaylist.m3u8?SessionToken=CiExampleToken~&TrackNumber=1\n"
            )
        );
    }

    #[test]
    fn live_playlist_has_the_captured_shape() {
        let options = SessionOptions { window: 2, ..SessionOptions::default() };
        let timeline = timeline();
        let [a, b] = [8, 9].map(|index| timeline.fragment_number(index));
        assert_eq!(
            media(&session(options), &timeline, at(10)).unwrap(),
            format!(
                "#EXTM3U\n\
                 #EXT-X-VERSION:7\n\
                 #EXT-X-TARGETDURATION:2\n\
                 #EXT-X-MEDIA-SEQUENCE:0\n\
                 #EXT-X-INDEPENDENT-SEGMENTS\n\
                 #EXT-X-DISCONTINUITY\n\
                 #EXT-X-MAP:URI=\"getMP4InitFragment.mp4?SessionToken=CiExampleToken~&TrackNumber=1&SequenceNumber=0\"\n\
                 #EXT-X-PROGRAM-DATE-TIME:2023-05-17T13:48:43.994Z\n\
                 #EXTINF:1.001,\n\
                 getMP4MediaFragment.mp4?FragmentNumber={a}&SessionToken=CiExampleToken~&TrackNumber=1\n\
                 #EXT-X-DISCONTINUITY\n\
                 #EXT-X-PROGRAM-DATE-TIME:2023-05-17T13:48:44.994Z\n\
                 #EXTINF:1.001,\n\
                 getMP4MediaFragment.mp4?FragmentNumber={b}&SessionToken=CiExampleToken~&TrackNumber=1\n"
            )
        );
    }

    #[test]
    fn options_take_lines_away() {
        let options = SessionOptions {
            discontinuity: DiscontinuityMode::OnDiscontinuity,
            timestamps: false,
            numbers: FragmentNumbers::Session,
            ..SessionOptions::default()
        };
        let text = media(&session(options), &timeline(), at(11)).unwrap();
        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:1\n"));
        assert!(text.contains("mp4?FragmentNumber=5&") && !text.contains("mp4?FragmentNumber=0&"), "{text}");
        for absent in ["DISCONTINUITY", "PROGRAM-DATE-TIME", "ENDLIST", "PLAYLIST-TYPE"] {
            assert!(!text.contains(absent), "{text}");
        }
    }

    #[test]
    fn on_demand_playlist_is_closed_and_readable() {
        let options = SessionOptions { playback: Playback::OnDemand { fragments: 5 }, ..SessionOptions::default() };
        let text = media(&session(options), &timeline(), at(10)).unwrap();
        assert!(text.contains("#EXT-X-PLAYLIST-TYPE:VOD\n") && text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
        let parsed = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
        assert_eq!((parsed.media_sequence, parsed.segments.len(), parsed.end_list), (1, 5, true));
        assert!(parsed.segments.iter().all(|segment| segment.discontinuity && segment.program_date_time.is_some()));
    }

    #[test]
    fn nothing_to_list_is_no_playlist() {
        let session = Session::open("Ci~".into(), SessionOptions::default(), &timeline(), at(0));
        assert_eq!(media(&session, &timeline(), at(0)), None);
        assert!(media(&session, &timeline(), at(1)).is_some());
    }

    #[test]
    fn times_are_written_with_three_decimals() {
        assert_eq!(date_time(SystemTime::UNIX_EPOCH + Duration::from_secs(1_684_331_315)), "2023-05-17T13:48:35.000Z");
        let recording = Recording::demo().with_min_fragment(Duration::from_secs(2));
        let timeline = Timeline::new(Arc::new(recording), SystemTime::UNIX_EPOCH, Duration::ZERO);
        let text = media(&session(SessionOptions::default()), &timeline, at(10)).unwrap();
        assert!(text.contains("#EXTINF:2.001,") && text.contains("#EXTINF:3.001,"), "{text}");
        assert!(text.contains("#EXT-X-TARGETDURATION:4\n"));
    }
}
