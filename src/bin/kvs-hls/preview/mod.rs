//! `--preview`: a web page with the cameras. It needs nothing from elsewhere: the files beside this one are all.

mod guard;
mod picture;

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::Value;

pub use guard::Guard;
pub use picture::Encoded;

use crate::view::Views;

/// Nothing but the page's own files may be loaded, and no other page may show it.
const POLICY: &str =
    "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
const NO_SNIFFING: HeaderName = header::X_CONTENT_TYPE_OPTIONS;

pub fn router(views: &Views, guard: Guard) -> Router {
    Router::new()
        .route("/", get(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], include_str!("page.html"))))
        .route("/page.css", get(([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("page.css"))))
        .route("/page.js", get(([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page.js"))))
        .route("/cameras", get(cameras))
        .route("/cameras/{id}", get(camera))
        .route("/cameras/{id}/picture", get(picture))
        .with_state(views.clone())
        .route("/login", post(guard::log_in).with_state(guard.clone()))
        .layer(from_fn_with_state(guard, guard::check))
        .layer(from_fn(async |request, next: axum::middleware::Next| {
            let headers = [
                (header::CONTENT_SECURITY_POLICY, POLICY),
                (NO_SNIFFING, "nosniff"),
                (header::CACHE_CONTROL, "no-store"),
                (header::REFERRER_POLICY, "no-referrer"),
            ];
            (headers, next.run(request).await).into_response()
        }))
}

async fn cameras(State(views): State<Views>) -> Response {
    json(&views.all().iter().map(|(id, view)| view.tile(id)).collect())
}

async fn camera(State(views): State<Views>, Path(id): Path<String>) -> Result<Response, StatusCode> {
    views.get(&id).map(|view| json(&view.page(&id))).ok_or(StatusCode::NOT_FOUND)
}

fn json(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// The last picture as JPEG, made when somebody asks.
async fn picture(
    State(views): State<Views>,
    Path(id): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, StatusCode> {
    let view = views.get(&id).ok_or(StatusCode::NOT_FOUND)?;
    let width = query.get("width").and_then(|width| width.parse().ok()).unwrap_or(640);
    let jpeg = tokio::task::spawn_blocking(move || picture::jpeg(&view, width)).await.ok().flatten();
    let jpeg = jpeg.ok_or(StatusCode::NO_CONTENT)?;
    Ok(([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response())
}
