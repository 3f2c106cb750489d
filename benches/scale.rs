//! From planes of 1080p to BGR of other sizes; the throughput counts pixels of the picture. The native size, without
//! scaling, is the yardstick.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use kvs_hls::decode::{ColorSpace, Converter, Picture};
use kvs_hls::{ColorMatrix, ColorRange, Output, Pts, Size, Timescale};

/// Values without a pattern, the same on every run.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(50)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2));
    let mut group = criterion.benchmark_group("scale/1920x1080");
    let (width, height) = (1920, 1080);
    // Rows as the decoder has them: with 32 pixels of border on either side.
    let strides = [width + 64, width / 2 + 32];
    let planes = [noise(strides[0] * height), noise(strides[1] * height / 2), noise(strides[1] * height / 2)];
    let picture = Picture {
        planes: [&planes[0], &planes[1], &planes[2]],
        strides,
        width,
        height,
        color: ColorSpace::new(ColorMatrix::Bt709, ColorRange::Limited),
        sample_aspect_ratio: None,
        pts: Pts::new(0, Timescale::new(1).expect("one")),
    };
    group.throughput(Throughput::Elements((width * height) as u64));
    for size in ["native", "exact:1280x720", "exact:960x540", "exact:640x360", "letterbox:640x640", "exact:416x234"] {
        let output = Output::bgr().size(size.parse::<Size>().expect("a size"));
        let (width, height) = output.frame_size(width, height);
        let mut out = vec![0; output.format().frame_bytes(width, height)];
        let mut converter = Converter::default();
        group.bench_function(size, |bencher| {
            bencher.iter(|| assert!(converter.convert(black_box(&picture), output, black_box(&mut out))));
        });
    }
    group.finish();
    criterion.final_summary();
}
