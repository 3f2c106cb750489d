//! Ctrl-C and SIGTERM: the first asks for a clean end, the second ends at once. SIGHUP asks for the configuration.

use std::time::Duration;

use tokio::sync::watch;

/// The exit status of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Signals that come so soon after the first are the first.
const SAME: Duration = Duration::from_millis(300);

/// Becomes true when the user wants the program to end.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Listens from now on, on the current runtime.
    pub fn listen() -> Self {
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            signal().await;
            let _ = sender.send(true);
            // Some send one signal twice: `timeout` to the program, then to its group.
            tokio::time::sleep(SAME).await;
            signal().await;
            std::process::exit(INTERRUPTED);
        });
        Self(receiver)
    }

    /// Waits until the user wants the end.
    pub async fn requested(&mut self) {
        if self.0.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// SIGHUP: read the configuration again.
#[derive(Debug)]
pub struct Reload {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Reload {
    /// Listens from now on, on the current runtime.
    pub fn listen() -> Self {
        Self {
            #[cfg(unix)]
            signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok(),
        }
    }

    /// Waits until it is wanted.
    pub async fn requested(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => _ = tokio::signal::ctrl_c().await,
    }
}

#[cfg(not(unix))]
async fn signal() {
    let _ = tokio::signal::ctrl_c().await;
}
