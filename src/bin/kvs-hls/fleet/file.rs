//! The file that names the cameras. A key is an option of `frames` without its dashes; `[defaults]` are those of every
//! `[[camera]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::num::ParseIntError;
use std::ops::Range;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind as Kind};
use clap::{Args, CommandFactory, Parser};
use kvs_hls::ErrorKind;
use prometheus::Registry;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::args::{CameraOptions, Format};
use crate::camera;
use crate::failure::{Failure, bare, without_queries};
use crate::source::Kinesis;
use crate::write::{is_nats, is_stdout};

pub const EXAMPLE: &str = include_str!("example.toml");

/// A camera of the file.
#[derive(Clone, Debug)]
pub struct Camera {
    pub id: String,
    pub options: CameraOptions,
    /// What it was parsed from: two that say the same are the same.
    pub words: Vec<String>,
}

impl Camera {
    /// The file or directory that no other camera may share: what they write would be mixed, or replace each other.
    /// Messages are told apart, devices keep nothing.
    fn own_place(&self) -> Option<&Path> {
        let CameraOptions { write, out, .. } = &self.options;
        let is_device = out.starts_with("/dev") && !out.starts_with("/dev/shm");
        let is_own = *write != Format::None && !is_nats(out) && !is_device;
        is_own.then(|| out.strip_prefix(".").unwrap_or(out))
    }
}

#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Words {
    #[command(flatten)]
    options: CameraOptions,
}

/// Reads the file whole: every complaint has file, line and key.
pub fn read(path: &Path) -> Result<Vec<Camera>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        _ if path.to_string_lossy().contains("://") => {
            Failure::usage("a URL where a file with cameras is wanted: `kvs-hls frames --url URL` reads one")
        }
        io::ErrorKind::NotFound => Failure::usage(format!(
            "no file {}: `kvs-hls fleet --example > {0}` makes one to begin with",
            path.display()
        )),
        _ => Failure::io(format!("cannot read {}", path.display()), error),
    })?;
    File { name: path.display().to_string(), text: &text }
        .cameras()
        .map_err(|complaints| Failure::usage(complaints.join("\n       ")))
}

/// By the option that each is: a default and what overrides it may be spelled differently.
type Settings<'a> = BTreeMap<String, Setting<'a>>;

#[derive(Clone, Copy)]
struct Setting<'a> {
    /// As it is written.
    key: &'a str,
    value: &'a Spanned<DeValue<'a>>,
}

struct File<'a> {
    name: String,
    text: &'a str,
}

impl File<'_> {
    fn complaint(&self, place: &Range<usize>, text: impl std::fmt::Display) -> String {
        let line = 1 + self.text.bytes().take(place.start).filter(|byte| *byte == b'\n').count();
        format!("{}:{line}: {text}", self.name)
    }

    fn cameras(&self) -> Result<Vec<Camera>, Vec<String>> {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        if !errors.is_empty() {
            let place = |error: &toml::de::Error| self.complaint(&error.span().unwrap_or_default(), error.message());
            return Err(errors.iter().map(place).collect());
        }
        let mut complaints = Vec::new();
        // A default that is wrong is wrong for each camera.
        let mut complain = |place: &Range<usize>, text: String| {
            let complaint = self.complaint(place, text);
            if !complaints.contains(&complaint) {
                complaints.push(complaint);
            }
        };
        let (mut defaults, mut tables) = (Settings::new(), Vec::new());
        for (key, value) in root.get_ref() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("defaults", DeValue::Table(table)) => {
                    defaults = settings(table, &mut complain);
                    if let Some(id) = defaults.remove("id") {
                        complain(&id.value.span(), "id: each camera has its own".into());
                    }
                }
                ("camera", DeValue::Array(array)) => tables.extend(array.iter()),
                ("defaults" | "camera", _) => {
                    complain(&key.span(), "[defaults] and [[camera]] are written so, as tables".into());
                }
                (other, _) => {
                    complain(&key.span(), format!("{other}: unknown key ([defaults] and [[camera]] are allowed)"))
                }
            }
        }
        if tables.is_empty() {
            complain(&(0..0), "no [[camera]] in the file (`kvs-hls fleet --example` prints one to begin with)".into());
        }
        let (mut cameras, mut ids, mut outs) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for table in tables {
            let DeValue::Table(own) = table.get_ref() else {
                complain(&table.span(), "[[camera]] is written so, as a table".into());
                continue;
            };
            let own = settings(own, &mut complain);
            let mut all = defaults.clone();
            if own.contains_key("url") {
                all.retain(|name, _| name != "stream" && !is_of_kinesis(name));
            }
            if own.get("playback").is_some_and(|setting| setting.value.get_ref().as_str() == Some("live")) {
                all.retain(|name, _| name != "start" && name != "end");
            }
            all.extend(own.clone());
            match camera(&all, &table.span()) {
                Ok(camera) if !ids.insert(camera.id.clone()) => {
                    complain(&table.span(), format!("id: \"{}\" twice", camera.id));
                }
                Ok(camera) if camera.own_place().is_some_and(|place| !outs.insert(place.to_owned())) => {
                    let out = camera.options.out.display();
                    complain(
                        &table.span(),
                        format!("out: \"{out}\" is another camera's too; \"{{id}}\" in it keeps them apart"),
                    );
                }
                Ok(camera) => match own.get("out") {
                    Some(out) if !camera.options.is_written() => {
                        complain(&out.value.span(), "out: nothing is written there without `write`".into());
                    }
                    _ => cameras.push(camera),
                },
                Err(all) => all.into_iter().for_each(|(place, text)| complain(&place, text)),
            }
        }
        if complaints.is_empty() { Ok(cameras) } else { Err(complaints) }
    }
}

/// Whether an option has a meaning for streams of Kinesis Video Streams only: as a default it does not reach a URL.
fn is_of_kinesis(name: &str) -> bool {
    let options = Kinesis::augment_args(clap::Command::new("kinesis"));
    options.get_arguments().any(|arg| arg.get_long() == Some(name))
}

fn settings<'a>(table: &'a DeTable<'a>, complain: &mut impl FnMut(&Range<usize>, String)) -> Settings<'a> {
    let mut settings = Settings::new();
    for (key, value) in table {
        let setting = Setting { key: key.get_ref().as_ref(), value };
        if let Some(other) = settings.insert(option_of(setting.key), setting) {
            complain(&key.span(), format!("{}: the same key as {}", setting.key, other.key));
        }
    }
    settings
}

/// Where something is wrong, and what.
type Complaint = (Range<usize>, String);

/// The camera of these settings, looked at as closely as without asking anybody can be.
fn camera(settings: &Settings<'_>, place: &Range<usize>) -> Result<Camera, Vec<Complaint>> {
    let mut complaints = Vec::new();
    let id = match settings.get("id").map(|id| (id.value.get_ref(), id.value.span())) {
        Some((DeValue::String(id), _)) if is_id(id) => Ok(id.to_string()),
        Some((_, place)) => Err((place, "id: a text of up to 100 letters, digits and ._- is allowed")),
        None => Err((place.clone(), "id: missing; it names the camera in metrics, logs and files")),
    };
    let id = id.unwrap_or_else(|(place, text)| {
        complaints.push((place, text.into()));
        String::new()
    });
    let place_of = |name: &str| settings.get(&option_of(name)).map_or(place.clone(), |setting| setting.value.span());
    let options = Words::command();
    let mut words = Vec::new();
    for (name, &Setting { key, value }) in settings.iter().filter(|(name, _)| *name != "id") {
        let Some(option) = options.get_arguments().find(|option| option.get_long() == Some(name)) else {
            complaints.push((value.span(), format!("{key}: unknown key{}", meant(name))));
            continue;
        };
        let is_switch = !option.get_action().takes_values();
        match value.get_ref() {
            DeValue::Boolean(true) if is_switch => words.push(format!("--{name}")),
            DeValue::Boolean(false) if is_switch => {}
            DeValue::String(text) if name == "url" && text == "-" => {
                complaints.push((value.span(), "url: \"-\" is for the command line; a file has the URL itself".into()));
            }
            DeValue::String(text) if name == "out" && text.replace("{id}", "").contains(['{', '}']) => {
                complaints.push((value.span(), format!("out: \"{text}\" where {{id}} alone stands for something")));
            }
            DeValue::String(text) if !is_switch => words.push(format!("--{name}={}", text.replace("{id}", &id))),
            DeValue::Datetime(time) if !is_switch => words.push(format!("--{name}={time}")),
            DeValue::Integer(number) if !is_switch => words.push(format!("--{name}={}", number.as_str())),
            DeValue::Float(number) if !is_switch => words.push(format!("--{name}={}", number.as_str())),
            other => {
                let allowed = if is_switch { "true or false" } else { "a text or number" };
                complaints.push((value.span(), format!("{key}: {} where {allowed} is allowed", other.type_str())));
            }
        }
    }
    // What is wrong is taken out, so that all is told that is.
    let mut rest = words.clone();
    let options = loop {
        match Words::try_parse_from(&rest) {
            Ok(words) => break words.options,
            Err(error) => {
                let (key, text) = told(&error);
                complaints.push((key.as_deref().map_or(place.clone(), place_of), text));
                let (option, count) = (key.map(|key| format!("--{key}")), rest.len());
                rest.retain(|word| word.split('=').next() != option.as_deref());
                if rest.len() == count {
                    return Err(complaints);
                }
            }
        }
    };
    if is_stdout(&options.out) && options.is_written() {
        let text = "write: needs `out`, a path of this camera's own, such as \"frames/{id}\"";
        complaints.push((place_of("write"), text.into()));
    } else if complaints.is_empty()
        && let Err(failure) = camera::source(&options, &id, &Registry::new())
    {
        let text = match failure {
            Failure::Library(error) if error.kind() == ErrorKind::Config => bare(&format!("{error:?}")),
            other => other.line().replace("--", ""),
        };
        // It begins with the name of the option.
        let place = place_of(text.split([' ', ':']).next().unwrap_or_default());
        complaints.push((place, text));
    }
    if complaints.is_empty() { Ok(Camera { id, options, words }) } else { Err(complaints) }
}

/// It stands in file names.
fn is_id(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=100).contains(&text.len()) && text.bytes().all(is_allowed) && !text.starts_with('.')
}

/// The option that a key is.
fn option_of(key: &str) -> String {
    key.trim_start_matches('-').replace('_', "-")
}

/// What an unknown key may have been meant for.
fn meant(name: &str) -> String {
    let of_program = crate::args::Args::command();
    let mut commands = of_program.get_subcommands().filter(|command| ["frames", "fleet"].contains(&command.get_name()));
    if commands.any(|command| command.get_arguments().any(|option| option.get_long() == Some(name))) {
        return format!("; --{name} of the command line is for all cameras together");
    }
    let error = Words::try_parse_from([format!("--{name}")]).err();
    match error.as_ref().and_then(|error| error.get(ContextKind::SuggestedArg)) {
        Some(ContextValue::String(option)) => format!("; is {} meant?", option_of(option)),
        _ => " (`kvs-hls frames --help` lists all, without their dashes)".into(),
    }
}

/// clap's complaint in the file's words, and the key that it is about.
fn told(error: &clap::Error) -> (Option<String>, String) {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.split([' ', '=']).next().map(str::to_owned),
        _ => None,
    };
    let key = text(ContextKind::InvalidArg).map(|option| option_of(&option));
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let said = match (error.kind(), &key, std::error::Error::source(error), error.get(ContextKind::ValidValue)) {
        (Kind::MissingRequiredArgument, ..) => match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::Strings(missing)) if !missing.iter().any(|option| option.contains("--url")) => {
                let keys: Vec<_> =
                    missing.iter().map(|option| option_of(option.split(' ').next().unwrap_or_default())).collect();
                format!("{}: missing", keys.join(", "))
            }
            _ => "neither url nor stream: one of both is needed".into(),
        },
        (Kind::ArgumentConflict, Some(key), ..) => {
            let other = text(ContextKind::PriorArg).map_or_else(|| "another key".into(), |other| option_of(&other));
            format!("{key}: not together with {other}")
        }
        (_, Some(key), Some(reason), _) if reason.is::<ParseIntError>() => {
            format!("{key}: \"{value}\" where a whole number is allowed")
        }
        (_, Some(key), Some(reason), _) => format!("{key}: {}", bare(&reason.to_string())),
        (_, Some(key), None, Some(ContextValue::Strings(allowed))) => {
            format!("{key}: \"{value}\" where one of {} is allowed", allowed.join(", "))
        }
        _ => error.to_string().lines().next().unwrap_or_default().replace("error: ", ""),
    };
    (key, without_queries(&said))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Camera>, Vec<String>> {
        File { name: "c.toml".into(), text }.cameras()
    }

    #[test]
    fn defaults_hold_for_all_and_are_overridden() {
        let cameras = parse(
            "[defaults]\nregion = \"us-east-1\"\nselect = \"fps:1\"\nbuffer_frames = 2\nwrite = \"jpeg\"\nout = \"shots/{id}\"\n\
             [[camera]]\nid = \"a\"\nstream = \"front\"\n\
             [[camera]]\nid = \"b\"\nurl = \"http://h/b.m3u8\"\nselect = \"keyframes\"\nisolate = true\n",
        )
        .unwrap();
        assert_eq!(cameras.iter().map(|camera| camera.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(cameras[0].options.select.to_string(), "fps:1");
        assert_eq!(cameras[1].options.select.to_string(), "keyframes");
        assert!(cameras[1].options.reading.isolate && !cameras[0].options.reading.isolate);
        assert_eq!(cameras[1].options.out, Path::new("shots/b"));
        assert_eq!(cameras[0].options.reading.buffer_frames, 2);
    }

    #[test]
    fn defaults_are_overridden_in_either_spelling_and_by_what_excludes_them() {
        let cameras = parse(
            "[defaults]\nregion = \"us-east-1\"\nsession_duration = \"1h\"\nplayback = \"on-demand\"\n\
             start = 2026-01-31T12:00:00Z\nend = \"2026-01-31T13:00:00Z\"\n\
             [[camera]]\nid = \"a\"\nstream = \"a\"\nsession-duration = \"2h\"\n\
             [[camera]]\nid = \"b\"\nstream = \"b\"\nplayback = \"live\"\n",
        )
        .unwrap();
        let has = |index: usize, word: &str| cameras[index].words.iter().any(|own| own == word);
        assert!(has(0, "--session-duration=2h") && !has(0, "--session-duration=1h"));
        assert!(has(0, "--start=2026-01-31T12:00:00Z") && has(1, "--session-duration=1h"));
        assert!(!cameras[1].words.iter().any(|word| word.starts_with("--start") || word.starts_with("--end")));
    }

    #[test]
    fn complaints_name_line_and_key() {
        let camera = "[[camera]]\nid = \"a\"\nurl = \"http://h/a.m3u8?SessionToken=CiSecret\"\n";
        for (text, said) in [
            ("", "c.toml:1: no [[camera]]"),
            ("[[camera]\n", "c.toml:1: "),
            ("# me\ncamera = 3\n", "c.toml:2: [defaults] and [[camera]]"),
            ("[[cameras]]\n", "c.toml:1: cameras: unknown key"),
            ("[[camera]]\nurl = \"http://h/a\"\n", "c.toml:1: id: missing"),
            ("[[camera]]\nid = \"a/b\"\nurl = \"http://h/a\"\n", "c.toml:2: id: a text of"),
            ("\n[[camera]]\nid = \"a\"\n", "c.toml:2: neither url nor stream"),
            (&format!("{camera}selct = \"all\"\n"), "c.toml:4: selct: unknown key; is select meant?"),
            (&format!("{camera}select = \"some\"\n"), "c.toml:4: select: \"some\" where one of all"),
            (&format!("[defaults]\nsize = \"big\"\n{camera}"), "c.toml:2: size: "),
            (
                &format!("{camera}buffer-frames = \"many\"\n"),
                "c.toml:4: buffer-frames: \"many\" where a whole number is allowed",
            ),
            (&format!("{camera}isolate = \"yes\"\n"), "c.toml:4: isolate: string where true or false is allowed"),
            (&format!("{camera}range = true\n"), "c.toml:4: range: boolean where a text or number is allowed"),
            (&format!("{camera}region = \"us-east-1\"\n"), "c.toml:4: region: not together with url"),
            (&format!("{camera}fnord = 1\n"), "c.toml:4: fnord: unknown key (`kvs-hls frames --help` lists all"),
            ("[[camera]]\nid = \"a\"\nurl = \"h/CiSecret\"\n", "c.toml:3: url that is no absolute http or https URL"),
            (
                "[[camera]]\nid = \"a\"\nstream = \"s\"\nplayback = \"on-demand\"\n",
                "c.toml:4: playback on-demand without start",
            ),
            (&format!("{camera}select = [1]\n"), "c.toml:4: select: array where a text or number"),
            (
                &format!("{camera}write = \"gif\"\n"),
                "c.toml:4: write: \"gif\" where one of none, raw, y4m, png, jpeg, json, framemd5 is allowed",
            ),
            (&format!("{camera}write = \"y4m\"\n"), "c.toml:4: write: needs `out`"),
            (&format!("{camera}{camera}"), "c.toml:4: id: \"a\" twice"),
            (
                &format!(
                    "[defaults]\nwrite = \"json\"\nout = \"x\"\n{camera}[[camera]]\nid = \"b\"\nurl = \"http://h/b\"\n"
                ),
                "c.toml:7: out: \"x\" is another camera's too",
            ),
            (&format!("{camera}stream = \"b\"\n"), "not together with"),
            (
                &format!(
                    "[defaults]\nwrite = \"jpeg\"\n{camera}out = \"x/y\"\n[[camera]]\nid = \"b\"\nurl = \"http://h/b\"\nout = \"./x/./y\"\n"
                ),
                "c.toml:7: out: \"./x/./y\" is another camera's too",
            ),
            (
                &format!("{camera}duration = \"5s\"\n"),
                "c.toml:4: duration: unknown key; --duration of the command line",
            ),
            (
                &format!("{camera}write = \"json\"\nout = \"{{name}}.jsonl\"\n"),
                "c.toml:5: out: \"{name}.jsonl\" where {id} alone",
            ),
            (&format!("{camera}out = \"x\"\n"), "c.toml:4: out: nothing is written there"),
            (&format!("[defaults]\nid = \"x\"\n{camera}"), "c.toml:2: id: each camera has its own"),
            (&format!("{camera}live-edge = 2\nlive_edge = 3\n"), "c.toml:5: live_edge: the same key as live-edge"),
            ("[[camera]]\nid = \"a\"\nurl = \"-\"\n", "c.toml:3: url: \"-\" is for the command line"),
            (
                "[[camera]]\nid = \"a\"\nstream = \"s\"\nplayback = \"on-demand\"\nend = 2026-01-31T12:00:00Z\n",
                "c.toml:1: start: missing",
            ),
            ("[[camera]]\nid = \"a\"\nurl = \"ftp://h?CiSecret\"\n", "c.toml:3: url with scheme \"ftp\""),
        ] {
            let complaints = parse(text).unwrap_err();
            assert!(complaints.iter().any(|complaint| complaint.contains(said)), "{text}\n{complaints:#?}\nno {said}");
            assert!(!complaints.iter().any(|complaint| complaint.contains("CiSecret")), "{complaints:#?}");
        }
        let both = parse(&format!("{camera}size = \"big\"\n[[camera]]\nid = \"b\"\n")).unwrap_err();
        assert_eq!(both.len(), 2, "all are told at once: {both:#?}");
        let all = parse(&format!("{camera}size = \"big\"\nselct = 1\nvariant = \"best\"\nisolate = 3\n")).unwrap_err();
        assert_eq!(all.len(), 4, "those of one camera too: {all:#?}");
        let once = parse(&format!("[defaults]\nselct = 1\n{camera}[[camera]]\nid = \"b\"\nurl = \"http://h/b\"\n"));
        assert_eq!(once.unwrap_err().len(), 1, "a default is told of once");
    }

    #[test]
    fn what_takes_the_frames_of_many_may_be_named_twice() {
        let outs = [
            "/dev/null",
            #[cfg(feature = "nats")]
            "nats://h/frames",
            #[cfg(feature = "nats")]
            "tls://h/frames",
        ];
        for out in outs {
            let defaults = format!("[defaults]\nwrite = \"json\"\nout = \"{out}\"\n");
            let camera = |id: &str| format!("[[camera]]\nid = \"{id}\"\nurl = \"http://h/{id}.m3u8\"\n");
            assert_eq!(parse(&(defaults + &camera("a") + &camera("b"))).unwrap().len(), 2, "{out}");
        }
    }

    #[test]
    fn the_example_is_a_good_file() {
        let cameras = parse(EXAMPLE).unwrap();
        assert!(cameras.len() > 1);
        // What is commented out is right too.
        let all: Vec<_> = EXAMPLE.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect();
        parse(&all.join("\n")).unwrap_or_else(|complaints| panic!("{complaints:#?}"));
    }
}
