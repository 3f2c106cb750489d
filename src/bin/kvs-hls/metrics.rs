//! `--metrics-port`: serves the camera's metrics to Prometheus.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::net::TcpListener;

use crate::failure::Failure;

/// Reads a port of this machine's own address, or an address with a port.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    port.or_else(|_| text.parse())
        .map_err(|_| "a port such as 9100 or an address such as 0.0.0.0:9100 is allowed".into())
}

/// Serves `/metrics` for as long as the runtime lives.
pub async fn serve(address: SocketAddr, registry: &Registry) -> Result<(), Failure> {
    let unavailable = |error| Failure::io(format!("cannot serve metrics at {address}"), error);
    let listener = TcpListener::bind(address).await.map_err(unavailable)?;
    let address = listener.local_addr().map_err(unavailable)?;
    let router = Router::new().route("/metrics", get(metrics)).with_state(registry.clone());
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "metrics are no longer served");
        }
    });
    eprintln!("metrics at http://{address}/metrics");
    Ok(())
}

async fn metrics(State(registry): State<Registry>) -> impl IntoResponse {
    let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_default();
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], text)
}
