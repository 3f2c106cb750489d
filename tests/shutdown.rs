//! What is left of a source after its end: nothing. Alone in its process, since it counts threads.
#![cfg(target_os = "linux")]

mod support;

use std::time::Duration;

use kvs_hls::{Delivery, FixedUrl, FrameSource};

/// The names of this process's threads that belong to sources.
fn threads() -> Vec<String> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("source ") || name.starts_with("decode"))
        .collect()
}

/// Connections of this process to a port.
fn connections(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let remote = format!(":{port:04X}");
    // Columns: number, local address, remote address, state; 01 is established.
    table
        .lines()
        .filter(|line| {
            let mut fields = line.split_whitespace().skip(2);
            fields.next().is_some_and(|address| address.ends_with(&remote)) && fields.next() == Some("01")
        })
        .count()
}

#[test]
fn threads_and_sockets_are_gone_after_the_end() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(support::file_server());
    let port = server.address().port();
    let url = format!("{}/hls/main_cabac_720p/index.m3u8", server.uri());
    for end in ["stop", "drop", "read to the end", "drop the frames"] {
        let source = FrameSource::builder("x", FixedUrl::new(&url).unwrap()).delivery(Delivery::All);
        let source = source.decode_ahead(2).build().unwrap();
        let mut frames = source.start().unwrap();
        assert!(frames.read_frame(Duration::from_secs(20)).unwrap().is_some(), "{end}");
        assert_eq!(threads().len(), 3, "{end}: {:?}", threads());
        match end {
            "stop" => source.stop(),
            "drop" => drop(source),
            "read to the end" => assert_eq!(frames.blocking().count(), 49),
            _ => drop(frames),
        }
        assert_eq!(threads(), Vec::<String>::new(), "{end}");
        assert_eq!(connections(port), 0, "{end}");
    }
}
