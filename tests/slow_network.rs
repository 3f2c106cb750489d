//! Segments that come slower than they are decoded: frames are out before the download is whole, and are the same.

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kvs_hls::net::{Fetch, HttpClient, Request};
use kvs_hls::{Error, Frame, FrameSelection, FrameSource, Output, SecretUrl};
use support::{FastClock, builder, file_server, fixtures, md5, read_all};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Each segment is sent in so many pieces, each later than a look at the body is due.
const PIECES: usize = 12;
const PAUSE: Duration = Duration::from_millis(55);

/// A server that knows what the consumer has.
struct Server {
    /// Path and body of everything, and the number of the segment if it is one.
    files: HashMap<String, (Bytes, Option<u64>)>,
    /// How many segments the consumer has a frame of. The last piece of a segment, or the end of a connection that breaks
    /// off, waits for a frame of that segment.
    seen: watch::Receiver<u64>,
    /// Segments whose transfer is to break off after so many pieces.
    cuts: Mutex<Vec<(u64, usize)>>,
}

impl Server {
    /// Serves a recording; gives the URL of its playlist.
    async fn start(
        name: &str,
        seen: watch::Receiver<u64>,
        cuts: Vec<(u64, usize)>,
        change: fn(Vec<u8>) -> Vec<u8>,
    ) -> String {
        let folder = fixtures().join("hls").join(name);
        let playlist = std::fs::read_to_string(folder.join("index.m3u8")).unwrap();
        let segments: Vec<_> = playlist.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        let file = |entry: Result<std::fs::DirEntry, _>| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let number = segments.iter().position(|segment| *segment == name).map(|index| index as u64);
            let body = std::fs::read(&path).unwrap();
            let body = if number.is_some() { change(body) } else { body };
            (name, (Bytes::from(body), number))
        };
        let files = std::fs::read_dir(&folder).unwrap().map(file).collect();
        let server = Arc::new(Self { files, seen, cuts: Mutex::new(cuts) });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/index.m3u8", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.answer(socket).await });
            }
        });
        url
    }

    async fn answer(&self, mut socket: TcpStream) -> std::io::Result<()> {
        socket.set_nodelay(true)?;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(socket.read_u8().await?);
        }
        let path = String::from_utf8(request).unwrap().split([' ', '?']).nth(1).unwrap()[1..].to_owned();
        let (body, number) = &self.files[&path];
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        socket.write_all(head.as_bytes()).await?;
        let Some(number) = *number else { return socket.write_all(body).await };
        let cut = {
            let mut cuts = self.cuts.lock().unwrap();
            cuts.iter().position(|(segment, _)| *segment == number).map(|index| cuts.remove(index).1)
        };
        let last = cut.unwrap_or(PIECES - 1);
        let mut seen = self.seen.clone();
        for (piece, bytes) in body.chunks(body.len().div_ceil(PIECES)).enumerate() {
            if piece == last {
                let _ = seen.wait_for(|seen| *seen > number).await;
                if cut.is_some() {
                    return Ok(());
                }
            }
            socket.write_all(bytes).await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

/// All frames to the end; the server is told of each.
async fn read(source: &FrameSource, seen: &watch::Sender<u64>) -> Vec<Frame> {
    let mut frames = source.start().unwrap();
    let mut all = Vec::<Frame>::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(8), frames.next()).await;
        let next: Option<Result<Frame, Error>> =
            next.unwrap_or_else(|_| panic!("nothing comes after {} frames: {:?}", all.len(), source.stats()));
        let Some(frame) = next else { return all };
        all.push(frame.unwrap());
        seen.send_replace(all.last().unwrap().meta().media_sequence + 1);
    }
}

/// Frames come before the last byte of their segment is sent, and are those of a fast download.
async fn check(name: &str, selection: FrameSelection) {
    let server = file_server().await;
    let fast = builder(&format!("{}/hls/{name}/index.m3u8", server.uri()));
    let (expected, _) = read_all(&fast.select(selection).output(Output::i420()).build().unwrap()).await;
    let (sender, seen) = watch::channel(0);
    let url = Server::start(name, seen, Vec::new(), |body| body).await;
    let source = builder(&url).select(selection).output(Output::i420()).build().unwrap();
    let frames = read(&source, &sender).await;
    let content = |frame: &Frame| (md5(frame.data()), frame.meta().pts, frame.meta().is_keyframe);
    assert!(frames.iter().map(content).eq(expected.iter().map(content)), "{name}: {} frames", frames.len());
    // Without dates in the playlist times count from the arrival.
    let from_first = |frames: &[Frame]| -> Vec<_> {
        let first = frames[0].captured_at();
        frames.iter().map(|frame| frame.captured_at().duration_since(first).unwrap()).collect()
    };
    assert_eq!(from_first(&frames), from_first(&expected), "{name}");
    assert!(frames.iter().all(|frame| frame.meta().gap_before.is_none()), "{name}");
    assert_eq!((source.stats().gaps, source.stats().errors), (0, 0), "{name}");
}

macro_rules! slowly {
    ($($test:ident: $name:literal, $selection:expr;)+) => { $(
        #[tokio::test]
        async fn $test() {
            check($name, $selection).await;
        }
    )+ };
}

slowly! {
    frames_precede_the_last_byte: "baseline_640x360", FrameSelection::All;
    frames_precede_the_last_byte_with_b_frames: "bframes_closed_gop_160x90", FrameSelection::All;
    frames_precede_the_last_byte_in_chunks: "chunks_five_frames", FrameSelection::All;
    frames_precede_the_last_byte_at_a_target: "bframes_closed_gop_160x90", FrameSelection::TargetFps(4.0);
    keyframes_precede_the_last_byte: "baseline_640x360", FrameSelection::Keyframes;
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    for name in ["baseline_640x360", "bframes_closed_gop_160x90"] {
        let (sender, seen) = watch::channel(0);
        // The second and the third time nothing new comes in front of the cut.
        let cuts = vec![(0, 10), (1, 10), (1, 10), (1, 4), (2, 11)];
        let url = Server::start(name, seen, cuts, |body| body).await;
        let source = builder(&url).output(Output::i420()).clock(FastClock::new(50)).build().unwrap();
        let frames = read(&source, &sender).await;
        let (server, url) = (file_server().await, format!("/hls/{name}/index.m3u8"));
        let whole = builder(&format!("{}{url}", server.uri())).output(Output::i420()).build().unwrap();
        let hashes = |frames: &[Frame]| -> Vec<_> { frames.iter().map(|frame| md5(frame.data())).collect() };
        assert_eq!(hashes(&frames), hashes(&read_all(&whole).await.0), "{name}");
        assert!(frames.iter().all(|frame| frame.meta().gap_before.is_none()), "{name}");
        let stats = source.stats();
        assert_eq!((stats.errors, stats.gaps, stats.segments), (5, 0, 3), "{name}");
    }
}

/// As some muxers write them. The first group of pictures may suffer, then segments are decoded whole.
#[tokio::test]
async fn wrong_composition_offsets_turn_it_off() {
    let name = "bframes_closed_gop_160x90";
    let (_sender, seen) = watch::channel(u64::MAX);
    let url = Server::start(name, seen, Vec::new(), support::without_composition_offsets).await;
    let (frames, error) = read_all(&builder(&url).output(Output::i420()).build().unwrap()).await;
    assert!(error.is_none(), "{error:?}");
    let server = file_server().await;
    let right = builder(&format!("{}/hls/{name}/index.m3u8", server.uri())).output(Output::i420()).build().unwrap();
    let (right, _) = read_all(&right).await;
    let (late, right) = (&frames[frames.len() - 32..], &right[16..]);
    assert!(late.iter().zip(right).all(|(a, b)| a.data() == b.data()));
    assert!(frames.is_sorted_by_key(|frame| frame.meta().pts.ticks()));
    assert!(frames.len() >= 44, "{} of 48 frames", frames.len());
}

#[tokio::test]
async fn a_body_is_looked_at_while_it_comes_slowly() {
    let name = "baseline_640x360";
    let (_sender, seen) = watch::channel(u64::MAX);
    let slow = Server::start(name, seen, Vec::new(), |body| body).await;
    let fast = format!("{}/hls/{name}/index.m3u8", file_server().await.uri());
    let playlist = std::fs::read_to_string(fixtures().join("hls").join(name).join("index.m3u8")).unwrap();
    let segment = playlist.lines().find(|line| !line.starts_with('#')).unwrap();
    let body = std::fs::read(fixtures().join("hls").join(name).join(segment)).unwrap();
    let fetch = async |playlist: &str, range: Option<std::ops::Range<u64>>| {
        let url = SecretUrl::parse(&playlist.replace("index.m3u8", segment)).unwrap();
        let request = Request::new(url, "max_segment_bytes", 1 << 20, Duration::from_secs(20)).range(range);
        let mut looks = Vec::new();
        let mut look = |bytes: &[u8]| looks.push(bytes.to_vec());
        let response = HttpClient::new().unwrap().fetch_watched(request, &mut look).await.unwrap();
        (response.body, looks)
    };
    let (whole, looks) = fetch(&slow, None).await;
    assert_eq!(whole, body);
    assert!((6..=PIECES).contains(&looks.len()), "{} looks", looks.len());
    assert!(looks.iter().all(|look| body.starts_with(look)));
    assert!(looks.is_sorted_by(|a, b| a.len() < b.len()));
    assert_eq!(fetch(&fast, None).await, (Bytes::from(body.clone()), Vec::new()), "nobody waits for a fast one");
    let (part, looks) = fetch(&slow, Some(100..200)).await;
    assert_eq!((&part[..], looks.len()), (&body[100..200], 0), "the server sends all of it");
}
