//! Walking the NAL units of access units: the time depends on their number, not on their bytes.

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/demux/recording.rs"]
mod recording;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use kvs_hls::Limits;
use kvs_hls::fmp4::{Demuxer, InitSegment};
use kvs_hls::h264::AccessUnit;

fn main() {
    let mut criterion = Criterion::default().configure_from_args().measurement_time(Duration::from_secs(3));
    let mut group = criterion.benchmark_group("nal");
    for name in ["kvs_camera", "slices_4_per_picture", "avc1_inband_sets_aud_sei"] {
        let part = recording::parts(&recording::fixtures().join("hls").join(name)).remove(0);
        let init = InitSegment::parse(&part.init, &Limits::default()).expect("an initialization segment");
        let mut units = Vec::new();
        Demuxer::new(init, Limits::default()).push(part.segments[0].clone(), &mut units).expect("a segment");
        let unit = &units[0];
        group.throughput(Throughput::Elements(unit.nal_units().count() as u64));
        group.bench_function(format!("{name}, walk"), |bencher| {
            bencher.iter(|| black_box(unit).nal_units().filter(|nal| nal.is_slice()).count());
        });
        group.bench_function(format!("{name}, check"), |bencher| {
            bencher.iter(|| {
                let (data, config) = (black_box(unit).data().clone(), unit.config().clone());
                AccessUnit::new(data, config, unit.pts(), unit.dts(), unit.duration_ticks()).expect("an access unit")
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
