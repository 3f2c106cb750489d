//! The simulated camera.
