//! Parsing media playlists of the kind that Kinesis Video Streams sends, and following one through a reload.

use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use kvs_hls::hls::{Playlist, PlaylistTracker, TrackerOptions, parse};
use kvs_hls::{Limits, SecretUrl};

/// A live list as the service writes it: a discontinuity, a date and a long URL for each fragment.
fn text(segments: u64) -> String {
    let mut text = String::from(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:1\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"getMP4InitFragment.mp4?SessionToken=CiAD&TrackNumber=1\"\n",
    );
    let token = "CiBzZXNzaW9uLXRva2VuLW9mLXRoZS11c3VhbC1sZW5ndGg~".repeat(4);
    for index in 0..segments {
        let (minutes, seconds) = (index / 60 % 60, index % 60);
        let hours = index / 3600;
        writeln!(
            text,
            "#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2025-03-14T{hours:02}:{minutes:02}:{seconds:02}.589Z\n\
             #EXTINF:1.001,\ngetMP4MediaFragment.mp4?FragmentNumber=9134385233318143{:031}&SessionToken={token}",
            index + 1
        )
        .expect("a string takes all");
    }
    text
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args().measurement_time(Duration::from_secs(3));
    let base = SecretUrl::parse("https://host/hls/v1/getHLSMediaPlaylist.m3u8?SessionToken=CiAD").expect("a URL");
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("playlist");
    for segments in [5, 500, 5000] {
        let text = text(segments);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::new("parse", segments), &text, |bencher, text| {
            bencher.iter(|| parse(black_box(text.as_bytes()), &base, &limits).expect("a playlist"));
        });
    }
    let [old, new] = [5, 6].map(|segments| match parse(text(segments).as_bytes(), &base, &limits) {
        Ok(Playlist::Media(playlist)) => playlist,
        other => unreachable!("{other:?}"),
    });
    group.throughput(Throughput::Elements(1));
    let now = Instant::now();
    group.bench_function("track a reload", |bencher| {
        let mut tracker = PlaylistTracker::new(TrackerOptions::default());
        tracker.update(&old, now, now);
        bencher.iter_batched_ref(
            || tracker.clone(),
            |tracker| tracker.update(black_box(&new), now, now),
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
    criterion.final_summary();
}
