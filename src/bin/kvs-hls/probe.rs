//! `probe`: what is at a URL, and whether it can be decoded.
//!
//! Goes as far as it can: what cannot be decoded is still described, with the reason.

use bytes::Bytes;
use jiff::Timestamp;
use kvs_hls::decode::ColorSpace;
use kvs_hls::fmp4::{Demuxer, InitSegment};
use kvs_hls::h264::{AccessUnit, NalUnit, Sps, nal_type};
use kvs_hls::hls::{
    self, ByteRange, MediaPlaylist, MultivariantPlaylist, Playlist, PlaylistType, Segment, VariantCaps,
};
use kvs_hls::net::{Fetch, Hosts, HttpClient, Request, Response};
use kvs_hls::{Config, Error, Limits, SecretUrl, SessionProvider, SessionRequest, Stage};
use serde_json::{Value, json};

use crate::args::ProbeArgs;
use crate::display::{Style, bit_rate, count, print};
use crate::failure::{Failure, hint};
use crate::report::{Report, Section};
use crate::stop::Stop;

pub async fn run(args: ProbeArgs) -> Result<(), Failure> {
    let provider = args.source.provider()?;
    let mut stop = Stop::listen();
    let session = tokio::select! {
        () = stop.requested() => return Ok(()),
        session = provider.open(SessionRequest::new(Config::default().session_duration)) => session?,
    };
    let hosts = session.allowed_hosts();
    let url = session.url;
    let (client, limits, report) = (HttpClient::new()?, Limits::default(), Report::default());
    let mut probe = Probe { client, limits, hosts, report };
    probe.report.section("source").word("url", url.to_string());
    let mut caps = VariantCaps::default();
    (caps.max_height, caps.max_bandwidth) = (args.max_height, args.max_bandwidth);
    let outcome = tokio::select! {
        () = stop.requested() => return Ok(()),
        outcome = probe.look(url, &caps) => outcome,
    };
    let problem = match outcome {
        Ok(()) => None,
        Err(Problem::Unreadable(error)) => return Err(error.into()),
        Err(Problem::Undecodable(error)) => Some(error),
    };
    let verdict = probe.report.section("verdict");
    match &problem {
        None => _ = verdict.fact("decodable", true, "yes"),
        Some(error) => {
            verdict.fact("decodable", false, "no").word("reason", format!("{error:?}"));
            if let Some(hint) = hint(error) {
                verdict.word("hint", hint);
            }
        }
    }
    let text = if args.json { format!("{:#}\n", probe.report.json()) } else { probe.report.text(Style::of_stdout()) };
    print(text.as_bytes())
}

/// Why looking ended before its time.
enum Problem {
    /// Nothing could be read.
    Unreadable(Error),
    /// Something could be read, and this is why it cannot be decoded.
    Undecodable(Error),
}

struct Probe {
    client: HttpClient,
    limits: Limits,
    hosts: Hosts,
    report: Report,
}

impl Probe {
    async fn look(&mut self, url: SecretUrl, caps: &VariantCaps) -> Result<(), Problem> {
        let mut encryption = None;
        let response = self.load_playlist(url).await.map_err(Problem::Unreadable)?;
        let playlist = match self.parse(&response, &mut encryption).map_err(Problem::Unreadable)? {
            Playlist::Media(playlist) => playlist,
            Playlist::Multivariant(multivariant) => {
                let choice = hls::select(&multivariant, caps);
                let chosen = choice.as_ref().ok().map(|choice| choice.variant.line);
                describe_multivariant(self.report.section("variants"), &multivariant, chosen);
                let choice = choice.map_err(|error| Problem::Undecodable(error.into()))?;
                let url = choice.variant.url.clone();
                let media = async {
                    let response = self.load_playlist(url).await?;
                    self.parse(&response, &mut encryption)
                };
                match media.await.map_err(Problem::Undecodable)? {
                    Playlist::Media(playlist) => playlist,
                    Playlist::Multivariant(_) => {
                        let text = "multivariant playlist where the variant's media playlist was expected";
                        return Err(Problem::Undecodable(Error::new(kvs_hls::ErrorKind::Playlist, text)));
                    }
                }
            }
        };
        describe_media(self.report.section("playlist"), &playlist);
        // Of a live list the newest segment: the oldest may leave at any moment.
        let mut segments = playlist.segments.iter().filter(|segment| !segment.is_gap);
        let segment = if playlist.is_complete() { segments.next() } else { segments.next_back() };
        let result = match segment {
            Some(segment) => self.look_at_segment(segment).await,
            None => Err(Error::new(kvs_hls::ErrorKind::Playlist, "playlist without a segment: nothing to decode yet")),
        };
        // The cause comes before its consequences.
        encryption.map_or(result, Err).map_err(Problem::Undecodable)
    }

    async fn load_playlist(&self, url: SecretUrl) -> Result<Response, Error> {
        let request = Request::playlist(url, &self.limits).hosts(self.hosts.clone());
        self.client.fetch(request).await.map_err(|error| error.at(Stage::Playlist))
    }

    /// Reads a playlist. One that is encrypted is read as if it were not, and the reason kept.
    fn parse(&self, response: &Response, encryption: &mut Option<Error>) -> Result<Playlist, Error> {
        let parse = |body: &[u8]| {
            hls::parse(body, &response.url, &self.limits).map_err(|error| Error::from(error).at(Stage::Playlist))
        };
        parse(&response.body).or_else(|error| {
            let playlist = parse(&without_keys(&response.body)).ok().filter(|_| error.is_unsupported());
            let playlist = playlist.ok_or_else(|| error.clone())?;
            *encryption = Some(error);
            Ok(playlist)
        })
    }

    async fn load_part(&self, request: Request, range: Option<ByteRange>) -> Result<Bytes, Error> {
        let range = range.map(|range| range.offset..range.offset.saturating_add(range.length));
        Ok(self.client.fetch(request.range(range).hosts(self.hosts.clone())).await?.body)
    }

    async fn look_at_segment(&mut self, segment: &Segment) -> Result<(), Error> {
        let media = Request::segment(segment.url.clone(), &self.limits);
        let in_segment = |error: Error| error.at(Stage::Segment);
        let (init, body) = match &segment.init {
            Some(init) => {
                let bytes = self.load_part(Request::init(init.url.clone(), &self.limits), init.byte_range).await;
                let bytes = bytes.map_err(|error| error.at(Stage::Init))?;
                let init = InitSegment::parse(&bytes, &self.limits);
                let init = init.map_err(|error| Error::from(error).at(Stage::Init))?;
                describe_tracks(self.report.section("container"), &init);
                let body = self.load_part(media, segment.byte_range).await.map_err(in_segment)?;
                (init, body)
            }
            None => {
                let body = self.load_part(media, segment.byte_range).await.map_err(in_segment)?;
                let init = InitSegment::parse(&body, &self.limits).map_err(|error| in_segment(error.into()))?;
                describe_tracks(self.report.section("container"), &init);
                (init, body)
            }
        };
        let size = body.len();
        let mut units = Vec::new();
        let mut demuxer = Demuxer::new(init, self.limits.clone());
        let damage = demuxer.push(body, &mut units).map_err(|error| in_segment(error.into()));
        let config = demuxer.track().sample_entry().config();
        let stated = config.sps().map_err(|error| Error::from(error).at(Stage::Init))?;
        let in_band = units.iter().flat_map(AccessUnit::nal_units).find(|nal| nal.kind() == nal_type::SPS);
        let sps = match in_band.map(NalUnit::bytes) {
            Some(nal) if stated.is_none() => Some(Sps::parse(nal).map_err(Error::from).map_err(in_segment)?),
            _ => stated,
        };
        if let Some(sps) = &sps {
            describe_video(self.report.section("video"), sps);
        }
        describe_segment(self.report.section("segment"), segment, size, &units, in_band.is_some());
        sps.map_or(Ok(()), |sps| sps.check_supported(&self.limits))?;
        damage
    }
}

/// A playlist without its EXT-X-KEY lines.
fn without_keys(body: &[u8]) -> Vec<u8> {
    let lines = body.split_inclusive(|&byte| byte == b'\n');
    lines.filter(|line| !line.starts_with(b"#EXT-X-KEY")).flatten().copied().collect()
}

fn describe_multivariant(section: &mut Section, playlist: &MultivariantPlaylist, chosen: Option<usize>) {
    let (mut values, mut lines) = (Vec::new(), Vec::new());
    for variant in &playlist.variants {
        let is_chosen = chosen == Some(variant.line);
        let resolution = variant.resolution.map(|resolution| resolution.to_string());
        let rate = variant.frame_rate_millihertz.map(|rate| rate as f64 / 1000.0);
        values.push(json!({
            "resolution": resolution,
            "bandwidth": variant.bandwidth,
            "average_bandwidth": variant.average_bandwidth,
            "frame_rate": rate,
            "codecs": variant.codecs,
            "chosen": is_chosen,
        }));
        let bandwidth = variant.bandwidth.map_or_else(|| "?".into(), |bits| bit_rate(bits as f64));
        let rate = rate.map_or_else(String::new, |rate| format!("  {rate} fps"));
        let codecs = variant.codecs.as_deref().unwrap_or("codecs not stated");
        lines.push(format!(
            "{:<9}  {bandwidth:>12}{rate}  {codecs}{}",
            resolution.as_deref().unwrap_or("?"),
            if is_chosen { "  <- chosen" } else { "" }
        ));
    }
    section.list("variants", values, lines);
    let renditions = playlist.renditions.iter();
    let (values, lines): (Vec<Value>, Vec<String>) = renditions
        .map(|rendition| {
            let kind = format!("{:?}", rendition.rendition_type).to_lowercase();
            (json!({"type": kind, "name": rendition.name}), format!("{kind} \"{}\"", rendition.name))
        })
        .unzip();
    if !values.is_empty() {
        section.list("renditions", values, lines);
    }
    describe_warnings(section, &playlist.warnings);
}

fn describe_warnings(section: &mut Section, warnings: &[hls::Warning]) {
    let texts: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    section.list("warnings", texts.iter().cloned().map(Value::from).collect(), texts);
}

fn describe_media(section: &mut Section, playlist: &MediaPlaylist) {
    let segments = &playlist.segments;
    let count_of = |is: fn(&Segment) -> bool| segments.iter().filter(|segment| is(segment)).count();
    let kind = match (playlist.has_ended, playlist.playlist_type) {
        (_, Some(PlaylistType::Vod)) => "finished (VOD)",
        (true, _) => "finished",
        (false, Some(PlaylistType::Event)) => "live, segments are only added (EVENT)",
        (false, None) => "live, a sliding window",
    };
    let target = playlist.target_duration.as_secs_f64();
    section.fact("live", !playlist.is_complete(), kind).fact("target_duration", target, format!("{target} s")).fact(
        "media_sequence",
        playlist.media_sequence,
        playlist.media_sequence.to_string(),
    );
    let seconds = segments.iter().map(|segment| segment.duration.as_secs_f64());
    let window: f64 = seconds.clone().sum();
    let (min, max) = (seconds.clone().fold(f64::INFINITY, f64::min), seconds.fold(0.0, f64::max));
    let value = if segments.is_empty() {
        json!({"count": 0})
    } else {
        let mean = window / segments.len() as f64;
        json!({"count": segments.len(), "min_seconds": min, "mean_seconds": mean, "max_seconds": max})
    };
    let text = match segments.len() {
        0 => "none".into(),
        1 => format!("1, of {max:.3} s"),
        n => format!("{n}, of {min:.3} to {max:.3} s, {:.3} s in the mean", window / n as f64),
    };
    section.fact("segments", value, text).fact("window_seconds", window, format!("{window:.3} s"));
    let gaps = count_of(|segment| segment.is_gap);
    if gaps > 0 {
        section.fact("gaps", gaps, format!("{gaps} listed as missing (EXT-X-GAP)"));
    }
    let discontinuities = count_of(|segment| segment.is_discontinuity);
    section.fact("discontinuities", discontinuities, discontinuities.to_string());
    describe_times(section, segments);
    describe_numbers(section, segments);
    let mut inits: Vec<_> = segments.iter().map(|segment| segment.init.as_deref()).collect();
    inits.dedup();
    let has_map = inits.iter().any(Option::is_some);
    let text = match (has_map, inits.len()) {
        (false, _) => "none".into(),
        (true, n) => count(n as u64, "initialization segment"),
    };
    section.fact("maps", if has_map { inits.len() } else { 0 }, text);
    let ranges = count_of(|segment| segment.byte_range.is_some());
    section.fact("byte_ranges", ranges > 0, if ranges > 0 { "yes" } else { "no" });
    let is_independent = playlist.has_independent_segments;
    section.fact("independent_segments", is_independent, if is_independent { "claimed" } else { "not claimed" });
    describe_warnings(section, &playlist.warnings);
}

fn describe_times(section: &mut Section, segments: &[Segment]) {
    let times = segments.iter().filter_map(|segment| segment.program_date_time);
    let tagged = times.clone().count();
    let stamp = |time| Timestamp::try_from(time).map(|time| time.to_string()).ok();
    let (first, last) = (times.clone().min().and_then(stamp), times.max().and_then(stamp));
    let text = match (&first, &last) {
        (Some(first), Some(last)) => format!("on {tagged} of {}, {first} to {last}", segments.len()),
        _ => "none: capture times will be those of arrival".into(),
    };
    section.fact("program_date_time", json!({"segments": tagged, "first": first, "last": last}), text);
}

fn describe_numbers(section: &mut Section, segments: &[Segment]) {
    let numbers = || segments.iter().filter_map(|segment| segment.fragment_number.as_ref());
    let (Some(first), Some(last)) = (numbers().next(), numbers().next_back()) else { return };
    let whose = if first.is_global() { "the stream's own" } else { "of this session" };
    section.fact(
        "fragment_numbers",
        json!({"first": first.as_str(), "last": last.as_str(), "global": first.is_global()}),
        format!("{whose}, {first} to {last}"),
    );
}

fn describe_tracks(section: &mut Section, init: &InitSegment) {
    let chosen = init.track();
    let (values, lines) = init
        .tracks()
        .iter()
        .map(|track| {
            let (handler, codec) = (track.handler.to_string(), track.codec.map(|codec| codec.to_string()));
            let is_read = track.id == chosen.id();
            let line = format!(
                "{}: {handler}, {}{}",
                track.id,
                codec.as_deref().unwrap_or("no codec"),
                if is_read { "  <- read" } else { "" }
            );
            (json!({"id": track.id, "handler": handler, "codec": codec, "read": is_read}), line)
        })
        .unzip();
    let timescale = chosen.timescale().get();
    section.list("tracks", values, lines).fact("timescale", timescale, format!("{timescale} ticks a second"));
    if chosen.edit_shift_ticks() != 0 {
        let ticks = chosen.edit_shift_ticks();
        section.fact("edit_list", ticks, format!("moves all times by {ticks} ticks"));
    }
    let entry = chosen.sample_entry();
    let sets = entry.config().parameter_sets().count();
    let text = if sets == 0 { "none".into() } else { sets.to_string() };
    section.fact("parameter_sets", sets, text);
}

fn describe_video(section: &mut Section, sps: &Sps) {
    let level = f64::from(sps.level_idc) / 10.0;
    section.word("profile", sps.profile_name()).fact("level", level, format!("{level:.1}")).fact(
        "size",
        json!([sps.width, sps.height]),
        format!("{}x{}", sps.width, sps.height),
    );
    let color = ColorSpace::of(sps);
    let said = |is_stated: bool| if is_stated { "stated" } else { "assumed" };
    let (matrix, range) = (color.matrix.to_string(), color.range.to_string());
    let (has_matrix, has_range) = (sps.matrix_coefficients.is_some(), sps.is_full_range.is_some());
    section.fact(
        "colour",
        json!({"matrix": matrix, "matrix_stated": has_matrix, "range": range, "range_stated": has_range}),
        format!("{matrix} ({}), {range} range ({})", said(has_matrix), said(has_range)),
    );
    let chroma = ["monochrome", "4:2:0", "4:2:2", "4:4:4"].get(usize::from(sps.chroma_format_idc)).unwrap_or(&"?");
    let bits = sps.luma_bit_depth.max(sps.chroma_bit_depth);
    section.fact("samples", json!({"chroma": chroma, "bits": bits}), format!("{chroma}, {bits} bits"));
    let scan = if sps.is_progressive { "progressive" } else { "interlaced" };
    section.word("scan", scan);
    if let Some((width, height)) = sps.sample_aspect_ratio {
        section.word("pixel_aspect", format!("{width}:{height}"));
    }
    let stated = sps.max_reorder_frames.map_or_else(|| "not stated".into(), |frames| frames.to_string());
    section.fact("reorder_depth_stated", sps.max_reorder_frames, stated);
}

fn describe_segment(section: &mut Section, segment: &Segment, size: usize, units: &[AccessUnit], has_sets: bool) {
    section
        .fact("media_sequence", segment.sequence, segment.sequence.to_string())
        .fact("bytes", size, format!("{size}"))
        .fact("frames", units.len(), units.len().to_string());
    let Some(first) = units.first() else { return };
    let ticks: u64 = units.iter().map(|unit| u64::from(unit.duration_ticks())).sum();
    let seconds = ticks as f64 / f64::from(first.pts().timescale().get());
    let durations = units.iter().map(AccessUnit::duration_ticks);
    let spread = durations.clone().max().zip(durations.min()).map_or(0, |(max, min)| max - min);
    if seconds > 0.0 {
        let rate = units.len() as f64 / seconds;
        let text = if spread > 1 { format!("{rate:.3} in the mean, uneven") } else { format!("{rate:.3}") };
        section.fact("frame_rate", rate, text);
    }
    let keyframes = units.iter().filter(|unit| unit.is_idr()).count();
    let depth = reorder_depth(units);
    section
        .fact("duration_seconds", seconds, format!("{seconds:.3} s"))
        .fact("keyframes", keyframes, keyframes.to_string())
        .fact("starts_with_idr", first.is_idr(), if first.is_idr() { "yes" } else { "no" })
        .fact("reorder_depth", depth, if depth == 0 { "0, no B-frames".into() } else { depth.to_string() })
        .fact("in_band_parameter_sets", has_sets, if has_sets { "yes" } else { "no" });
}

/// Access units that are looked at for [`reorder_depth`].
const MAX_REORDER_UNITS: usize = 300;

/// The most pictures that come before another one in decoding order and after it in display order.
fn reorder_depth(units: &[AccessUnit]) -> usize {
    let times: Vec<_> = units.iter().take(MAX_REORDER_UNITS).map(|unit| unit.pts().as_nanos()).collect();
    let earlier_and_later =
        |(index, time): (usize, &i128)| times.iter().take(index).filter(|before| *before > time).count();
    times.iter().enumerate().map(earlier_and_later).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_out() {
        assert_eq!(without_keys(b"#EXTM3U\n#EXT-X-KEY:METHOD=AES-128\r\na.m4s"), b"#EXTM3U\na.m4s");
    }
}
