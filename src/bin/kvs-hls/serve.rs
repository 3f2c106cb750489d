//! What is served while cameras are read: metrics and health for machines, the preview for people.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::net::TcpListener;

use crate::args::Serving;
use crate::display::say;
use crate::failure::Failure;
use crate::preview;
use crate::view::Views;

/// Reads a port of this machine's own address, or an address with a port.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    port.or_else(|_| text.parse()).map_err(|_| {
        "a port such as 9100 or an address such as 0.0.0.0:9100 is allowed, and a file before the option".into()
    })
}

/// Serves what is asked for, for as long as the runtime lives.
pub async fn start(args: &Serving, registry: &Registry, views: &Views) -> Result<(), Failure> {
    Served::bind(args).await?.start(registry, views)
}

/// Addresses that are this program's.
pub struct Served {
    preview: Option<(TcpListener, preview::Guard)>,
    metrics: Option<TcpListener>,
}

impl Served {
    /// Takes the addresses, where they may be taken.
    pub async fn bind(args: &Serving) -> Result<Self, Failure> {
        let preview = match args.preview {
            Some(address) => {
                let guard = preview::Guard::new(address.ip(), args.preview_remote)?;
                Some((listener("the preview", address).await?, guard))
            }
            None => None,
        };
        let metrics = match args.metrics {
            Some(address) => Some(listener("metrics", address).await?),
            None => None,
        };
        Ok(Self { preview, metrics })
    }

    pub fn start(self, registry: &Registry, views: &Views) -> Result<(), Failure> {
        views.watch();
        if let Some((listener, guard)) = self.preview {
            let address = serve("the preview", listener, preview::router(views, guard))?;
            say(format_args!("preview at http://{address}/"));
        }
        if let Some(listener) = self.metrics {
            let router = Router::new()
                .route("/metrics", get(metrics))
                .route("/healthz", get("ok\n"))
                .route("/readyz", get(readiness))
                .with_state((registry.clone(), views.clone()));
            let address = serve("metrics", listener, router)?;
            say(format_args!("metrics at http://{address}/metrics"));
        }
        Ok(())
    }
}

/// Whether nobody but this machine can come to an address.
pub fn is_own(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

async fn listener(what: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    let unavailable = |error| Failure::io(format!("cannot serve {what} at {address}; another port may be free"), error);
    TcpListener::bind(address).await.map_err(unavailable)
}

fn serve(what: &'static str, listener: TcpListener, router: Router) -> Result<SocketAddr, Failure> {
    let address = listener.local_addr().map_err(|error| Failure::io(format!("cannot serve {what}"), error))?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "{what} no longer served");
        }
    });
    Ok(address)
}

async fn metrics(State((registry, _)): State<(Registry, Views)>) -> impl IntoResponse {
    let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_default();
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], text)
}

async fn readiness(State((_, views)): State<(Registry, Views)>) -> impl IntoResponse {
    let unready = views.unready();
    if unready.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        let text = format!("no frame yet, nor found silent: {}\n", unready.join(", "));
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}
