//! Demuxing the segments of a recording, and parsing its initialization segment.

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/demux/recording.rs"]
mod recording;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use kvs_hls::Limits;
use kvs_hls::fmp4::{Demuxer, InitSegment};

fn main() {
    let mut criterion = Criterion::default().configure_from_args().measurement_time(Duration::from_secs(3));
    let mut group = criterion.benchmark_group("demux");
    let limits = Limits::default();
    for name in ["kvs_camera", "audio_in_fragments"] {
        let part = recording::parts(&recording::fixtures().join("hls").join(name)).remove(0);
        let init = InitSegment::parse(&part.init, &limits).expect("an initialization segment");
        let demuxer = Demuxer::new(init, limits.clone());
        group.throughput(Throughput::Bytes(part.segments.iter().map(|segment| segment.len() as u64).sum()));
        let mut units = Vec::new();
        group.bench_function(format!("{name}, {} segments", part.segments.len()), |bencher| {
            bencher.iter(|| {
                let mut demuxer = demuxer.clone();
                units.clear();
                for segment in &part.segments {
                    demuxer.push(black_box(segment).clone(), &mut units).expect("a segment");
                }
                units.len()
            });
        });
        group.throughput(Throughput::Bytes(part.init.len() as u64));
        group.bench_function(format!("{name}, init"), |bencher| {
            bencher.iter(|| InitSegment::parse(black_box(&part.init), &limits).expect("an initialization segment"));
        });
    }
    group.finish();
    criterion.final_summary();
}
