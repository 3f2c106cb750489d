//! `frames`: reads a stream and hands each frame to a writer.

use std::io;
use std::sync::Arc;

use kvs_hls::{ConnectionState, Error, Frame, FrameSource, Frames, Stats};
use prometheus::Registry;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::args::{FramesArgs, MAX_DURATION};
use crate::camera;
use crate::display::{REDRAW_EVERY, Screen, bit_rate, count, say};
use crate::failure::{Failure, hint_in};
use crate::serve;
use crate::stop::Stop;
use crate::summary::{End, Summary, Tally};
use crate::view::{View, Views};
use crate::write::{self, FrameWriter};

pub async fn run(mut args: FramesArgs) -> Result<(), Failure> {
    if args.serving.preview.is_some() {
        args.camera.look_at();
    }
    let camera = &args.camera;
    if !camera.is_written() && !write::is_stdout(&camera.out) {
        return Err(Failure::usage("--out without --write: say what to write there, for example --write png"));
    }
    let (registry, views) = (Registry::new(), Views::default());
    let source = Arc::new(camera::source(camera, camera.source.name(), &registry)?);
    let view = views.add(&source);
    serve::start(&args.serving, &registry, &views).await?;
    if let Some(path) = &args.summary_json
        && write::is_stdout(path)
        && write::is_stdout(&camera.out)
        && camera.is_written()
    {
        return Err(Failure::usage("--summary-json - while frames go to standard output: give one of them a file"));
    }
    let mut summary = args.summary_json.as_deref().map(Summary::open).transpose()?;
    let mut writer = write::writer(camera.write, &camera.out, camera.source.name())?;
    let screen = if writer.is_none() { Screen::of_stderr() } else { None };
    let mut tally = Tally::start();

    let mut frames = source.start()?;
    let result = read(&source, &mut frames, &args, &view, writer.as_deref_mut(), screen, &mut tally).await;
    let state = source.state();
    source.stop();
    // What could not be written will not be now.
    let can_write = !matches!(result, Err(Trouble::Io(_)));
    let finished = writer.filter(|_| can_write).map_or(Ok(()), |mut writer| writer.finish());
    let (end, failure) = match (result, finished) {
        (Err(Trouble::Library(error)), _) => (End::Error, Some(Failure::Library(error))),
        (Err(Trouble::Io(error)), _) | (Ok(_), Err(error)) => match error.kind() {
            io::ErrorKind::BrokenPipe => (End::ClosedPipe, None),
            _ => {
                let what = format!("cannot write frames to {}", camera.out.display());
                (End::Error, Some(Failure::io(what, error)))
            }
        },
        (Ok(end), Ok(())) => (end, None),
    };
    if let Some(screen) = screen {
        screen.clear();
    }
    let stats = source.stats();
    let why = why_no_frames(state, &stats);
    let failure = failure.or_else(|| {
        let seconds = tally.elapsed().as_secs_f64();
        let text = format!("no frame in {seconds:.1} s: {}", why.as_deref().unwrap_or("none was due"));
        (tally.frames == 0 && end == End::Duration).then(|| Failure::Check(text))
    });
    // A reader that has seen enough wants quiet.
    if end != End::ClosedPipe && (tally.frames > 0 || failure.is_none()) {
        let why = why.filter(|_| matches!(end, End::Duration | End::Signal));
        eprintln!("{}", tally.text(&stats, end, why.as_deref()));
    }
    if let Some(summary) = &mut summary {
        let story = failure.as_ref().map(Failure::line);
        summary.save(&tally.json(&stats, end, story.as_deref()))?;
    }
    failure.map_or(Ok(()), Err)
}

/// Why no frames come, where none do.
fn why_no_frames(state: ConnectionState, stats: &Stats) -> Option<String> {
    match (state, stats.silent_for, &stats.last_error) {
        (ConnectionState::Connected, ..) => None,
        (_, Some(silent), _) => Some(format!("the camera had sent nothing for {} s", silent.as_secs())),
        (state, _, Some(error)) => Some(format!("{state}: {error}")),
        (state, ..) => Some(state.to_string()),
    }
}

/// What ends reading before its time.
enum Trouble {
    Library(Error),
    Io(io::Error),
}

async fn read(
    source: &FrameSource,
    frames: &mut Frames,
    args: &FramesArgs,
    view: &View,
    mut writer: Option<&mut (dyn FrameWriter + 'static)>,
    screen: Option<Screen>,
    tally: &mut Tally,
) -> Result<End, Trouble> {
    let mut stop = Stop::listen();
    let deadline = Instant::now() + args.duration.unwrap_or(MAX_DURATION);
    let mut redraw = interval(REDRAW_EVERY);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Said once, however long it takes.
    let mut given = None;
    loop {
        let next = tokio::select! {
            biased;
            () = stop.requested() => return Ok(End::Signal),
            () = sleep_until(deadline) => return Ok(End::Duration),
            _ = redraw.tick() => {
                let hint = why_no_frames(source.state(), &source.stats()).and_then(|why| hint_in(&why));
                if let Some(hint) = hint.filter(|hint| given != Some(*hint)) {
                    say(format_args!("hint: {hint}"));
                    given = Some(hint);
                }
                if let Some(screen) = screen {
                    screen.draw(&[progress(source, tally)]);
                }
                continue;
            }
            next = frames.next() => next,
        };
        let frame: Frame = match next {
            Some(frame) => frame.map_err(Trouble::Library)?,
            None => return Ok(End::StreamEnded),
        };
        view.show(&frame);
        if let Some(writer) = &mut writer {
            writer.write(&frame).map_err(Trouble::Io)?;
        }
        tally.add(&frame);
        if args.max_frames.is_some_and(|max| tally.frames >= max) {
            return Ok(End::MaxFrames);
        }
    }
}

/// One line for people who wait.
fn progress(source: &FrameSource, tally: &Tally) -> String {
    let stats = source.stats();
    let mut text = format!("{}  {}", source.state(), count(tally.frames, "frame"));
    if let Some(silent) = stats.silent_for {
        text += &format!("  camera silent for {} s", silent.as_secs());
    }
    if stats.refreshes > 0 {
        text += &format!("  session {}", stats.refreshes + stats.reconnects + 1);
    }
    if let Some((width, height)) = stats.size {
        text += &format!("  {width}x{height}");
    }
    if source.state() != ConnectionState::Connected {
        if let Some(age) = tally.age() {
            text += &format!("  the last one came {} s ago", age.as_secs());
        }
        return text;
    }
    if let Some(rate) = tally.rate() {
        text += &format!("  {rate:.1} a second");
    }
    if let Some(latency) = stats.latency {
        text += &match latency.as_secs() {
            seconds @ 0..600 => format!("  {seconds}.{} s behind", latency.subsec_millis() / 100),
            _ => String::new(), // an archive
        };
    }
    if stats.bandwidth > 0.0 {
        text += &format!("  {}", bit_rate(stats.bandwidth));
    }
    if stats.gaps > 0 {
        text += &format!("  {}", count(stats.gaps, "gap"));
    }
    text
}
