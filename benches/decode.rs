//! Decoding the first segment of a recording on one thread, a new decoder each time; the throughput counts frames.

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/demux/recording.rs"]
mod recording;

use std::time::Duration;

use criterion::{Criterion, Throughput};
use kvs_hls::decode::Openh264Decoder;
use kvs_hls::fmp4::{Demuxer, InitSegment};
use kvs_hls::{Decoder, Limits};

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    let mut group = criterion.benchmark_group("decode");
    for name in ["baseline_640x360", "main_cabac_720p", "high_1080p", "high_bframes_1080p"] {
        let part = recording::parts(&recording::fixtures().join("hls").join(name)).remove(0);
        let init = InitSegment::parse(&part.init, &Limits::default()).expect("an initialization segment");
        let mut units = Vec::new();
        Demuxer::new(init, Limits::default()).push(part.segments[0].clone(), &mut units).expect("a segment");
        group.throughput(Throughput::Elements(units.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut decoder = Openh264Decoder::new(Limits::default());
                let mut pictures = 0;
                for unit in &units {
                    decoder.decode(unit, &mut |_| pictures += 1).expect("a picture");
                }
                assert_eq!(pictures, units.len());
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
