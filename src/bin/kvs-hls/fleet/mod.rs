//! `fleet`: reads the cameras that a file names, for as long as it is told to.

mod file;
mod reader;
mod shard;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kvs_hls::Fleet;
use prometheus::{IntCounterVec, Registry, register_int_counter_vec_with_registry};
use serde_json::json;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};

pub use shard::Shard;

use crate::args::{FleetArgs, MAX_DURATION};
use crate::camera;
use crate::display::{REDRAW_EVERY, Screen, count, print, say};
use crate::failure::Failure;
use crate::serve::Served;
use crate::stop::{Reload, Stop};
use crate::summary::Summary;
use crate::view::{View, Views};
use file::Camera;
use reader::{Ended, read};

/// A camera that has failed is tried again so much later.
const RETRY: Duration = Duration::from_secs(60);
/// Calls of GetDataEndpoint a second of all machines together: the account's quota is 300.
const ENDPOINT_CALLS: u32 = 250;
/// So long is waited for what is still written at the end: longer than a server of messages is tried, less than Kubernetes waits.
const FINISH: Duration = Duration::from_secs(20);
/// Between two lines where nothing can be drawn over.
const PLAIN_EVERY: Duration = Duration::from_secs(60);

pub async fn run(args: FleetArgs) -> Result<(), Failure> {
    let Some(path) = args.file.as_deref().filter(|_| !args.example) else {
        return print(file::EXAMPLE.as_bytes());
    };
    let cameras = listed(path, &args)?;
    if args.check {
        let lines = cameras.iter().map(|camera| format!("{:20}  {}\n", camera.id, camera.options.source));
        print(lines.collect::<String>().as_bytes())?;
        eprintln!("{}: {}, all options are right", path.display(), count(cameras.len() as u64, "camera"));
        return Ok(());
    }
    let (mut stop, mut reload) = (Stop::listen(), Reload::listen());
    let mut summary = args.summary_json.as_deref().map(Summary::open).transpose()?;
    let served = Served::bind(&args.serving).await?;
    let mut fleet = Running::start(&args)?;
    fleet.change(cameras);
    served.start(&fleet.registry, &fleet.views)?;

    let deadline = Instant::now() + args.duration.unwrap_or(MAX_DURATION);
    let screen = Screen::of_stderr();
    let mut redraw = interval(if screen.is_some() { REDRAW_EVERY } else { PLAIN_EVERY });
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    redraw.reset();
    let mut is_wanted = false;
    while fleet.has_work() {
        let retry_at = fleet.retry_at().unwrap_or(deadline);
        tokio::select! {
            biased;
            () = stop.requested() => {
                is_wanted = true;
                break;
            }
            () = sleep_until(deadline) => break,
            () = reload.requested() => match listed(path, &args) {
                Ok(cameras) => fleet.change(cameras),
                // What runs is worth more than what cannot be read.
                Err(failure) => {
                    failure.report();
                    say("the cameras go on as they are");
                }
            },
            Some(ended) = fleet.readers.join_next_with_id() => fleet.ended(ended),
            () = sleep_until(retry_at) => fleet.retry(),
            _ = redraw.tick() => match screen {
                Some(screen) => screen.draw(&[fleet.line()]),
                None => eprintln!("{}", fleet.line()),
            },
        }
    }
    if let Some(screen) = screen {
        screen.clear();
    }
    let line = fleet.line();
    let (story, unwritten) = fleet.stop().await;
    eprintln!("{line}");
    if let Some(summary) = &mut summary {
        summary.save(&story)?;
    }
    // Who asked for the end has it; what ends by itself has done its work or not.
    if unwritten == 0 || is_wanted {
        return Ok(());
    }
    Err(Failure::Check(format!("{} could not be written", count(unwritten, "frame"))))
}

/// Those of the file that are this machine's.
fn listed(path: &Path, args: &FleetArgs) -> Result<Vec<Camera>, Failure> {
    let mut cameras = file::read(path)?;
    cameras.retain(|camera| args.shard.is_none_or(|shard| shard.has(&camera.id)));
    if args.serving.preview.is_some() {
        cameras.iter_mut().for_each(|camera| camera.options.look_at());
    }
    Ok(cameras)
}

/// The cameras that are read.
struct Running {
    fleet: Fleet,
    registry: Registry,
    /// For the cameras whose frames are written.
    unwritten: IntCounterVec,
    views: Views,
    cameras: BTreeMap<String, Member>,
    readers: JoinSet<Ended>,
}

struct Member {
    camera: Camera,
    view: Arc<View>,
    /// The task that reads it; `None` once it has ended.
    reader: Option<Id>,
    retry_at: Option<Instant>,
    /// Set when it is to end.
    is_stopped: Arc<AtomicBool>,
    story: Story,
}

/// What was read of a camera, before it was started anew too.
#[derive(Default)]
struct Story {
    runs: Vec<serde_json::Value>,
    unwritten: u64,
}

impl Story {
    fn add(&mut self, Ended { tally, unwritten, error }: &Ended) {
        self.unwritten += unwritten;
        self.runs.push(json!({
            "frames": tally.frames,
            "frames_per_second": tally.rate(),
            "frames_unwritten": unwritten,
            "seconds": tally.elapsed().as_secs_f64(),
            "error": error,
        }));
    }
}

impl Running {
    fn start(args: &FleetArgs) -> Result<Self, Failure> {
        let fleet = match args.decode_threads {
            Some(threads) => Fleet::with_decode_threads(threads)?,
            None => Fleet::new()?,
        };
        // All machines begin at once when a cluster does.
        let machines = args.shard.map_or(1, Shard::count);
        let fleet = fleet.endpoint_calls_per_second((ENDPOINT_CALLS / machines).clamp(1, 50));
        let (registry, views) = (Registry::new(), Views::default());
        let unwritten = register_int_counter_vec_with_registry!(
            "kvs_hls_frames_unwritten_total",
            "Frames that could not be written to where they should go.",
            &["camera_id"],
            registry
        );
        let unwritten = unwritten.map_err(|error| Failure::io("cannot count", std::io::Error::other(error)))?;
        Ok(Self { fleet, registry, unwritten, views, cameras: BTreeMap::new(), readers: JoinSet::new() })
    }

    /// Reads these cameras from now on. Those that stay as they are do not notice.
    fn change(&mut self, cameras: Vec<Camera>) {
        let is_first = self.cameras.is_empty();
        let mut old = std::mem::take(&mut self.cameras);
        let (mut started, mut kept) = (0, 0);
        for camera in cameras {
            match old.remove(&camera.id) {
                Some(member) if member.camera.words == camera.words => {
                    kept += 1;
                    self.cameras.insert(camera.id.clone(), member);
                }
                member => {
                    started += 1;
                    if let Some(member) = member {
                        self.end(&camera.id, &member);
                    }
                    self.begin(camera, Story::default());
                }
            }
        }
        for (id, member) in &old {
            self.end(id, member);
            self.views.remove(id);
        }
        match is_first {
            true if started == 0 => say("no camera of the file is this machine's"),
            true => say(format_args!("{} to read", count(started, "camera"))),
            false => {
                say(format_args!(
                    "read again: {} as before, {started} begun, {} ended",
                    count(kept, "camera"),
                    old.len()
                ));
            }
        }
    }

    fn begin(&mut self, camera: Camera, story: Story) {
        let id = camera.id.clone();
        let begun = camera::source(&camera.options, &id, &self.registry).and_then(|source| {
            let frames = self.fleet.start(source)?;
            let source = self.fleet.camera(&id);
            Ok((frames, source))
        });
        let is_stopped = Arc::default();
        let mut member = Member { view: Arc::default(), camera, reader: None, retry_at: None, is_stopped, story };
        match begun {
            Ok((frames, source)) => {
                if let Some(source) = &source {
                    member.view = self.views.add(source);
                }
                let unwritten = member.camera.options.is_written().then(|| self.unwritten.with_label_values(&[&id]));
                let task =
                    read(frames, member.camera.clone(), member.view.clone(), unwritten, member.is_stopped.clone());
                member.reader = Some(self.readers.spawn(task).id());
            }
            Err(failure) => {
                say(format_args!("camera {id} does not start"));
                failure.report();
                member.retry_at = Some(Instant::now() + RETRY);
            }
        }
        self.cameras.insert(id, member);
    }

    /// Stops a camera and forgets its counters, so that its name is free.
    fn end(&self, id: &str, member: &Member) {
        member.view.forget_source();
        member.is_stopped.store(true, Ordering::Relaxed);
        self.fleet.remove(id);
        let _ = self.unwritten.remove_label_values(&[id]); // there is none where nothing is written
    }

    fn ended(&mut self, ended: Result<(Id, Ended), tokio::task::JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        // One that was removed or replaced is not found.
        let Some((name, member)) = self.cameras.iter_mut().find(|(_, member)| member.reader == Some(id)) else {
            return;
        };
        member.reader = None;
        let error = match ended {
            Ok((_, ended)) => {
                member.story.add(&ended);
                ended.error
            }
            Err(error) => Some(error.to_string()),
        };
        match error {
            Some(error) => {
                tracing::error!(camera = %name, %error, "camera failed; it is tried again in a minute");
                let retry_at = Instant::now() + RETRY;
                member.view.end(Some((error, retry_at.into())));
                member.retry_at = Some(retry_at);
            }
            None => member.view.end(None),
        }
    }

    fn retry_at(&self) -> Option<Instant> {
        self.cameras.values().filter_map(|member| member.retry_at).min()
    }

    fn retry(&mut self) {
        let now = Instant::now();
        let due = |(id, member): (&String, &Member)| member.retry_at.is_some_and(|at| at <= now).then(|| id.clone());
        for id in self.cameras.iter().filter_map(due).collect::<Vec<_>>() {
            if let Some(member) = self.cameras.remove(&id) {
                self.end(&id, &member);
                self.begin(member.camera, member.story);
            }
        }
    }

    /// Whether a camera is read or will be: a fleet of archives comes to an end. One without cameras waits for others, unless it
    /// is a pod of a job, which is done then.
    fn has_work(&self) -> bool {
        let is_waiting = self.cameras.is_empty() && std::env::var_os("JOB_COMPLETION_INDEX").is_none();
        is_waiting || self.cameras.values().any(|member| member.reader.is_some() || member.retry_at.is_some())
    }

    /// One line for people who wait.
    fn line(&self) -> String {
        let mut states = BTreeMap::new();
        let (mut frames, mut rate, mut gaps) = (0, 0.0, 0);
        for (id, member) in &self.cameras {
            let tile = member.view.tile(id);
            *states.entry(tile["state"].as_str().unwrap_or_default().to_owned()).or_insert(0) += 1;
            frames += tile["frames"].as_u64().unwrap_or_default();
            rate += tile["rate"].as_f64().unwrap_or_default();
            gaps += tile["gaps"].as_u64().unwrap_or_default();
        }
        let states: Vec<_> = states.iter().map(|(state, number)| format!("{number} {state}")).collect();
        let (frames, gaps) = (count(frames, "frame"), count(gaps, "gap"));
        let written = self.cameras.iter().filter(|(_, member)| member.camera.options.is_written());
        let unwritten = match written.map(|(id, _)| self.unwritten.with_label_values(&[id]).get()).sum() {
            0 => String::new(),
            unwritten => format!("  {} not written", count(unwritten, "frame")),
        };
        format!(
            "{}: {}  {frames}  {rate:.1} a second  {gaps}{unwritten}",
            count(self.cameras.len() as u64, "camera"),
            states.join(", ")
        )
    }

    /// Ends all cameras, lets writers finish, and tells what was read and how many frames could not be written.
    async fn stop(mut self) -> (serde_json::Value, u64) {
        for (id, member) in &self.cameras {
            let stats = self.fleet.camera(id).map(|source| source.stats());
            if let Some(stats) = stats {
                member.view.note("state", format!("stopped after {}", count(stats.frames, "frame")));
            }
            member.is_stopped.store(true, Ordering::Relaxed);
            self.fleet.remove(id);
        }
        let deadline = Instant::now() + FINISH;
        while let Ok(Some(ended)) = timeout_at(deadline, self.readers.join_next_with_id()).await {
            let Ok((id, ended)) = ended else { continue };
            if let Some(member) = self.cameras.values_mut().find(|member| member.reader == Some(id)) {
                member.story.add(&Ended { error: None, ..ended });
                member.reader = None;
            }
        }
        for (id, member) in self.cameras.iter().filter(|(_, member)| member.reader.is_some()) {
            let out = member.camera.options.out.display();
            tracing::error!(camera = %id, "frames are not written to the end: {out} takes nothing");
        }
        let cameras = self.cameras.iter().map(|(id, member)| {
            let mut tile = member.view.tile(id);
            tile["runs"] = member.story.runs.clone().into();
            tile
        });
        let summary = json!({ "cameras": cameras.collect::<Vec<_>>() });
        (summary, self.cameras.values().map(|member| member.story.unwritten).sum())
    }
}
