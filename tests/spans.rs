//! Log lines stand in spans, camera > session > segment, and no span or line holds a token. Alone in its process: the threads
//! of a source log to the global subscriber.

mod support;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvs_hls::decode::{Openh264Decoder, Picture};
use kvs_hls::h264::AccessUnit;
use kvs_hls::net::BoxFuture;
use kvs_hls::{Decoder, Delivery, Error, FrameSource, KinesisSession, Limits, Output};
use kvs_hls::{Session, SessionProvider, SessionRequest};
use support::FastClock;
use support::camera::{ShortSessions, camera, sdk_config};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// A span as text, for example `segment sequence=3`.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

/// What was said: each span and each event behind the spans it stands in.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<Vec<String>>>>);

impl Said {
    fn add(&self, line: Vec<String>) {
        self.0.lock().unwrap().push(line);
    }
}

fn spans<S: Subscriber + for<'a> LookupSpan<'a>>(id: Option<&Id>, context: &Context<'_, S>) -> Vec<String> {
    let scope = id.and_then(|id| context.span_scope(id)).into_iter().flat_map(|scope| scope.from_root());
    scope.map(|span| span.extensions().get::<Text>().unwrap().0.clone()).collect()
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Said {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut text = Text(attributes.metadata().name().to_owned());
        attributes.record(&mut text);
        context.span(id).unwrap().extensions_mut().insert(text);
        if attributes.metadata().target().starts_with("kvs_hls") {
            self.add(spans(Some(id), &context));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        values.record(context.span(id).unwrap().extensions_mut().get_mut::<Text>().unwrap());
        self.add(spans(Some(id), &context));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut text = Text(event.metadata().target().to_owned());
        event.record(&mut text);
        let mut line = spans(context.event_span(event).map(|span| span.id()).as_ref(), &context);
        line.push(text.0);
        self.add(line);
    }
}

/// Remembers what its sessions' URLs keep secret.
#[derive(Debug)]
struct Watched {
    inner: ShortSessions,
    tokens: Arc<Mutex<Vec<String>>>,
}

impl SessionProvider for Watched {
    fn open(&self, request: SessionRequest) -> BoxFuture<'_, Result<Session, Error>> {
        Box::pin(async move {
            let session = self.inner.open(request).await?;
            let (_, token) = session.url.expose().query().unwrap().split_once("SessionToken=").unwrap();
            self.tokens.lock().unwrap().push(token.to_owned());
            Ok(session)
        })
    }
}

/// Says when it decodes.
struct Talking(Openh264Decoder);

impl Decoder for Talking {
    fn decode(&mut self, unit: &AccessUnit, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        tracing::info!(target: "decoder", "decoding");
        self.0.decode(unit, out)
    }

    fn drain(&mut self, out: &mut dyn FnMut(Picture<'_>)) -> Result<(), Error> {
        self.0.drain(out)
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_stand_in_camera_session_and_segment_and_hold_no_token() {
    let said = Said::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(said.clone())).unwrap();
    let (clock, lifetime) = (FastClock::new(10), Duration::from_secs(8));
    let camera = camera(&clock, lifetime).start().await.unwrap();
    let inner = KinesisSession::live(camera.stream_name()).sdk_config(&sdk_config(&camera.endpoint_url()));
    let tokens = Arc::<Mutex<Vec<String>>>::default();
    let inner = ShortSessions { inner, lifetime, clock: clock.clone() };
    let source = FrameSource::builder("front-door", Watched { inner, tokens: tokens.clone() })
        .delivery(Delivery::All)
        .output(Output::gray().fit(32, 32))
        .clock(clock)
        .decoder(|limits: &Limits| Box::new(Talking(Openh264Decoder::new(limits.clone()))))
        .build()
        .unwrap();
    let mut frames = source.start().unwrap();
    let mut expected = BTreeSet::new();
    let mut last = 0;
    while last < 3 {
        let frame = frames.next().await.unwrap().unwrap();
        let meta = frame.meta();
        last = meta.session_generation;
        let number = meta.fragment_number.as_ref().unwrap();
        expected.insert(vec![
            "camera id=front-door".to_owned(),
            format!("session generation={last}"),
            format!("segment sequence={} number={number}", meta.media_sequence),
        ]);
    }
    source.stop();

    let said = std::mem::take(&mut *said.0.lock().unwrap());
    let segments: BTreeSet<_> = said.iter().filter(|line| line[line.len() - 1].starts_with("segment ")).collect();
    for frame in &expected {
        assert!(segments.contains(frame), "no span {frame:?} in {segments:#?}");
    }
    for segment in segments {
        assert!(segment[0] == "camera id=front-door" && segment[1].starts_with("session generation="), "{segment:?}");
    }
    let of = |what: &str| -> BTreeSet<_> {
        let lines = said.iter().filter(|line| line[line.len() - 1].contains(what));
        lines.map(|line| line[..line.len() - 1].to_vec()).collect()
    };
    assert!(expected.is_subset(&of("decoder message=decoding")), "decoding is a part of its segment");
    assert!(expected.is_subset(&of("message=segment loaded")), "loading is a part of its segment");
    let sessions = (1..=3).map(|generation| {
        expected.iter().next().map(|line| vec![line[0].clone(), format!("session generation={generation}")])
    });
    assert_eq!(of("message=session began"), sessions.flatten().collect());
    assert_eq!(of("message=state state=connected"), [vec!["camera id=front-door".to_owned()]].into());

    let tokens = tokens.lock().unwrap();
    assert!(tokens.len() >= 3 && tokens.iter().all(|token| token.len() > 50), "{}", tokens.len());
    for token in &*tokens {
        let line = said.iter().flatten().find(|text| text.contains(token));
        assert_eq!(line, None, "a token is in the log");
    }
}
