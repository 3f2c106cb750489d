//! Who may look: this machine, or who knows the token.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};

use crate::failure::Failure;
use crate::serve::is_own;

const VARIABLE: &str = "KVS_HLS_PREVIEW_TOKEN";
const COOKIE: &str = "kvs_hls_preview";
const MIN_TOKEN: usize = 16;

/// The token that is asked for, if one is.
#[derive(Clone)]
pub struct Guard {
    token: Option<String>,
    is_own: bool,
}

impl Guard {
    /// Beyond this machine, pictures of cameras need an explicit word and a token.
    pub fn new(address: IpAddr, is_remote: bool) -> Result<Self, Failure> {
        let token = std::env::var(VARIABLE).ok().filter(|token| !token.is_empty());
        let is_word = |token: &String| {
            token.len() >= MIN_TOKEN && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if token.as_ref().is_some_and(|token| !is_word(token)) {
            return Err(Failure::usage(format!(
                "{VARIABLE} that is no token: at least {MIN_TOKEN} letters, digits, - and _ are allowed, for example from \
                 `openssl rand -hex 16`"
            )));
        }
        if is_remote && is_own(address) {
            return Err(Failure::usage(format!(
                "--preview-remote with --preview at {address}, where other machines cannot come: add an address such as \
                 --preview 0.0.0.0:8080"
            )));
        }
        let is_allowed = is_own(address) || is_remote && token.is_some();
        if !is_allowed {
            return Err(Failure::usage(format!(
                "--preview at {address}, where other machines can see the cameras: add --preview-remote and set {VARIABLE}, \
                 for example to `openssl rand -hex 16`"
            )));
        }
        Ok(Self { token, is_own: is_own(address) })
    }

    fn is_satisfied(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        let own = |cookie: &str| {
            cookie.trim().split_once('=').is_some_and(|(name, value)| name == COOKIE && is_same(value, token))
        };
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        cookies.flat_map(|cookies| cookies.split(';')).any(own) || bearer.is_some_and(|value| is_same(value, token))
    }

    /// Another site's name that leads to this machine must not lead to its cameras.
    fn is_host_own(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        !self.is_own || name == "localhost" || address.is_ok_and(is_own)
    }
}

/// Takes as long for a wrong letter at the end as for one at the start.
fn is_same(given: &str, token: &str) -> bool {
    let differ = given.bytes().zip(token.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b));
    given.len() == token.len() && differ == 0
}

pub async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if !guard.is_host_own(request.headers()) {
        return (StatusCode::FORBIDDEN, "open this page as http://localhost or http://127.0.0.1\n").into_response();
    }
    let path = request.uri().path();
    // The form needs its style, and nothing of a camera is in these.
    if guard.is_satisfied(request.headers()) || matches!(path, "/login" | "/page.css") {
        return next.run(request).await;
    }
    match path {
        "/" => (StatusCode::UNAUTHORIZED, Html(include_str!("login.html"))).into_response(),
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

/// The form's answer: a cookie that no script sees.
pub async fn log_in(State(guard): State<Guard>, body: String) -> Response {
    let fields = url::form_urlencoded::parse(body.as_bytes());
    let given = fields.into_iter().find(|(name, _)| name == "token").map(|(_, value)| value.trim().to_owned());
    match (given, &guard.token) {
        (Some(given), Some(token)) if is_same(&given, token) => {
            let cookie = format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/");
            ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
        }
        (_, None) => Redirect::to("/").into_response(),
        _ => {
            let page = include_str!("login.html").replace(" hidden", "");
            (StatusCode::UNAUTHORIZED, Html(page)).into_response()
        }
    }
}
