//! A decoder of one's own: here the usual one, with a count of what goes through it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvs_hls::decode::{Openh264Decoder, Picture};
use kvs_hls::h264::AccessUnit;
use kvs_hls::sim::SimulatedCamera;
use kvs_hls::{Decoder, Error, FixedUrl, FrameSource};

struct Counting {
    inner: Openh264Decoder,
    bytes: Arc<AtomicU64>,
}

impl Decoder for Counting {
    fn decode(&mut self, unit: &AccessUnit, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        self.bytes.fetch_add(unit.data().len() as u64, Ordering::Relaxed);
        self.inner.decode(unit, out)
    }

    fn drain(&mut self, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        self.inner.drain(out)
    }

    fn reset(&mut self) {
        self.inner.reset();
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let simulated = SimulatedCamera::builder().start().await?;
    let url = FixedUrl::new(simulated.url().expose().as_str())?;
    let bytes = Arc::new(AtomicU64::new(0));
    let counted = bytes.clone();
    let source = FrameSource::builder("front-door", url)
        .decoder(move |limits| {
            Box::new(Counting { inner: Openh264Decoder::new(limits.clone()), bytes: counted.clone() })
        })
        .build()?;
    let mut frames = source.start()?;
    for _ in 0..30 {
        frames.next().await.transpose()?;
    }
    println!("30 frames came out of {} bytes or a little less", bytes.load(Ordering::Relaxed));
    Ok(())
}
