//! The preview: who may look, what it answers, and what people see of it in a real browser.
#![cfg(target_os = "linux")]

#[path = "support/program.rs"]
mod program;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use program::{Running, serving, simulate, until};
use serde_json::{Value, json};

const TOKEN: &str = "a-token-that-nobody-guesses";

fn program() -> Command {
    let mut command = program::program();
    command
        .env_remove("KVS_HLS_PREVIEW_TOKEN")
        .envs([("AWS_ACCESS_KEY_ID", "AKIDTEST"), ("AWS_SECRET_ACCESS_KEY", "none")]);
    command
}

/// A simulated camera at this port.
fn camera(port: u16) -> Running {
    simulate(&["--stream", "front", "--bind", &format!("127.0.0.1:{port}")]).0
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("preview-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

fn ask(address: &str, request: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut text = format!("{request} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "Host") {
        text += &format!("Host: {address}\r\n");
    }
    headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
    // Not all servers close when they are asked to.
    let mut stream = BufReader::new(stream);
    let mut headers = String::new();
    while !headers.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut headers).unwrap() > 0, "{headers}");
    }
    let headers = headers.to_lowercase();
    let length =
        headers.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(u64::MAX);
    let mut body = Vec::new();
    stream.take(length).read_to_end(&mut body).unwrap();
    Answer { status: headers[9..12].parse().unwrap(), headers, body }
}

fn get(address: &str, path: &str) -> Answer {
    ask(address, &format!("GET {path}"), &[], "")
}

#[test]
fn pictures_and_figures_are_served_and_nothing_comes_from_elsewhere() {
    let port = free_port();
    let _camera = camera(port);
    let endpoint = format!("http://127.0.0.1:{port}");
    let mut command = program();
    command.args([
        "frames",
        "--stream",
        "front",
        "--region",
        "us-east-1",
        "--endpoint-url",
        &endpoint,
        "--preview",
        "0",
    ]);
    let (_program, address) = serving(&mut command, "preview");
    for path in ["/", "/page.css", "/page.js"] {
        let answer = get(&address, path);
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.headers.contains("content-security-policy: default-src 'self'"), "{}", answer.headers);
        assert!(!text.replace("http://www.w3.org/2000/svg", "").contains("://"), "{path} has an outside address");
    }
    let tile = |key: &str| -> Value {
        let cameras: Value = serde_json::from_slice(&get(&address, "/cameras").body).unwrap();
        assert_eq!(cameras[0]["id"], "front");
        cameras[0][key].clone()
    };
    until("a frame", || (tile("frames").as_u64()? > 20).then_some(()));
    assert_eq!((tile("state"), tile("size")), ("connected".into(), json!([640, 360])));
    for (width, expected) in [("320", 320), ("5000", 640), ("1", 64)] {
        let answer = get(&address, &format!("/cameras/front/picture?width={width}"));
        assert!(answer.headers.contains("content-type: image/jpeg"), "{}", answer.headers);
        let picture = jpeg_size(&answer.body).unwrap();
        assert_eq!(picture, (expected, expected * 9 / 16), "{width}");
    }
    let page: Value = serde_json::from_slice(&get(&address, "/cameras/front").body).unwrap();
    assert!(page["events"].as_array().unwrap().iter().any(|event| event["text"] == "connected"), "{page:#}");
    until("a sample", || {
        let page: Value = serde_json::from_slice(&get(&address, "/cameras/front").body).unwrap();
        page["samples"]["latency"].as_array()?.iter().any(Value::is_number).then_some(())
    });
    assert_eq!(get(&address, "/cameras/back").status, 404);
    assert_eq!(get(&address, "/cameras/back/picture").status, 404);
    // A name of another site that leads here.
    assert_eq!(ask(&address, "GET /cameras", &[("Host", "evil.example")], "").status, 403);
    assert_eq!(ask(&address, "GET /cameras", &[("Host", "localhost:80")], "").status, 200);
}

/// Width and height in the frame header (ISO 10918-1 B.2.2).
fn jpeg_size(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut at = 2;
    while *bytes.get(at)? == 0xff {
        let length = usize::from(u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]));
        if matches!(bytes[at + 1], 0xc0..=0xc2) {
            let side = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
            return Some((side(at + 7), side(at + 5)));
        }
        at += 2 + length;
    }
    None
}

#[test]
fn beyond_this_machine_a_token_is_needed() {
    let refused = |args: &[&str], token: Option<&str>| {
        let mut command = program();
        command.args(["demo", "--duration", "1s"]).args(args).envs(token.map(|token| ("KVS_HLS_PREVIEW_TOKEN", token)));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let everywhere = ["--preview", "0.0.0.0:0"];
    assert!(refused(&everywhere, None).contains("add --preview-remote and set KVS_HLS_PREVIEW_TOKEN"));
    assert!(refused(&everywhere, Some(TOKEN)).contains("--preview-remote"));
    assert!(refused(&["--preview", "0.0.0.0:0", "--preview-remote"], None).contains("KVS_HLS_PREVIEW_TOKEN"));
    let short = refused(&["--preview", "0.0.0.0:0", "--preview-remote"], Some("short"));
    assert!(short.contains("at least 16") && !short.contains("\"short\""), "{short}");

    let mut command = program();
    command.args(["demo", "--duration", "1h", "--preview", "0.0.0.0:0", "--preview-remote"]);
    let (_program, address) = serving(command.env("KVS_HLS_PREVIEW_TOKEN", TOKEN), "preview");
    let address = address.replace("0.0.0.0", "127.0.0.1");
    let page = get(&address, "/");
    assert!(page.status == 401 && String::from_utf8_lossy(&page.body).contains("type=\"password\""));
    for path in ["/cameras", "/cameras/simulated-camera", "/cameras/simulated-camera/picture", "/page.js"] {
        assert_eq!(get(&address, path).status, 401, "{path}");
    }
    let with = |name: &str, value: &str| ask(&address, "GET /cameras", &[(name, value)], "").status;
    assert_eq!(with("Authorization", &format!("Bearer {TOKEN}")), 200);
    assert_eq!(with("Authorization", "Bearer a-token-that-nobody-guessed"), 401);
    assert_eq!(with("Cookie", "kvs_hls_preview="), 401);
    let wrong = ask(&address, "POST /login", &[], "token=wrong");
    assert!(wrong.status == 401 && String::from_utf8_lossy(&wrong.body).contains("<p role=\"alert\">"));
    assert!(!String::from_utf8_lossy(&page.body).contains("<p role=\"alert\">"));
    let entered = ask(&address, "POST /login", &[], &format!("token={TOKEN}"));
    assert!(entered.status == 303 && entered.headers.contains("httponly; samesite=strict"), "{}", entered.headers);
    let cookie = entered.headers.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert_eq!(with("Cookie", cookie.split(';').next().unwrap()), 200);
}

/// A browser that is driven from outside (W3C WebDriver).
struct Browser {
    _driver: Running,
    address: String,
    session: String,
}

impl Browser {
    /// `None` where there is none: CI installs one.
    fn start() -> Option<Self> {
        let port = free_port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(driver) = command.spawn() else {
            eprintln!("note: no chromedriver on this machine, so no browser looks at the page");
            return None;
        };
        let mut browser =
            Self { _driver: Running(driver), address: format!("127.0.0.1:{port}"), session: String::new() };
        until("the driver", || TcpStream::connect(&browser.address).ok());
        let arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"];
        let options = json!({ "goog:chromeOptions": { "args": arguments } });
        let made = browser.post("/session", &json!({ "capabilities": { "alwaysMatch": options } }));
        browser.session = format!("/session/{}", made["sessionId"].as_str().unwrap_or_else(|| panic!("{made}")));
        Some(browser)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let path = format!("POST {}{path}", self.session);
        let headers = [("Content-Type", "application/json"), ("Host", "localhost")];
        let answer: Value =
            serde_json::from_slice(&ask(&self.address, &path, &headers, &body.to_string()).body).unwrap();
        assert!(answer["value"]["error"].is_null(), "{path}: {answer:#}");
        answer["value"].clone()
    }

    fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// What a script returns in the page.
    fn look(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    fn press(&self, keys: &str) {
        let keys = keys
            .chars()
            .flat_map(|key| [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]);
        let actions = json!([{ "type": "key", "id": "keyboard", "actions": keys.collect::<Vec<_>>() }]);
        self.post("/actions", &json!({ "actions": actions }));
    }

    fn emulate(&self, scheme: &str) {
        let params = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.post("/goog/cdp/execute", &json!({ "cmd": "Emulation.setEmulatedMedia", "params": params }));
    }

    /// Saves what is seen where `KVS_HLS_SCREENSHOTS` names a folder.
    fn shoot(&self, name: &str) {
        let Some(folder) = std::env::var_os("KVS_HLS_SCREENSHOTS") else { return };
        let params = json!({ "format": "png" });
        let shot = self.post("/goog/cdp/execute", &json!({ "cmd": "Page.captureScreenshot", "params": params }));
        let file = Path::new(&folder).join(format!("{name}.png.base64"));
        std::fs::write(file, shot["data"].as_str().unwrap()).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        ask(&self.address, &format!("DELETE {}", self.session), &[("Host", "localhost")], "");
    }
}

/// The word on a camera's tile, and a number that is another one for each picture.
fn tile(browser: &Browser, id: &str) -> (String, String) {
    let script = format!(
        "const tile = document.querySelector('[data-camera=\"{id}\"]');
         if (!tile) return ['', ''];
         const image = tile.querySelector('img');
         const canvas = document.createElement('canvas');
         [canvas.width, canvas.height] = [160, 90];
         if (!image.naturalWidth) return [tile.querySelector('.state').textContent, ''];
         const context = canvas.getContext('2d');
         context.drawImage(image, 0, 0, 160, 90);
         const sum = context.getImageData(0, 0, 160, 90).data.reduce((sum, value) => (sum * 31 + value) % 1000003, 0);
         return [tile.querySelector('.state').textContent, `${{sum}}`];"
    );
    let seen = browser.look(&script);
    (seen[0].as_str().unwrap().to_owned(), seen[1].as_str().unwrap().to_owned())
}

#[test]
fn in_a_browser_pictures_move_and_a_camera_that_dies_shows_it_and_comes_back() {
    let Some(browser) = Browser::start() else { return };
    let ports = [free_port(), free_port()];
    let [front, _yard] = ports.map(camera);
    let folder = scratch("browser");
    let entry = |(id, port): (&str, u16)| {
        format!(
            "[[camera]]\nid = \"{id}\"\nstream = \"front\"\nregion = \"us-east-1\"\nendpoint-url = \"http://127.0.0.1:{port}\"\n\
             preset = \"aggressive\"\nmax-errors = 1000\n"
        )
    };
    let file: String = ["front-door", "yard"].into_iter().zip(ports).map(entry).collect();
    std::fs::write(folder.join("cameras.toml"), file).unwrap();
    let mut command = program();
    let (_program, address) =
        serving(command.current_dir(&folder).args(["fleet", "cameras.toml", "--preview", "0"]), "preview");
    browser.open(&format!("http://{address}/"));

    for id in ["front-door", "yard"] {
        until("a picture", || {
            Some(tile(&browser, id)).filter(|(state, picture)| state == "connected" && !picture.is_empty())
        });
        let (_, first) = tile(&browser, id);
        until("another picture", || (tile(&browser, id).1 != first).then_some(()));
    }
    browser.shoot("wall");
    let died = Instant::now();
    drop(front);
    until("a word about the dead camera", || (tile(&browser, "front-door").0 != "connected").then_some(()));
    println!("shown {:.1} s after the camera died", died.elapsed().as_secs_f64());
    let notice = || browser.look("return document.querySelector('[data-camera=\"front-door\"] .notice').textContent");
    until("for how long", || {
        notice()
            .as_str()
            .unwrap()
            .contains("No new frame for")
            .then_some(())
            .or_else(|| notice().as_str().unwrap().contains("Reconnecting").then_some(()))
    });
    until("why it is so", || notice().as_str().unwrap().contains("refused").then_some(()));
    browser.shoot("dead");
    assert_eq!(tile(&browser, "yard").0, "connected", "the other one does not mind");
    let _front = camera(ports[0]);
    let back = Instant::now();
    until("the camera is back", || (tile(&browser, "front-door").0 == "connected").then_some(()));
    println!("back {:.1} s after the camera was", back.elapsed().as_secs_f64());

    // Without a mouse: the heading, then the first tile.
    browser.press("\u{e004}\u{e004}\u{e007}");
    until("the camera's own page", || {
        let path = browser.look("return document.querySelector('#plots path')?.getAttribute('d') ?? ''");
        (browser.look("return location.hash") == "#front-door" && path.as_str()?.matches('L').count() > 3).then_some(())
    });
    let events = browser.look("return document.getElementById('events').innerText");
    let events = events.as_str().unwrap();
    assert!(events.contains("refused") && events.contains("connected"), "{events}");
    browser.shoot("camera");

    for (scheme, is_dark) in [("dark", true), ("light", false)] {
        browser.emulate(scheme);
        let ground = browser.look("return getComputedStyle(document.body).backgroundColor");
        let light: u32 = ground
            .as_str()
            .unwrap()
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|n| n.parse::<u32>().ok())
            .take(3)
            .sum();
        assert_eq!(light < 3 * 128, is_dark, "{scheme}: {ground}");
    }
    browser.post("/goog/cdp/execute", &json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": { "width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true } }));
    for hash in ["", "#front-door"] {
        browser.look(&format!("location.hash = '{hash}'"));
        sleep(Duration::from_millis(800));
        let fits = browser.look("return document.documentElement.scrollWidth <= innerWidth");
        assert_eq!(fits, true, "at phone width, {hash}");
        browser.shoot(if hash.is_empty() { "phone-wall" } else { "phone-camera" });
    }
    browser.look("location.hash = '#nobody'");
    until("a word about a camera that is not there", || {
        let said = browser.look("return document.querySelector('main').innerText");
        (said.as_str()?.contains("no camera of this name")
            && browser.look("return document.title") == "nobody – kvs-hls")
            .then_some(())
    });
    drop(_program);
    until("the program's end is told", || {
        let summary = browser.look("return document.getElementById('summary').textContent");
        summary.as_str()?.contains("does not answer").then_some(())
    });
}
