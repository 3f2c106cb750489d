//! What a camera counts, for Prometheus and for [`Stats`](crate::Stats).

use std::sync::{Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry};

use crate::error::{Error, ErrorKind};
use crate::gap::{Gap, GapCause};

/// The counters of one camera. They exist without a registry too: `stats()` reads them.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) frames: IntCounter,
    pub(crate) reconnects: IntCounter,
    pub(crate) url_refreshes: IntCounter,
    pub(crate) url_refresh_failures: IntCounter,
    pub(crate) read_errors: IntCounter,
    /// Unix time of the last delivered frame's capture.
    pub(crate) last_frame_timestamp: Gauge,
    pub(crate) connection_state: IntGauge,
    losses: Vec<(GapCause, Losses)>,
    pub(crate) frames_synthetic: IntCounter,
    pub(crate) frames_superseded: IntCounter,
    pub(crate) segments: IntCounter,
    pub(crate) bytes: IntCounter,
    /// Bits a second while segments were being downloaded.
    pub(crate) bandwidth: Gauge,
    pub(crate) segment_seconds: Histogram,
    pub(crate) decode_seconds: Histogram,
    pub(crate) latency_seconds: Histogram,
    pub(crate) queue_frames: IntGauge,
    pub(crate) variant_switches: IntCounter,
    /// Unix time at which the present session was begun: its age is the time since.
    pub(crate) session_start_timestamp: Gauge,
    pub(crate) camera_silent: IntGauge,
    /// Where they are registered, while they are.
    registry: Mutex<Option<Registry>>,
}

/// What was lost by one cause.
#[derive(Debug)]
struct Losses {
    gaps: IntCounter,
    frames: IntCounter,
    segments: IntCounter,
}

impl Metrics {
    /// # Errors
    /// `Config` when the registry already has a camera of this name.
    pub(crate) fn new(camera_id: &str, registry: Option<&Registry>) -> Result<Self, Error> {
        let invalid = |error: prometheus::Error| {
            Error::new(
                ErrorKind::Config,
                format!("camera_id \"{camera_id}\" that the registry refuses; it must be unused there"),
            )
            .with_source(error)
        };
        let opts =
            |name: &str, help: &str| Opts::new(format!("kvs_hls_{name}"), help).const_label("camera_id", camera_id);
        let counter = |name: &str, help: &str| IntCounter::with_opts(opts(name, help)).map_err(invalid);
        let gauge = |name: &str, help: &str| Gauge::with_opts(opts(name, help)).map_err(invalid);
        let int_gauge = |name: &str, help: &str| IntGauge::with_opts(opts(name, help)).map_err(invalid);
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
            Histogram::with_opts(opts).map_err(invalid)
        };
        let losses = |cause: GapCause| {
            let counter = |name: &str, help: &str| {
                IntCounter::with_opts(opts(name, help).const_label("cause", cause.as_str())).map_err(invalid)
            };
            let gaps = counter("gaps_total", "Gaps in the delivered frames.")?;
            let frames = counter("frames_lost_total", "Frames known to be lost one by one.")?;
            let segments = counter("segments_lost_total", "Whole segments lost.")?;
            Ok((cause, Losses { gaps, frames, segments }))
        };
        let mut metrics = Self {
            frames: counter("frames_total", "Frames delivered.")?,
            reconnects: counter("reconnects_total", "Times the stream was lost and opened again.")?,
            url_refreshes: counter("url_refreshes_total", "Sessions opened to replace one before it expired.")?,
            url_refresh_failures: counter(
                "url_refresh_failures_total",
                "Sessions that were to replace one before it expired and could not be had or did not work.",
            )?,
            read_errors: counter("read_errors_total", "Requests, segments and pictures that failed.")?,
            last_frame_timestamp: gauge(
                "last_frame_timestamp",
                "Capture time of the last delivered frame, Unix seconds.",
            )?,
            connection_state: int_gauge(
                "connection_state",
                "0 disconnected, 1 connecting, 2 connected, 3 reconnecting, 4 error.",
            )?,
            losses: GapCause::ALL.into_iter().map(losses).collect::<Result<_, Error>>()?,
            frames_synthetic: counter(
                "frames_synthetic_total",
                "Frames repeated while the connection was lost; not among kvs_hls_frames_total.",
            )?,
            frames_superseded: counter(
                "frames_superseded_total",
                "Frames that a newer one replaced before they were asked for.",
            )?,
            segments: counter("segments_total", "Segments downloaded.")?,
            bytes: counter("bytes_total", "Bytes downloaded: playlists, initialization and media segments.")?,
            bandwidth: gauge("bandwidth_bits_per_second", "Smoothed download rate of segments.")?,
            segment_seconds: histogram(
                "segment_download_seconds",
                "Time to download a segment.",
                &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0],
            )?,
            decode_seconds: histogram(
                "decode_seconds",
                "Time to decode and convert a picture.",
                &[0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32],
            )?,
            latency_seconds: histogram(
                "latency_seconds",
                "From capture to delivery, by the playlist's times and this machine's clock.",
                &[0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 60.0],
            )?,
            queue_frames: int_gauge("queue_frames", "Frames decoded and not yet taken.")?,
            variant_switches: counter("variant_switches_total", "Times another variant was switched to.")?,
            session_start_timestamp: gauge(
                "session_start_timestamp",
                "When the present session was begun, Unix seconds: its age is the time since.",
            )?,
            camera_silent: int_gauge(
                "camera_silent",
                "1 while the server works and the camera sends nothing, else 0.",
            )?,
            registry: Mutex::default(),
        };
        let Some(registry) = registry else { return Ok(metrics) };
        let mut registered: Vec<Box<dyn Collector>> = Vec::new();
        for (collector, copy) in metrics.collectors().into_iter().zip(metrics.collectors()) {
            if let Err(error) = registry.register(collector) {
                for collector in registered {
                    let _ = registry.unregister(collector);
                }
                return Err(invalid(error));
            }
            registered.push(copy);
        }
        metrics.registry = Mutex::new(Some(registry.clone()));
        Ok(metrics)
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let mut all: Vec<Box<dyn Collector>> = vec![
            Box::new(self.frames.clone()),
            Box::new(self.reconnects.clone()),
            Box::new(self.url_refreshes.clone()),
            Box::new(self.url_refresh_failures.clone()),
            Box::new(self.read_errors.clone()),
            Box::new(self.last_frame_timestamp.clone()),
            Box::new(self.connection_state.clone()),
            Box::new(self.frames_synthetic.clone()),
            Box::new(self.frames_superseded.clone()),
            Box::new(self.segments.clone()),
            Box::new(self.bytes.clone()),
            Box::new(self.bandwidth.clone()),
            Box::new(self.segment_seconds.clone()),
            Box::new(self.decode_seconds.clone()),
            Box::new(self.latency_seconds.clone()),
            Box::new(self.queue_frames.clone()),
            Box::new(self.variant_switches.clone()),
            Box::new(self.session_start_timestamp.clone()),
            Box::new(self.camera_silent.clone()),
        ];
        for (_, Losses { gaps, frames, segments }) in &self.losses {
            all.extend([gaps, frames, segments].map(|counter| Box::new(counter.clone()) as Box<dyn Collector>));
        }
        all
    }

    /// Counts a gap that is about to be reported.
    pub(crate) fn count_gap(&self, gap: &Gap) {
        if let Some((_, losses)) = self.losses.iter().find(|(cause, _)| *cause == gap.cause) {
            losses.gaps.inc();
            losses.frames.inc_by(gap.frames);
            losses.segments.inc_by(gap.segments);
        }
    }

    /// Gaps of all causes.
    pub(crate) fn gaps(&self) -> u64 {
        self.losses.iter().map(|(_, losses)| losses.gaps.get()).sum()
    }

    /// Frames lost one by one, by all causes.
    pub(crate) fn frames_lost(&self) -> u64 {
        self.losses.iter().map(|(_, losses)| losses.frames.get()).sum()
    }

    /// Segments lost, by all causes.
    pub(crate) fn segments_lost(&self) -> u64 {
        self.losses.iter().map(|(_, losses)| losses.segments.get()).sum()
    }
}

/// A camera that is gone leaves no label behind.
impl Metrics {
    /// Leaves the registry: the camera's name is free there.
    pub(crate) fn withdraw(&self) {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(registry) = registry {
            for collector in self.collectors() {
                let _ = registry.unregister(collector);
            }
        }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.withdraw();
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    fn text(registry: &Registry) -> String {
        TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn the_operators_document_names_every_metric() {
        let registry = Registry::new();
        let _metrics = Metrics::new("front", Some(&registry)).unwrap();
        let document = include_str!("../docs/operating.md");
        for family in registry.gather() {
            assert!(
                document.contains(&format!("`{}`", family.name())),
                "{} is not in docs/operating.md",
                family.name()
            );
        }
    }

    #[test]
    fn cameras_share_a_registry_and_leave_it_clean() {
        let registry = Registry::new();
        let front = Metrics::new("front", Some(&registry)).unwrap();
        let back = Metrics::new("back", Some(&registry)).unwrap();
        front.frames.inc();
        back.count_gap(&Gap::of_frames(GapCause::Damaged, 3));
        let scraped = text(&registry);
        for line in [
            "kvs_hls_frames_total{camera_id=\"front\"} 1",
            "kvs_hls_frames_total{camera_id=\"back\"} 0",
            "kvs_hls_gaps_total{camera_id=\"back\",cause=\"damaged\"} 1",
            "kvs_hls_frames_lost_total{camera_id=\"back\",cause=\"damaged\"} 3",
        ] {
            assert!(scraped.lines().any(|scraped| scraped == line), "{line} is not in\n{scraped}");
        }
        assert_eq!(Metrics::new("front", Some(&registry)).unwrap_err().kind(), ErrorKind::Config);
        drop(front);
        let old = Metrics::new("front", Some(&registry)).unwrap();
        old.withdraw();
        let new = Metrics::new("front", Some(&registry)).unwrap();
        drop(old);
        assert!(text(&registry).contains("front"), "what left takes nothing of its successor's away");
        drop(new);
        assert!(!text(&registry).contains("front"));
        assert!(text(&registry).contains("back"), "a camera that was refused takes nothing away from others");
    }
}
