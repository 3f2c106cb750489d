//! A whole recording through a source: HTTP over loopback, demuxing, decoding, BGR, delivery; the throughput counts
//! frames. Starting and stopping the source is part of it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{Criterion, Throughput};
use kvs_hls::{Delivery, FixedUrl, FrameSource};

/// Answers GET requests with files below the folder; its address.
fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            std::thread::spawn(move || answer(&stream, &folder));
        }
    });
    format!("http://{address}")
}

/// Serves one connection until the other side has had enough.
fn answer(mut stream: &TcpStream, folder: &Path) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let request = lines.next()?.ok()?;
        let path = request.split(' ').nth(1)?.split('?').next()?.trim_start_matches('/').to_owned();
        while !lines.next()?.ok()?.is_empty() {}
        let (status, body) = fs::read(folder.join(path)).map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).ok()?;
        stream.write_all(&body).ok()?;
    }
}

/// Frames of the recording.
fn read_all(url: &str) -> usize {
    let session = FixedUrl::new(url).expect("a URL");
    let source = FrameSource::builder("bench", session).delivery(Delivery::All).build().expect("valid options");
    let frames = source.start().expect("threads");
    frames.blocking().inspect(|frame| assert!(frame.is_ok(), "{frame:?}")).count()
}

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(8));
    let server = serve(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hls"));
    let mut group = criterion.benchmark_group("end_to_end");
    for name in ["kvs_camera", "main_cabac_720p"] {
        let url = format!("{server}/{name}/index.m3u8");
        let frames = read_all(&url);
        group.throughput(Throughput::Elements(frames as u64));
        group.bench_function(name, |bencher| bencher.iter(|| assert_eq!(read_all(&url), frames)));
    }
    group.finish();
    criterion.final_summary();
}
