//! What threads wait with: the standard library's, or those of a model checker that tries the orders in which
//! threads may run. `RUSTFLAGS="--cfg shuttle" cargo test --no-default-features --lib interleavings` does.

#[cfg(shuttle)]
pub(crate) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::{Builder, JoinHandle, current},
};
pub(crate) use std::sync::{Arc, PoisonError, Weak};
#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::{Builder, JoinHandle, current},
};
