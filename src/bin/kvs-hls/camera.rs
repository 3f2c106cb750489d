//! A camera as options describe it.

#[cfg(unix)]
use kvs_hls::DecoderProcess;
use kvs_hls::hls::VariantCaps;
use kvs_hls::net::{HostPolicy, Hosts};
use kvs_hls::{Delivery, FrameSource, Output};
use prometheus::Registry;

use crate::args::CameraOptions;
use crate::failure::Failure;
use crate::write;

/// The argument of this program's own that makes it a decoder's process: nobody types it, so no help shows it.
pub const DECODER: &str = "decoder";

/// The source of a camera, not started yet.
pub fn source(camera: &CameraOptions, name: &str, registry: &Registry) -> Result<FrameSource, Failure> {
    let reading = &camera.reading;
    write::check(camera.write, &camera.out)?;
    let mut output = Output::new(write::pixel_format(camera.write, camera.pixel)?).size(camera.size);
    if let Some(matrix) = reading.matrix {
        output = output.matrix(matrix);
    }
    if let Some(range) = reading.range {
        output = output.range(range);
    }
    let mut caps = VariantCaps::default();
    (caps.max_height, caps.max_bandwidth) = (reading.max_height, reading.max_bandwidth);
    let default_delivery = if camera.is_written() { Delivery::All } else { Delivery::default() };
    let mut builder = FrameSource::builder(name, camera.source.provider()?)
        .config(reading.config(camera.source.kinesis()))
        .registry(registry)
        .delivery(reading.delivery.unwrap_or(default_delivery))
        .pacing(reading.pacing.unwrap_or_default())
        .select(camera.select)
        .output(output)
        .live_edge(reading.live_edge)
        .variant_caps(caps)
        .variant(reading.variant)
        .gap_fill(reading.gap_fill)
        .buffer_frames(reading.buffer_frames);
    if let Some(segments) = reading.decode_ahead {
        builder = builder.decode_ahead(segments);
    }
    #[cfg(unix)]
    if reading.isolate {
        let program = std::env::current_exe().map_err(|error| Failure::io("cannot find this program", error))?;
        builder = builder.isolate(DecoderProcess::new(program).arg(DECODER));
    }
    if let Some(hosts) = &reading.hosts {
        if let (HostPolicy::Only(names), Some(url)) = (hosts, camera.source.fixed_url()) {
            let checked = Hosts::only(names.iter().cloned()).check(url.expose());
            checked.map_err(|error| Failure::usage(format!("--hosts: {}", error)))?;
        }
        builder = builder.hosts(hosts.clone());
    }
    if let Some(reload) = reading.reload {
        builder = builder.reload(reload);
    }
    Ok(builder.build()?)
}
