//! Pixel buffers that are used again.

use std::collections::VecDeque;

use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The bytes of one frame, shared: cloning copies a pointer. When the last clone is gone, the buffer serves another
/// frame.
#[derive(Clone)]
pub struct Pixels(Arc<Vec<u8>>);

impl std::fmt::Debug for Pixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pixels({} bytes)", self.0.len())
    }
}

impl std::ops::Deref for Pixels {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Pixels {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(bytes))
    }
}

/// Keeps the buffers of delivered frames and finds one that nobody holds any more.
#[derive(Debug)]
pub(crate) struct PixelPool(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    /// With the number of the frame in it. The latest are last, and tried first: the processor's cache may have them.
    buffers: VecDeque<(u64, Pixels)>,
    frames: u64,
}

/// A buffer is forgotten when it served none of so many frames: what a burst took is given back, and a reader who keeps
/// all frames makes no long list.
const MAX_AGE: u64 = 256;
/// A buffer serves a frame of at least this part of it.
const MAX_EXCESS: usize = 4;

impl Default for PixelPool {
    fn default() -> Self {
        Self(Mutex::new(Kept { buffers: VecDeque::with_capacity(MAX_AGE as usize + 1), frames: 0 }))
    }
}

impl PixelPool {
    /// A buffer of `size` bytes, filled by `fill`, which may see the bytes of an earlier frame in it.
    pub(crate) fn filled(&self, size: usize, fill: impl FnOnce(&mut [u8])) -> Pixels {
        let kept = self.lock().take(size);
        let mut pixels = kept.unwrap_or_else(|| Pixels(Arc::new(Vec::with_capacity(size))));
        // The conversion needs no lock.
        if let Some(bytes) = Arc::get_mut(&mut pixels.0) {
            bytes.resize(size, 0);
            fill(bytes);
        }
        self.lock().keep(pixels.clone());
        pixels
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take(&mut self, size: usize) -> Option<Pixels> {
        let fits = size..=size.saturating_mul(MAX_EXCESS);
        let index = self.buffers.iter_mut().rposition(|(_, pixels)| {
            Arc::get_mut(&mut pixels.0).is_some_and(|bytes| fits.contains(&bytes.capacity()))
        })?;
        self.buffers.remove(index).map(|(_, pixels)| pixels)
    }

    fn keep(&mut self, pixels: Pixels) {
        self.frames += 1;
        self.buffers.push_back((self.frames, pixels));
        while self.buffers.front().is_some_and(|(frame, _)| frame + MAX_AGE <= self.frames) {
            self.buffers.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_nobody_holds_is_used_again() {
        let pool = PixelPool::default();
        let first = pool.filled(3, |bytes| bytes.fill(1));
        let second = pool.filled(3, |bytes| bytes.fill(2));
        assert_eq!((&*first, &*second), (&[1; 3][..], &[2; 3][..]), "a held frame is not overwritten");
        let address = first.as_ptr();
        drop(first);
        let third = pool.filled(3, |bytes| bytes.fill(3));
        assert_eq!((third.as_ptr(), &*second), (address, &[2; 3][..]));
        assert_eq!(pool.filled(2, |_| {}).len(), 2);
    }

    #[test]
    fn a_buffer_serves_frames_of_its_size() {
        let pool = PixelPool::default();
        let large = pool.filled(1000, |_| {}).as_ptr();
        let small = pool.filled(100, |_| {}).as_ptr();
        assert_ne!(small, large, "small frames do not hold large buffers");
        let sizes = [1000, 100, 250, 26];
        let served = sizes.map(|size| pool.filled(size, |_| {}).as_ptr());
        assert_eq!(served, [large, small, large, small]);
    }

    #[test]
    fn what_is_not_needed_is_given_back() {
        let pool = PixelPool::default();
        let kept = || pool.lock().buffers.len();
        let burst: Vec<_> = (0..300).map(|_| pool.filled(10, |_| {})).collect();
        assert_eq!(kept(), MAX_AGE as usize, "held ones are not looked at for ever");
        drop(burst);
        for _ in 0..MAX_AGE {
            assert_eq!(pool.filled(10, |_| {}).len(), 10);
        }
        assert_eq!(kept(), 1);
    }
}
