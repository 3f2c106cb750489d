//! Sequences of playlists and times: which segments are handed out, what is said, when the next request is due.

use std::fmt::Write;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use kvs_hls::hls::{
    Continuity, LiveEdge, MediaPlaylist, Playlist, PlaylistTracker, ReloadPolicy, TrackerEvent, TrackerOptions, Update,
    parse,
};
use kvs_hls::{Limits, SecretUrl};

/// 2023-05-17T13:48:35Z
const PROGRAMME_ZERO_SECONDS: u64 = 1_684_331_315;
static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);

fn at(millis: u64) -> Instant {
    *ZERO + Duration::from_millis(millis)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How the segments of a playlist are named; content `n` of a camera is always the same two seconds.
#[derive(Clone, Copy)]
enum Naming {
    /// Global fragment numbers, as Kinesis Video Streams has them, without times.
    Fragments,
    /// Fragment numbers that count within the session, with times.
    LocalFragmentsAndTimes,
    /// Times alone.
    Times,
    /// File names that tell the content.
    Files,
    /// One name for all: nothing tells the content but the sequence number.
    Nothing,
}

/// A live playlist of segments of two seconds: sequence numbers from `sequence`, contents as listed.
fn list(naming: Naming, sequence: u64, contents: impl IntoIterator<Item = u64>, tail: &str) -> MediaPlaylist {
    let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n");
    for (index, content) in (0..).zip(contents) {
        let number = sequence.saturating_add(index);
        let time = time_tag(content);
        let (time, name) = match naming {
            Naming::Fragments => (String::new(), format!("f?FragmentNumber={:047}&SessionToken=t{sequence}", content)),
            Naming::LocalFragmentsAndTimes => (time, format!("f?FragmentNumber={number}")),
            Naming::Times => (time, format!("f?n={number}")),
            Naming::Files => (String::new(), format!("{content}.m4s")),
            Naming::Nothing => (String::new(), format!("f?FragmentNumber={number}")),
        };
        write!(text, "{time}#EXTINF:2.0,\n{name}\n").unwrap();
    }
    text.push_str(tail);
    media(&text)
}

/// The tag of the time of content `n`: minutes and seconds suffice.
fn time_tag(content: u64) -> String {
    let seconds = 48 * 60 + 35 + 2 * content;
    format!("#EXT-X-PROGRAM-DATE-TIME:2023-05-17T13:{:02}:{:02}Z\n", seconds / 60, seconds % 60)
}

fn media(text: &str) -> MediaPlaylist {
    let base = SecretUrl::parse("https://host/live.m3u8").unwrap();
    match parse(text.as_bytes(), &base, &Limits::default()).unwrap() {
        Playlist::Media(playlist) => playlist,
        Playlist::Multivariant(_) => panic!("not a media playlist"),
    }
}

fn tracker(live_edge: LiveEdge, reload: ReloadPolicy) -> PlaylistTracker {
    let mut options = TrackerOptions::default();
    options.live_edge = live_edge;
    options.reload = reload;
    PlaylistTracker::new(options)
}

fn sequences(update: &Update) -> Vec<u64> {
    update.fresh.iter().map(|segment| segment.sequence).collect()
}

/// Updates at `millis`, with a request that took no time; gives sequence numbers and event.
fn step(tracker: &mut PlaylistTracker, playlist: &MediaPlaylist, millis: u64) -> (Vec<u64>, Option<TrackerEvent>) {
    let update = tracker.update(playlist, at(millis), at(millis));
    (sequences(&update), update.event)
}

#[test]
fn live_playlist_slides_hands_out_each_segment_once() {
    let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
    for (sequence, count, expected) in
        [(10, 5, &[14][..]), (10, 5, &[]), (11, 5, &[15]), (13, 5, &[16, 17]), (13, 6, &[18]), (15, 4, &[])]
    {
        let playlist = list(Naming::Nothing, sequence, 0..count, "");
        assert_eq!(step(&mut tracker, &playlist, 0), (expected.to_vec(), None), "from {sequence}");
    }
}

#[test]
fn first_playlist_is_entered_where_the_options_say() {
    for (live_edge, tail, expected) in [
        (LiveEdge::Newest, "", &[9][..]),
        (LiveEdge::Segments(3), "", &[7, 8, 9]),
        (LiveEdge::Segments(30), "", &[5, 6, 7, 8, 9]),
        (LiveEdge::Oldest, "", &[5, 6, 7, 8, 9]),
        (LiveEdge::Newest, "#EXT-X-PLAYLIST-TYPE:EVENT\n", &[9]),
        (LiveEdge::Newest, "#EXT-X-ENDLIST\n", &[5, 6, 7, 8, 9]),
        (LiveEdge::Newest, "#EXT-X-PLAYLIST-TYPE:VOD\n", &[5, 6, 7, 8, 9]),
    ] {
        let update = tracker(live_edge, ReloadPolicy::Spec).update(&list(Naming::Nothing, 5, 0..5, tail), at(0), at(0));
        let is_complete = tail.contains("ENDLIST") || tail.contains("VOD");
        assert_eq!(sequences(&update), expected, "{live_edge} {tail}");
        assert_eq!(update.event, is_complete.then_some(TrackerEvent::Ended), "{live_edge} {tail}");
        assert_eq!(update.reload_at.is_none(), is_complete, "{live_edge} {tail}");
    }
}

#[test]
fn reloads_are_counted_from_the_start_of_the_request() {
    let every = |millis| ReloadPolicy::Every(Duration::from_millis(millis));
    // Policy, whether the playlist changed, milliseconds the request took, milliseconds from its start to the next.
    for (policy, is_changed, took, expected) in [
        (ReloadPolicy::Spec, true, 0, 2000),
        (ReloadPolicy::Spec, true, 700, 2000),
        (ReloadPolicy::Spec, false, 700, 1000),
        (ReloadPolicy::Spec, false, 1300, 1300),
        (ReloadPolicy::Spec, true, 5000, 5000),
        (every(1000), true, 300, 1000),
        (every(1000), false, 300, 1000),
        (every(1), false, 0, 200),
        (every(3_600_000), false, 0, 60_000),
    ] {
        let mut tracker = tracker(LiveEdge::Newest, policy);
        tracker.update(&list(Naming::Nothing, 0, 0..3, ""), at(0), at(0));
        let second = list(Naming::Nothing, u64::from(is_changed), 0..3, "");
        let update = tracker.update(&second, at(10_000), at(10_000 + took));
        assert_eq!(update.reload_at, Some(at(10_000 + expected)), "{policy} {is_changed} {took}");
    }
}

#[test]
fn unchanged_playlist_is_stuck_after_three_and_a_half_target_durations() {
    let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
    assert_eq!(tracker.stuck_at(), None);
    let first = list(Naming::Nothing, 0, 0..3, "");
    step(&mut tracker, &first, 1000);
    assert_eq!(tracker.stuck_at(), Some(at(8000)));
    assert_eq!(step(&mut tracker, &first, 7999), (vec![], None));
    let unchanged_for = secs(7);
    assert_eq!(step(&mut tracker, &first, 8000), (vec![], Some(TrackerEvent::Stuck { unchanged_for })));
    assert_eq!(step(&mut tracker, &list(Naming::Nothing, 1, 0..3, ""), 9000), (vec![3], None));
    assert_eq!(tracker.stuck_at(), Some(at(16_000)));
    // An older state of the playlist, out of a cache, is no change.
    assert_eq!(step(&mut tracker, &first, 9500), (vec![], None));
    assert_eq!(tracker.stuck_at(), Some(at(16_000)));
    tracker.begin_session();
    assert_eq!(tracker.stuck_at(), None);
}

#[test]
fn empty_live_playlist_is_waited_for_and_may_be_stuck() {
    let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
    let empty = list(Naming::Nothing, 0, [], "");
    let update = tracker.update(&empty, at(0), at(0));
    assert_eq!((sequences(&update), update.event, update.reload_at), (vec![], None, Some(at(2000))));
    let update = tracker.update(&empty, at(2000), at(2000));
    assert_eq!((update.event, update.reload_at), (None, Some(at(3000))));
    assert!(matches!(step(&mut tracker, &empty, 7000).1, Some(TrackerEvent::Stuck { .. })));
    assert_eq!(step(&mut tracker, &list(Naming::Nothing, 0, 0..2, ""), 7500), (vec![1], None));
    assert_eq!(
        step(&mut tracker, &list(Naming::Nothing, 2, [], "#EXT-X-ENDLIST\n"), 8000),
        (vec![], Some(TrackerEvent::Ended))
    );
}

#[test]
fn stuck_factor_is_an_option() {
    let mut options = TrackerOptions::default();
    options.stuck_after_percent = 1000;
    let mut tracker = PlaylistTracker::new(options);
    step(&mut tracker, &list(Naming::Nothing, 0, 0..3, ""), 0);
    assert_eq!(tracker.stuck_at(), Some(at(20_000)));
}

#[test]
fn segments_that_left_the_window_are_counted() {
    let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
    step(&mut tracker, &list(Naming::Nothing, 0, 0..3, ""), 0);
    // 3 would be next; 3 to 9 are gone.
    let passed = list(Naming::Nothing, 10, 0..3, "");
    assert_eq!(step(&mut tracker, &passed, 0), (vec![10, 11, 12], Some(TrackerEvent::WindowPassed { missed: 7 })));
    let passed_and_ended = list(Naming::Nothing, 14, 0..1, "#EXT-X-ENDLIST\n");
    let update = tracker.update(&passed_and_ended, at(0), at(0));
    assert_eq!((sequences(&update), update.event), (vec![14], Some(TrackerEvent::WindowPassed { missed: 1 })));
    assert_eq!(update.reload_at, None);
    // Asked again, an ended playlist says so.
    assert_eq!(step(&mut tracker, &passed_and_ended, 0), (vec![], Some(TrackerEvent::Ended)));
}

#[test]
fn gap_segments_are_handed_out_as_such() {
    let mut tracker = tracker(LiveEdge::Oldest, ReloadPolicy::Spec);
    let update = tracker.update(
        &media("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na\n#EXT-X-GAP\n#EXTINF:2,\nb\n"),
        at(0),
        at(0),
    );
    assert_eq!(update.fresh.iter().map(|segment| segment.is_gap).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn highest_sequence_numbers_do_not_overflow() {
    let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
    assert_eq!(step(&mut tracker, &list(Naming::Nothing, u64::MAX - 1, 0..1, ""), 0), (vec![u64::MAX - 1], None));
    assert_eq!(step(&mut tracker, &list(Naming::Nothing, u64::MAX, 0..1, ""), 0), (vec![u64::MAX], None));
    assert_eq!(step(&mut tracker, &list(Naming::Nothing, u64::MAX, 0..1, ""), 0), (vec![], None));
}

/// A count that begins anew within a session: `old` was followed from its newest segment, then `new` comes.
#[test]
fn count_that_goes_back_is_a_reset() {
    use Continuity::{Lost, Pending, Seamless};
    use Naming::{Fragments, LocalFragmentsAndTimes, Nothing, Times};
    let lost = |about: Option<u64>| Lost { about: about.map(secs) };
    // Naming; first sequence number and contents before and after; what is handed out; what is said.
    let cases = [
        // Far back: fragment numbers tell what is new.
        (Fragments, 50, 100..105, 0, 103..107, &[2, 3][..], Some(Seamless)),
        (Fragments, 50, 100..105, 0, 110..112, &[0, 1], Some(lost(None))),
        (Fragments, 50, 100..105, 0, 90..93, &[], Some(Pending)),
        // Overlapping numbers, other contents.
        (Fragments, 3, 100..105, 0, 103..108, &[2, 3, 4], Some(Seamless)),
        (Fragments, 3, 100..105, 5, 105..108, &[5, 6, 7], Some(lost(None))),
        // Times tell it as well.
        (Times, 50, 100..105, 0, 103..107, &[2, 3], Some(Seamless)),
        (LocalFragmentsAndTimes, 3, 100..105, 0, 103..108, &[2, 3, 4], Some(Seamless)),
        (Times, 50, 100..105, 0, 110..112, &[0, 1], Some(lost(Some(10)))),
        // Nothing tells: from the live edge.
        (Nothing, 50, 100..105, 0, 0..5, &[4], Some(lost(None))),
        // An older state of the same count is no reset, whatever tells.
        (Fragments, 3, 100..105, 2, 99..104, &[], None),
        (Times, 3, 100..105, 2, 99..104, &[], None),
        (Nothing, 3, 100..105, 0, 97..102, &[], None),
        // A list of one segment, one behind.
        (Nothing, 5, 0..1, 4, 0..1, &[], None),
    ];
    for (index, (naming, before, old, after, new, expected, continuity)) in cases.into_iter().enumerate() {
        let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
        step(&mut tracker, &list(naming, before, old, ""), 0);
        let (fresh, event) = step(&mut tracker, &list(naming, after, new, ""), 1000);
        let event_expected = continuity.map(|continuity| TrackerEvent::Reset { continuity });
        assert_eq!((fresh.as_slice(), event), (expected, event_expected), "case {index}");
    }
}

#[test]
fn session_that_lags_after_a_reset_is_rejoined_later() {
    let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
    step(&mut tracker, &list(Naming::Fragments, 50, 100..105, ""), 0);
    let pending = TrackerEvent::Reset { continuity: Continuity::Pending };
    assert_eq!(step(&mut tracker, &list(Naming::Fragments, 0, 90..93, ""), 0), (vec![], Some(pending)));
    assert_eq!(step(&mut tracker, &list(Naming::Fragments, 5, 95..100, ""), 0), (vec![], None));
    let rejoined = TrackerEvent::Rejoined { continuity: Continuity::Seamless };
    assert_eq!(step(&mut tracker, &list(Naming::Fragments, 12, 102..107, ""), 0), (vec![15, 16], Some(rejoined)));
    assert_eq!(step(&mut tracker, &list(Naming::Fragments, 13, 103..108, ""), 0), (vec![17], None));
}

/// A new session after `100..105` was followed to its end.
#[test]
fn new_session_goes_on_where_the_old_one_was() {
    use Continuity::{Lost, Seamless};
    use Naming::{Files, Fragments, LocalFragmentsAndTimes, Nothing, Times};
    let lost = |about: Option<u64>| Some(Lost { about: about.map(secs) });
    let cases = [
        // The last one handed out is listed: nothing is missing, nothing comes twice.
        (Fragments, 0, 102..107, &[3, 4][..], Some(Seamless)),
        (Times, 0, 102..107, &[3, 4], Some(Seamless)),
        (LocalFragmentsAndTimes, 0, 102..107, &[3, 4], Some(Seamless)),
        // The same numbers again are of no account where others tell better.
        (Fragments, 20, 104..109, &[21, 22, 23, 24], Some(Seamless)),
        (LocalFragmentsAndTimes, 20, 104..109, &[21, 22, 23, 24], Some(Seamless)),
        // It ends with what was handed out last.
        (Fragments, 0, 100..105, &[], Some(Seamless)),
        (Times, 0, 100..105, &[], Some(Seamless)),
        // It begins right behind it: times prove that, fragment numbers alone do not.
        (Times, 0, 105..107, &[0, 1], Some(Seamless)),
        (Fragments, 0, 105..107, &[0, 1], lost(None)),
        // Something is missing: 105 to 109 are ten seconds.
        (Times, 0, 110..112, &[0, 1], lost(Some(10))),
        (Fragments, 0, 110..112, &[0, 1], lost(None)),
        // All of it is old.
        (Fragments, 0, 98..103, &[], None),
        (Times, 0, 98..103, &[], None),
        // A plain server goes on with its own numbers and names.
        (Files, 22, 102..107, &[25, 26], Some(Seamless)),
        (Files, 0, 0..5, &[4], lost(None)),
        // Names and numbers that count within the session prove nothing.
        (Nothing, 22, 102..107, &[26], lost(None)),
        (Nothing, 0, 0..5, &[4], lost(None)),
    ];
    for (index, (naming, sequence, contents, expected, continuity)) in cases.into_iter().enumerate() {
        let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
        assert_eq!(step(&mut tracker, &list(naming, 20, 100..105, ""), 0).0, [24]);
        tracker.begin_session();
        let (fresh, event) = step(&mut tracker, &list(naming, sequence, contents, ""), 1000);
        let event_expected = continuity.map(|continuity| TrackerEvent::Rejoined { continuity });
        assert_eq!((fresh.as_slice(), event), (expected, event_expected), "case {index}");
    }
}

#[test]
fn new_session_forgives_times_that_differ_a_little() {
    // 700 ms beside the times of the first session, less than half a segment.
    let text = |first_millis: u64, sequence: u64| {
        let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n");
        for index in 0..3 {
            let millis = first_millis + 2000 * index;
            let (seconds, millis) = (millis / 1000, millis % 1000);
            write!(text, "#EXT-X-PROGRAM-DATE-TIME:2023-05-17T13:48:{seconds:02}.{millis:03}Z\n#EXTINF:2,\ns{index}\n")
                .unwrap();
        }
        text
    };
    for shifted in [14_700, 13_300] {
        let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
        step(&mut tracker, &media(&text(10_000, 7)), 0); // newest at 14 s
        tracker.begin_session();
        let seamless = TrackerEvent::Rejoined { continuity: Continuity::Seamless };
        assert_eq!(step(&mut tracker, &media(&text(shifted, 0)), 0), (vec![1, 2], Some(seamless)), "{shifted}");
    }
}

#[test]
fn session_without_anything_handed_out_starts_afresh() {
    let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
    tracker.begin_session();
    assert_eq!(step(&mut tracker, &list(Naming::Fragments, 0, 0..5, ""), 0), (vec![4], None));
}

#[test]
fn sessions_in_a_row_hand_out_each_fragment_once() {
    let mut tracker = tracker(LiveEdge::Oldest, ReloadPolicy::Spec);
    let mut handed_out = Vec::new();
    for session in 0..10_u64 {
        tracker.begin_session();
        for reload in 0..4_u64 {
            let first = session * 4 + reload;
            let update = tracker.update(&list(Naming::Fragments, reload, first..first + 5, ""), at(0), at(0));
            handed_out.extend(
                update.fresh.iter().map(|s| s.fragment_number.as_ref().unwrap().as_str().parse::<u64>().unwrap()),
            );
        }
    }
    assert_eq!(handed_out, (0..44).collect::<Vec<_>>());
}

/// A camera under a server that caches, restarts its count, and sessions that come and go: whatever happens, each content
/// is handed out at most once and in order. Nothing is missed without a word, unless the server counts anew within a
/// session: new numbers may happen to fit the old ones.
#[test]
fn no_sequence_of_playlists_repeats_or_hides_a_segment() {
    for seed in 1..200_u64 {
        // A linear congruential generator (Knuth's constants) makes the walk repeatable.
        let mut state = seed;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
        let (mut newest, mut count_start, mut handed_out) = (10, 0, None);
        for millis in 0..200 {
            newest += draw(4);
            let is_restart = draw(20) == 0;
            let may_fit = seed % 2 == 0;
            match draw(20) {
                _ if is_restart && !may_fit => tracker.begin_session(),
                0 => tracker.begin_session(),
                1 => tracker.skip_to_live_edge(),
                _ => {}
            }
            if is_restart {
                count_start = newest - draw(8); // the count begins anew at the first listed
            }
            let stale = if draw(8) == 0 { draw(3) } else { 0 };
            let last = (newest - stale).max(count_start);
            let first = last.saturating_sub(draw(6)).max(count_start);
            let playlist = list(Naming::Fragments, first - count_start, first..=last, "");
            let update = tracker.update(&playlist, at(millis), at(millis));
            for (index, segment) in update.fresh.iter().enumerate() {
                let content: u64 = segment.fragment_number.as_ref().unwrap().as_str().parse().unwrap();
                if let Some(previous) = handed_out {
                    assert!(content > previous, "seed {seed}: {content} after {previous}");
                    let is_said = index == 0 && (update.event.is_some() || may_fit);
                    assert!(content == previous + 1 || is_said, "seed {seed}: {content} after {previous} in silence");
                }
                handed_out = Some(content);
            }
        }
        assert!(handed_out > Some(100), "seed {seed}");
    }
}

#[test]
fn complete_playlist_opened_anew_goes_on_where_it_was() {
    for (naming, expected) in [(Naming::Fragments, &[][..]), (Naming::Files, &[]), (Naming::Nothing, &[0, 1, 2])] {
        let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
        let playlist = list(naming, 0, 0..3, "#EXT-X-ENDLIST\n");
        assert_eq!(step(&mut tracker, &playlist, 0), (vec![0, 1, 2], Some(TrackerEvent::Ended)));
        tracker.begin_session();
        let update = tracker.update(&playlist, at(0), at(0));
        assert_eq!((sequences(&update).as_slice(), update.reload_at), (expected, None));
    }
}

#[test]
fn skip_to_the_live_edge_reports_what_was_left_out() {
    let follow = |live_edge| {
        let mut tracker = tracker(live_edge, ReloadPolicy::Spec);
        step(&mut tracker, &list(Naming::Times, 0, 0..3, ""), 0);
        tracker.skip_to_live_edge();
        tracker
    };
    let next = list(Naming::Times, 2, 2..8, ""); // 3 to 7 are new
    let skipped = |missed| Some(TrackerEvent::Skipped { missed });
    assert_eq!(step(&mut follow(LiveEdge::Newest), &next, 0), (vec![7], skipped(4)));
    assert_eq!(step(&mut follow(LiveEdge::Segments(2)), &next, 0), (vec![6, 7], skipped(3)));
    assert_eq!(step(&mut follow(LiveEdge::Oldest), &next, 0), (vec![3, 4, 5, 6, 7], None));
    // What left the window counts as well: 3 to 9.
    assert_eq!(step(&mut follow(LiveEdge::Newest), &list(Naming::Times, 10, 10..13, ""), 0), (vec![12], skipped(9)));
    // It holds for one update.
    let mut tracker = follow(LiveEdge::Newest);
    assert_eq!(step(&mut tracker, &list(Naming::Times, 0, 0..3, ""), 0), (vec![], None));
    assert_eq!(step(&mut tracker, &next, 0), (vec![3, 4, 5, 6, 7], None));
    // In a new session the time is told: content 7 starts 8 s after the end of content 2.
    let mut tracker = follow(LiveEdge::Newest);
    tracker.begin_session();
    let lost = TrackerEvent::Rejoined { continuity: Continuity::Lost { about: Some(secs(8)) } };
    assert_eq!(step(&mut tracker, &next, 0), (vec![7], Some(lost)));
}

#[test]
fn estimates_that_move_are_no_reset() {
    // The time of `b` is carried from `a`, and after `a` has left, from `c`, an hour later.
    let hour = "#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2023-05-17T14:48:35Z\n#EXTINF:2,\nc\n";
    let first = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PROGRAM-DATE-TIME:2023-05-17T13:48:35Z\n#EXTINF:2,\na\n#EXTINF:2,\nb\n";
    let second = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:1\n#EXTINF:2,\nb\n{hour}");
    let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
    assert_eq!(step(&mut tracker, &media(first), 0), (vec![1], None));
    assert_eq!(step(&mut tracker, &media(&second), 0), (vec![2], None));
}

#[test]
fn fragments_listed_by_time_need_not_be_in_order_of_their_numbers() {
    // By producer time, 7 comes after 9: it was ingested before.
    let text = |sequence: u64, contents: &[(u64, u64)]| {
        let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n");
        for (content, number) in contents {
            write!(text, "{}#EXTINF:2.0,\nf?FragmentNumber={number:047}\n", time_tag(*content)).unwrap();
        }
        media(&text)
    };
    let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
    assert_eq!(step(&mut tracker, &text(0, &[(0, 8), (1, 9)]), 0), (vec![1], None));
    assert_eq!(step(&mut tracker, &text(1, &[(1, 9), (2, 7), (3, 10)]), 0), (vec![2, 3], None));
}

/// A playlist of segments that start at these tenths of a second, as the service writes them: EXTINF is what the next
/// start leaves, and numbers count within the session.
fn jittered(sequence: u64, starts: &[u64]) -> MediaPlaylist {
    let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n");
    for (number, start) in (sequence..).zip(starts) {
        let time = format!("2023-05-17T13:48:{:02}.{}00Z", start / 10, start % 10);
        write!(text, "#EXT-X-PROGRAM-DATE-TIME:{time}\n#EXTINF:1.001,\nf?FragmentNumber={number}\n").unwrap();
    }
    media(&text)
}

#[test]
fn new_session_finds_its_place_though_times_jitter_or_overlap() {
    // One segment a second, each start off by up to 0.6 s; 31 and 29 are out of order.
    let starts = [10, 17, 31, 29, 43, 50, 64, 66, 83, 90];
    for first in 0..4 {
        for ahead in 1..=5 {
            let mut tracker = tracker(LiveEdge::Oldest, ReloadPolicy::Spec);
            step(&mut tracker, &jittered(0, &starts[first..first + 4]), 0);
            tracker.begin_session();
            let list = &starts[first + 4 - ahead.min(4)..(first + 5).min(10)];
            let (fresh, event) = step(&mut tracker, &jittered(0, list), 1);
            let seamless = TrackerEvent::Rejoined { continuity: Continuity::Seamless };
            assert_eq!((fresh.len(), event), (1, Some(seamless)), "from {first}, {ahead} listed again");
        }
    }
}

#[test]
fn session_that_lags_behind_waits_and_repeats_nothing_though_times_jitter() {
    let starts = [10, 17, 31, 29, 43, 50, 64];
    let mut tracker = tracker(LiveEdge::Oldest, ReloadPolicy::Spec);
    step(&mut tracker, &jittered(0, &starts[..5]), 0);
    tracker.begin_session();
    assert_eq!(step(&mut tracker, &jittered(0, &starts[..3]), 1).0, [0; 0]);
    assert_eq!(step(&mut tracker, &jittered(0, &starts[..4]), 2).0, [0; 0]);
    let (fresh, event) = step(&mut tracker, &jittered(0, &starts), 3);
    assert_eq!((fresh, event), (vec![5, 6], Some(TrackerEvent::Rejoined { continuity: Continuity::Seamless })));
}

#[test]
fn session_that_begins_far_back_repeats_nothing_however_long_it_takes() {
    let times: Vec<u64> = (0..60).map(|n| 10 * n).collect();
    let mut tracker = tracker(LiveEdge::Oldest, ReloadPolicy::Spec);
    for n in 0..55 {
        step(&mut tracker, &jittered(n, &times[n as usize..n as usize + 5]), 1000 * n);
    }
    tracker.begin_session();
    // A replay that goes on where the consumer is: 40 segments back, one more a second.
    for n in 0..41 {
        let (fresh, event) = step(&mut tracker, &jittered(0, &times[14..20 + n]), 60_000 + 1000 * n as u64);
        let expected = if n < 40 { 0 } else { 1 };
        assert_eq!(fresh.len(), expected, "{n} {event:?}");
    }
}

#[test]
fn a_clock_that_went_back_for_good_is_found_out() {
    let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
    step(&mut tracker, &jittered(0, &[400, 410, 420]), 0);
    tracker.begin_session();
    let mut found = None;
    for second in 0..30 {
        let list = jittered(second, &[10 * second, 10 * second + 10, 10 * second + 20]);
        let (fresh, event) = step(&mut tracker, &list, 1000 * second);
        match event {
            Some(event) => {
                assert_eq!(event, TrackerEvent::Rejoined { continuity: Continuity::Lost { about: None } });
                assert_eq!(fresh, [second + 2], "the live edge");
                found = Some(second);
                break;
            }
            None => assert!(fresh.is_empty()),
        }
    }
    assert_eq!(found, Some(14), "after twice the time at which a list counts as stuck");
}

#[test]
fn new_session_goes_on_where_fragments_are_listed_out_of_order_of_their_numbers() {
    let list = |numbers: &[u64]| {
        let mut text = String::from("#EXTM3U\n#EXT-X-TARGETDURATION:2\n");
        for number in numbers {
            write!(text, "#EXTINF:2.0,\nf?FragmentNumber={number:047}\n").unwrap();
        }
        media(&text)
    };
    let mut tracker = tracker(LiveEdge::Oldest, ReloadPolicy::Spec);
    step(&mut tracker, &list(&[5, 7, 6]), 0);
    tracker.begin_session();
    assert_eq!(step(&mut tracker, &list(&[7, 6, 8]), 1).0, [2], "7 was handed out before 6");
}

#[test]
fn another_variant_goes_on_by_time_or_by_sequence_number() {
    let mut by_sequence = tracker(LiveEdge::Oldest, ReloadPolicy::Spec);
    step(
        &mut by_sequence,
        &media("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:2,\nlow7\n#EXTINF:2,\nlow8\n"),
        0,
    );
    by_sequence.begin_variant();
    let high = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:2,\nhigh7\n#EXTINF:2,\nhigh8\n#EXTINF:2,\nhigh9\n";
    assert_eq!(step(&mut by_sequence, &media(high), 1).0, [9]);
    let mut by_time = tracker(LiveEdge::Oldest, ReloadPolicy::Spec);
    step(&mut by_time, &list(Naming::Times, 0, 0..3, ""), 0);
    by_time.begin_variant();
    assert_eq!(step(&mut by_time, &list(Naming::Times, 40, 1..5, ""), 1).0, [42, 43]);
}

#[test]
fn delta_update_keeps_the_count() {
    let mut tracker = tracker(LiveEdge::Newest, ReloadPolicy::Spec);
    step(&mut tracker, &list(Naming::Nothing, 10, 0..5, ""), 0);
    let delta = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:11\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n#EXTINF:2,\nx\n#EXTINF:2,\ny\n";
    assert_eq!(step(&mut tracker, &media(delta), 0), (vec![15], None));
}

#[test]
fn times_of_the_fixtures_are_what_they_claim() {
    let playlist = list(Naming::Times, 0, 0..1, "");
    let start = SystemTime::UNIX_EPOCH + secs(PROGRAMME_ZERO_SECONDS);
    assert_eq!(playlist.segments[0].program_date_time, Some(start));
}
