//! A message of NATS JetStream for each frame, which is written as soon as the server has stored it.
//!
//! | part of a message | content |
//! | --- | --- |
//! | body | the picture, the pixels or the line of JSON |
//! | `Content-Type` | `image/jpeg`, `image/png`, `application/octet-stream` or `application/json` |
//! | `Kvs-Hls-Frame` | the line of JSON: camera, capture time, size, what is missing before it |
//! | `Nats-Msg-Id` | subject, camera and capture time: the same frame sent twice is stored once |
//!
//! Messages on their way are few. When the server is slow or away, the camera waits, and its `delivery` says what becomes
//! of the frames that come meanwhile.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use async_nats::connection::State;
use async_nats::jetstream::context::{GetStreamByNameErrorKind, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{Context, ContextBuilder, stream};
use async_nats::{ConnectOptions, HeaderMap, header};
use bytes::Bytes;
use image::ImageFormat;
use kvs_hls::Frame;
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout};

use super::{FrameWriter, images, json};
use crate::args::Format;
use crate::failure::Failure;

/// Messages of a camera that the server has not stored yet.
const WINDOW: usize = 16;
/// How long the server may take to store one.
const ACK_TIME: Duration = Duration::from_secs(5);
/// A message that was not stored is sent again for so long.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(250);

/// What a stream holds that had to be made: the oldest messages go first.
const STREAM_BYTES: i64 = 1 << 30;
const STREAM_AGE: Duration = Duration::from_secs(3600);

/// A server and a subject, as in `nats://nats.example.com:4222/frames.yard`.
#[derive(Clone, Debug)]
pub struct Address {
    server: String,
    subject: String,
}

impl Address {
    /// Reads what stands behind `--out`.
    pub fn parse(out: &str) -> Result<Self, Failure> {
        let (scheme, rest) = out.split_once("://").unwrap_or_default();
        let (host, subject) = rest.split_once('/').unwrap_or((rest, ""));
        if host.contains('@') {
            return Err(Failure::usage(
                "--out: a password in the URL would be seen by all: it is read from NATS_USER and NATS_PASSWORD, \
                 NATS_TOKEN, or the file that NATS_CREDS names",
            ));
        }
        let is_token =
            |token: &str| !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || "*>".contains(c));
        if host.is_empty() || !subject.split('.').all(is_token) {
            return Err(Failure::usage(format!(
                "--out {out:?} where nats://HOST:PORT/SUBJECT is allowed, such as nats://localhost/frames.yard"
            )));
        }
        Ok(Self { server: format!("{scheme}://{host}"), subject: subject.to_owned() })
    }

    async fn connect(&self) -> io::Result<Context> {
        // It would try for ever, also when nobody wants it any more: `Nats` connects anew itself.
        let mut options = ConnectOptions::new().name("kvs-hls").max_reconnects(1).connection_timeout(ACK_TIME);
        let told = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        if let Some(file) = told("NATS_CREDS") {
            let credentials = std::fs::read_to_string(&file)
                .map_err(|error| io::Error::new(error.kind(), format!("NATS_CREDS, {file}: {error}")))?;
            options = options.credentials(&credentials)?;
        } else if let Some(user) = told("NATS_USER") {
            options = options.user_and_password(user, told("NATS_PASSWORD").unwrap_or_default());
        } else if let Some(token) = told("NATS_TOKEN") {
            options = options.token(token);
        }
        if let Some(file) = told("NATS_CA") {
            options = options.add_root_certificates(file.into());
        }
        let client = options.connect(self.server.as_str()).await.map_err(io::Error::other)?;
        let context = ContextBuilder::new()
            .timeout(ACK_TIME)
            .max_ack_inflight(2 * WINDOW)
            .backpressure_on_inflight(true)
            .build(client);
        match context.stream_by_subject(self.subject.as_str()).await {
            Err(error) if error.kind() == GetStreamByNameErrorKind::NotFound => {
                context.create_stream(self.stream()).await.map_err(io::Error::other)?;
            }
            _ => {} // who may not ask is told by the first message
        }
        Ok(context)
    }

    /// The stream for all subjects that begin as this one.
    fn stream(&self) -> stream::Config {
        let (name, subjects) = match self.subject.split_once('.') {
            Some((first, _)) => (first, format!("{first}.>")),
            None => (self.subject.as_str(), self.subject.clone()),
        };
        stream::Config {
            name: name.to_owned(),
            subjects: vec![subjects],
            max_bytes: STREAM_BYTES,
            max_age: STREAM_AGE,
            discard: stream::DiscardPolicy::Old,
            ..stream::Config::default()
        }
    }
}

/// What a message holds.
#[derive(Clone, Copy)]
pub enum Body {
    Picture(ImageFormat),
    Pixels,
    Metadata,
}

impl Body {
    pub fn of(format: Format) -> Result<Self, Failure> {
        match format {
            Format::Jpeg => Ok(Self::Picture(ImageFormat::Jpeg)),
            Format::Png => Ok(Self::Picture(ImageFormat::Png)),
            Format::Raw => Ok(Self::Pixels),
            Format::Json => Ok(Self::Metadata),
            _ => Err(Failure::usage("--write to NATS: jpeg, png, raw and json are allowed")),
        }
    }
}

struct Message {
    headers: HeaderMap,
    body: Bytes,
    /// Ready when the server has answered; `None` before the message is sent.
    answer: Option<Answer>,
}

type Answer = Pin<Box<dyn Future<Output = Result<PublishAck, async_nats::jetstream::context::PublishError>> + Send>>;

pub struct Nats {
    address: Address,
    camera: String,
    body: Body,
    context: Option<Context>,
    /// In the order of their frames.
    on_their_way: VecDeque<Message>,
}

impl Nats {
    pub fn connect(address: Address, body: Body, camera: &str) -> Result<Self, Failure> {
        let context = wait(address.connect())
            .map_err(|error| Failure::io(format!("cannot publish to {}", address.server), error))?;
        let camera = camera.to_owned();
        Ok(Self { address, camera, body, context: Some(context), on_their_way: VecDeque::new() })
    }

    fn message(&self, frame: &Frame) -> io::Result<Message> {
        let metadata = json::metadata(frame, &self.camera).to_string();
        let mut headers = HeaderMap::new();
        headers.insert("Kvs-Hls-Frame", metadata.as_str());
        let (kind, body) = match self.body {
            Body::Picture(format) => {
                let mut picture = Vec::new();
                images::encode(frame, format, &mut picture)?;
                (format.to_mime_type(), picture.into())
            }
            Body::Pixels => ("application/octet-stream", Bytes::copy_from_slice(frame.data())),
            Body::Metadata => ("application/json", metadata.into()),
        };
        headers.insert("Content-Type", kind);
        let time = frame.captured_at().duration_since(SystemTime::UNIX_EPOCH);
        // A frame that stands in for missing ones has the time of another.
        if let Ok(time) = time.map(|time| time.as_nanos())
            && !frame.meta().is_synthetic
        {
            headers.insert(header::NATS_MESSAGE_ID, format!("{}:{}:{time}", self.address.subject, self.camera));
        }
        Ok(Message { headers, body, answer: None })
    }

    /// Sends what waits and waits until at most so many messages are on their way.
    async fn settle(&mut self, most: usize) -> io::Result<()> {
        let mut deadline = None;
        while let Err(trouble) = self.advance(most).await {
            // It can never be stored; the others can.
            if trouble.kind() == io::ErrorKind::InvalidInput {
                return Err(trouble);
            }
            // An answer can be had once: who tries again sends again.
            self.on_their_way.iter_mut().for_each(|message| message.answer = None);
            if *deadline.get_or_insert_with(|| Instant::now() + PATIENCE) <= Instant::now() {
                return Err(trouble);
            }
            tracing::debug!(camera = %self.camera, %trouble, "messages are sent again");
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn advance(&mut self, most: usize) -> io::Result<()> {
        let context = match &self.context {
            Some(context) => context,
            None => self.context.insert(self.address.connect().await?),
        };
        for index in 0..self.on_their_way.len() {
            let message = &mut self.on_their_way[index];
            if message.answer.is_some() {
                continue;
            }
            let publish = PublishMessage::build().payload(message.body.clone()).headers(message.headers.clone());
            match context.send_publish(self.address.subject.clone(), publish).await {
                Ok(answer) => message.answer = Some(answer.into_future()),
                Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                    let bytes = message.body.len();
                    self.on_their_way.remove(index);
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        format!(
                            "message of {bytes} bytes, and the server takes {} (max_payload): jpeg or a smaller size help",
                            context.client().max_payload()
                        ),
                    ));
                }
                Err(error) => {
                    self.context = None;
                    return Err(io::Error::other(error));
                }
            }
        }
        loop {
            let longest = if self.on_their_way.len() > most { 2 * ACK_TIME } else { Duration::ZERO };
            let Some(Message { answer: Some(answer), .. }) = self.on_their_way.front_mut() else { break };
            match timeout(longest, answer).await {
                Ok(Ok(_)) => drop(self.on_their_way.pop_front()),
                Ok(Err(error)) => {
                    let is_told = error.kind() == PublishErrorKind::Other;
                    if !is_told || context.client().connection_state() != State::Connected {
                        self.context = None;
                    }
                    return Err(match error.kind() {
                        PublishErrorKind::StreamNotFound => io::Error::other(format!(
                            "no stream takes {}: does the server run JetStream (nats-server -js)?",
                            self.address.subject
                        )),
                        _ => io::Error::other(error),
                    });
                }
                Err(_) => break,
            }
        }
        Ok(())
    }
}

impl FrameWriter for Nats {
    fn write(&mut self, frame: &Frame) -> io::Result<()> {
        let message = self.message(frame)?;
        self.on_their_way.push_back(message);
        wait(self.settle(WINDOW)).or_else(|trouble| {
            if trouble.kind() == io::ErrorKind::InvalidInput {
                wait(self.settle(0))?;
            }
            Err(trouble)
        })
    }

    fn finish(&mut self) -> io::Result<()> {
        wait(self.settle(0))
    }

    fn unsettled(&self) -> u64 {
        self.on_their_way.len() as u64
    }
}

/// Frames are written on threads that may be held up.
fn wait<T>(future: impl Future<Output = T>) -> T {
    block_in_place(|| Handle::current().block_on(future))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_server_and_a_subject() {
        let address = Address::parse("tls://nats.example.com:4222/frames.front-door").unwrap();
        assert_eq!(
            (address.server.as_str(), address.subject.as_str()),
            ("tls://nats.example.com:4222", "frames.front-door")
        );
        let stream = address.stream();
        assert_eq!((stream.name.as_str(), stream.subjects), ("frames", vec!["frames.>".to_owned()]));
        let alone = Address::parse("nats://localhost/frames").unwrap().stream();
        assert_eq!((alone.name.as_str(), alone.subjects), ("frames", vec!["frames".to_owned()]));
        for wrong in [
            "nats://",
            "nats://h",
            "nats://h/",
            "nats:///a",
            "nats://h/a b",
            "nats://h/a..b",
            "nats://h/a.*",
            "nats://h/>",
        ] {
            assert!(matches!(Address::parse(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
        let Err(Failure::Usage(text)) = Address::parse("nats://me:CiSecret@h/a") else { panic!("it is taken") };
        assert!(text.contains("NATS_PASSWORD") && !text.contains("CiSecret"), "{text}");
    }
}
