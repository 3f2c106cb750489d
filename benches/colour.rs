//! From planes to packed pixels; the throughput counts bytes of output. A plain copy of them is the yardstick.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use kvs_hls::decode::{ColorSpace, Picture, convert};
use kvs_hls::{ColorMatrix, ColorRange, Output, PixelFormat, Pts, Timescale};

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
    for (width, height) in [(640, 360), (1280, 720), (1920, 1080)] {
        let mut group = criterion.benchmark_group(format!("colour/{width}x{height}"));
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
        for format in [PixelFormat::Bgr, PixelFormat::Rgb, PixelFormat::Gray, PixelFormat::I420] {
            let mut out = vec![0; format.frame_bytes(width, height)];
            group.throughput(Throughput::Bytes(out.len() as u64));
            group.bench_function(format.to_string(), |bencher| {
                bencher.iter(|| assert!(convert(black_box(&picture), Output::new(format), black_box(&mut out))));
            });
        }
        let source = noise(PixelFormat::Bgr.frame_bytes(width, height));
        let mut out = vec![0; source.len()];
        group.throughput(Throughput::Bytes(out.len() as u64));
        group.bench_function("copy of bgr", |bencher| {
            bencher.iter(|| black_box(&mut out).copy_from_slice(black_box(&source)));
        });
        group.finish();
    }
    criterion.final_summary();
}
