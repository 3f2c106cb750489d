//! What servers answer when they refuse, and the URLs that they hand out.

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::{SECRET, check_error, check_text};
use crate::net::Refusal;
use crate::secret::scrubbed;
use crate::{FixedUrl, SecretUrl};

/// Such as the service has them: long, of letters of both cases and digits. It begins with [`SECRET`].
const TOKEN: &str = "CiSecretOfTheSession0123456789abcdefghijklmnop";

/// A byte for the status, a line for the header that names the error, then the body. The body is taken for a URL and for
/// a message of the service as well.
pub fn session_response(data: &[u8]) {
    let Some((&status, rest)) = data.split_first() else { return };
    if data.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()) {
        return; // libFuzzer learns what texts are searched for; that word alone is no token
    }
    let mut lines = rest.splitn(2, |byte| *byte == b'\n');
    let (header, body) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let url = SecretUrl::parse(&format!("https://host/a.m3u8?SessionToken={TOKEN}")).expect("a URL");
    let status = StatusCode::from_u16(400 + u16::from(status)).expect("of three digits");
    let name = HeaderName::from_static("x-amzn-errortype");
    let refused = |body: &[u8]| {
        for header in [header, TOKEN.as_bytes()] {
            let header = HeaderValue::from_bytes(header).ok().map(|value| (name.clone(), value));
            let headers: HeaderMap = header.into_iter().collect();
            let error = Refusal::of(&headers, body).error(&url, status);
            assert_eq!(error.status(), Some(status.as_u16()));
            check_error(error);
        }
    };
    refused(body);
    let Ok(text) = std::str::from_utf8(body) else { return };
    // A token as a word, wherever it stands.
    for (start, end) in [("", ""), (text, ""), ("", text), ("{\"message\":\"", "\"}")] {
        refused(format!("{start} {TOKEN} {end}").as_bytes());
    }
    for message in [text.to_owned(), format!("{text} {TOKEN} {text}"), format!("SessionToken={TOKEN}&{text}")] {
        let shown = scrubbed(&message);
        check_text(&shown);
        assert!(!shown.contains(TOKEN) && shown.chars().count() <= 501, "{shown}");
        assert_eq!(shown.lines().count().max(1), 1);
    }
    url_of(text);
}

fn url_of(text: &str) {
    if let Err(error) = FixedUrl::new(text) {
        check_error(error);
    }
    let base = SecretUrl::parse(&format!("https://host/a/b?SessionToken={TOKEN}")).expect("a URL");
    for url in [SecretUrl::parse(text), base.join(text)].into_iter().flatten() {
        let shown = format!("{url} {url:?}");
        check_text(&shown);
        assert!(shown.chars().count() < 2000, "{} characters", shown.chars().count());
        let exposed = url.expose();
        let mut public = exposed.clone();
        public.set_query(None);
        public.set_fragment(None);
        _ = (public.set_username(""), public.set_password(None));
        let public = format!("SecretUrl({public}?…)");
        let secrets = [exposed.query(), exposed.fragment(), exposed.password(), Some(exposed.username())];
        for secret in secrets.into_iter().flatten().filter(|secret| secret.len() > 5 && !public.contains(secret)) {
            assert!(!shown.contains(secret), "{shown} shows {secret}");
        }
        // Of a file's host and drive the parser makes another thing when it reads its own words; nobody asks for files.
        if exposed.scheme() != "file" {
            assert_eq!(SecretUrl::parse(exposed.as_str()).as_ref(), Ok(&url));
        }
        _ = url.query_value("SessionToken");
    }
}
