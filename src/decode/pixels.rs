//! Pixel buffers that are used again.

use std::sync::{Arc, Mutex, PoisonError};

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
pub(crate) struct PixelPool {
    /// Frames beyond so many bytes, or [`MAX_BUFFERS`], are simply allocated and freed.
    max_bytes: usize,
    buffers: Mutex<Vec<Pixels>>,
}

const MAX_BUFFERS: usize = 256;

impl PixelPool {
    pub(crate) const fn new(max_bytes: usize) -> Self {
        Self { max_bytes, buffers: Mutex::new(Vec::new()) }
    }

    /// A buffer of `size` bytes, filled by `fill`, which sees the bytes of an earlier frame in it.
    pub(crate) fn filled(&self, size: usize, fill: impl FnOnce(&mut [u8])) -> Pixels {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let free = buffers.iter_mut().position(|pixels| Arc::get_mut(&mut pixels.0).is_some());
        let mut pixels = free.map_or_else(|| Pixels(Arc::default()), |index| buffers.swap_remove(index));
        drop(buffers); // the conversion needs no lock
        if let Some(bytes) = Arc::get_mut(&mut pixels.0) {
            if bytes.capacity() > size.saturating_mul(4) {
                *bytes = Vec::new(); // the stream went from large to small
            }
            bytes.resize(size, 0);
            fill(bytes);
        }
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < MAX_BUFFERS.min(self.max_bytes / size.max(1)) {
            buffers.push(pixels.clone());
        }
        pixels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_nobody_holds_is_used_again() {
        let pool = PixelPool::new(1 << 20);
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
    fn the_pool_is_bounded() {
        for (max_bytes, buffers) in [(1 << 20, MAX_BUFFERS), (70, 7)] {
            let pool = PixelPool::new(max_bytes);
            let held: Vec<_> = (0..MAX_BUFFERS + 9).map(|_| pool.filled(10, |_| {})).collect();
            assert_eq!(pool.buffers.lock().unwrap().len(), buffers);
            drop(held);
        }
    }
}
