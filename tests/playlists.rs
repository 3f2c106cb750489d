//! Playlists as servers send them: valid ones, odd ones that players forgive, and damaged ones.

use std::time::{Duration, SystemTime};

use kvs_hls::hls::{
    MediaPlaylist, MultivariantPlaylist, ParseError, Playlist, PlaylistType, RenditionType, Segment, parse,
};
use kvs_hls::{Error, ErrorKind, Limits, SecretUrl};

const BASE: &str = "https://host/hls/v1/list.m3u8?SessionToken=CiSecret~";

fn parse_with(body: &[u8], limits: &Limits) -> Result<Playlist, ParseError> {
    parse(body, &SecretUrl::parse(BASE).unwrap(), limits)
}

fn try_media(body: impl AsRef<[u8]>) -> Result<MediaPlaylist, ParseError> {
    match parse_with(body.as_ref(), &Limits::default())? {
        Playlist::Media(playlist) => Ok(playlist),
        Playlist::Multivariant(_) => panic!("not a media playlist"),
    }
}

fn media(body: impl AsRef<[u8]>) -> MediaPlaylist {
    try_media(body).unwrap()
}

fn multivariant(text: &str) -> MultivariantPlaylist {
    match parse_with(text.as_bytes(), &Limits::default()).unwrap() {
        Playlist::Multivariant(playlist) => playlist,
        Playlist::Media(_) => panic!("not a multivariant playlist"),
    }
}

/// `sequence file milliseconds` and what else is said about the segment.
fn line_of(segment: &Segment) -> String {
    let file = |url: &SecretUrl| url.expose().as_str().trim_start_matches("https://host/hls/v1/").to_owned();
    let mut line = format!("{} {} {}", segment.sequence, file(&segment.url), segment.duration.as_millis());
    if let Some(range) = segment.byte_range {
        line += &format!(" bytes={}@{}", range.length, range.offset);
    }
    if segment.is_discontinuity {
        line += " discontinuity";
    }
    if segment.discontinuity_sequence > 0 {
        line += &format!(" ds={}", segment.discontinuity_sequence);
    }
    if segment.is_gap {
        line += " gap";
    }
    if let Some(init) = &segment.init {
        line += &format!(" init={}", file(&init.url));
        if let Some(range) = init.byte_range {
            line += &format!(",{}@{}", range.length, range.offset);
        }
    }
    line
}

struct Case {
    name: &'static str,
    text: &'static str,
    /// What [`line_of`] says of each segment, worked out by hand.
    segments: &'static [&'static str],
    /// Lines of the warnings.
    warnings: &'static [usize],
}

const CASES: &[Case] = &[
    Case {
        name: "plain live",
        text: "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:4.0,\na\n#EXTINF:3.996,\nb\n",
        segments: &["7 a 4000", "8 b 3996"],
        warnings: &[],
    },
    Case {
        name: "CRLF, no final newline, unknown tags, comments, blank lines",
        text: "#EXTM3U\r\n#EXT-X-TARGETDURATION:4\r\n\r\n# a comment\r\n#EXT-X-CUSTOM:a=b\r\n#EXTINF:4,\r\n#comment between\r\na",
        segments: &["0 a 4000"],
        warnings: &[],
    },
    Case {
        name: "lone CR",
        text: "#EXTM3U\r#EXT-X-TARGETDURATION:4\r#EXTINF:4,\ra\r",
        segments: &["0 a 4000"],
        warnings: &[],
    },
    Case {
        name: "byte order mark",
        text: "\u{feff}#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na\n",
        segments: &["0 a 4000"],
        warnings: &[1],
    },
    Case {
        name: "blank line before the first tag, attributes behind it",
        text: "\n#EXTM3U x-tvg-url=\"u\"\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na\n",
        segments: &["0 a 4000"],
        warnings: &[2],
    },
    Case {
        name: "title with commas",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4.0,hello, world\na\n#EXTINF:4,x=\"y,#z\na2\n",
        segments: &["0 a 4000", "1 a2 4000"],
        warnings: &[],
    },
    Case {
        name: "EXTINF with spaces and without a comma",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF: 4.0 ,\na\n#EXTINF:3\nb\n",
        segments: &["0 a 4000", "1 b 3000"],
        warnings: &[],
    },
    Case {
        name: "EXTINF above the target duration",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:9.5,\na\n",
        segments: &["0 a 9500"],
        warnings: &[],
    },
    Case {
        name: "decimal target duration, space before a number",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4.0\n#EXT-X-DISCONTINUITY-SEQUENCE: 4\n#EXT-X-MEDIA-SEQUENCE: 9\n#EXTINF:4,\na\n",
        segments: &["9 a 4000 ds=4"],
        warnings: &[2],
    },
    Case {
        name: "no target duration",
        text: "#EXTM3U\n#EXTINF:3.2,\na\n#EXTINF:4.1,\nb\n",
        segments: &["0 a 3200", "1 b 4100"],
        warnings: &[1],
    },
    Case {
        name: "map change and discontinuities",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-DISCONTINUITY-SEQUENCE:2\n#EXTINF:4,\na\n#EXT-X-MAP:URI=\"i1\"\n#EXTINF:4,\nb\n\
               #EXTINF:4,\nc\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"i2\"\n#EXTINF:4,\nd\n#EXTINF:4,\ne\n",
        segments: &[
            "0 a 4000 ds=2",
            "1 b 4000 ds=2 init=i1",
            "2 c 4000 ds=2 init=i1",
            "3 d 4000 discontinuity ds=3 init=i2",
            "4 e 4000 ds=3 init=i2",
        ],
        warnings: &[],
    },
    Case {
        name: "discontinuity before the first segment, two before one",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-DISCONTINUITY\n#EXTINF:4,\na\n#EXT-X-DISCONTINUITY\n#EXT-X-DISCONTINUITY\n#EXTINF:4,\nb\n",
        segments: &["0 a 4000 discontinuity ds=1", "1 b 4000 discontinuity ds=3"],
        warnings: &[],
    },
    Case {
        name: "no key",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:4,\na\n",
        segments: &["0 a 4000"],
        warnings: &[],
    },
    Case {
        name: "gap",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na\n#EXT-X-GAP\n#EXTINF:4,\nb\n#EXTINF:4,\nc\n",
        segments: &["0 a 4000", "1 b 4000 gap", "2 c 4000"],
        warnings: &[],
    },
    Case {
        name: "delta update",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=24,CAN-BLOCK-RELOAD=YES\n\
               #EXT-X-MEDIA-SEQUENCE:100\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n#EXTINF:4,\na\n",
        segments: &["103 a 4000"],
        warnings: &[],
    },
    Case {
        name: "parts and hints around and after the last segment",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PART-INF:PART-TARGET=1.0\n#EXT-X-PART:DURATION=1.0,URI=\"a.0\"\n#EXTINF:4,\na\n\
               #EXT-X-PART:DURATION=1.0,URI=\"b.0\",INDEPENDENT=YES\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"b.1\"\n\
               #EXT-X-RENDITION-REPORT:URI=\"../2.m3u8\",LAST-MSN=2\n",
        segments: &["0 a 4000"],
        warnings: &[],
    },
    Case {
        name: "byte ranges with and without an offset",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"f\",BYTERANGE=\"800@0\"\n#EXTINF:4,\n#EXT-X-BYTERANGE:1000@800\nf\n\
               #EXT-X-BYTERANGE:500\n#EXTINF:4,\nf\n#EXTINF:4,\n#EXT-X-BYTERANGE:7@9\ng\n#EXTINF:4,\nh\n",
        segments: &[
            "0 f 4000 bytes=1000@800 init=f,800@0",
            "1 f 4000 bytes=500@1800 init=f,800@0",
            "2 g 4000 bytes=7@9 init=f,800@0",
            "3 h 4000 init=f,800@0",
        ],
        warnings: &[],
    },
    Case {
        name: "map range without an offset",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:BYTERANGE=\"800\",URI=\"f\"\n#EXTINF:4,\na\n",
        segments: &["0 a 4000 init=f,800@0"],
        warnings: &[3],
    },
    Case {
        name: "attribute without a value",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"i\",FOO\n#EXTINF:4,\na\n#EXTINF:4,\nb\n",
        segments: &["0 a 4000 init=i", "1 b 4000 init=i"],
        warnings: &[3],
    },
    Case {
        name: "attribute values with commas and equals signs, odd order, spaces, no quotes",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP: X=\"a,URI=no\", URI = \"i?a=b,c\"\n#EXTINF:4,\na\n#EXT-X-MAP:URI=j\n#EXTINF:4,\nb\n",
        segments: &["0 a 4000 init=i?a=b,c", "1 b 4000 init=j"],
        warnings: &[],
    },
    Case {
        name: "cut off inside a tag",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na\n#EXTINF:3.99",
        segments: &["0 a 4000"],
        warnings: &[5],
    },
    Case {
        name: "cut off inside the name of a tag",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na\n#EXT-X-DISCONT",
        segments: &["0 a 4000"],
        warnings: &[],
    },
    Case {
        name: "URI without EXTINF, EXTINF without URI",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\nstray\n#EXTINF:3,\n#EXTINF:4,\na\n",
        segments: &["0 a 4000"],
        warnings: &[3, 5],
    },
    Case {
        name: "highest sequence number",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:18446744073709551615\n#EXTINF:4,\na\n",
        segments: &["18446744073709551615 a 4000"],
        warnings: &[],
    },
    Case {
        name: "sequence number after a segment",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na\n#EXT-X-MEDIA-SEQUENCE:5\n#EXTINF:4,\nb\n",
        segments: &["5 a 4000", "6 b 4000"],
        warnings: &[5],
    },
    Case {
        name: "no segments yet",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:5\n",
        segments: &[],
        warnings: &[],
    },
    Case {
        name: "all ways to write a URI",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n../x/a\n#EXTINF:4,\n/r\n#EXTINF:4,\n//other/p\n#EXTINF:4,\nhttp://o:8080/q?a#f\n#EXTINF:4,\n?b=1\n",
        segments: &[
            "0 https://host/hls/x/a 4000",
            "1 https://host/r 4000",
            "2 https://other/p 4000",
            "3 http://o:8080/q?a#f 4000",
            "4 list.m3u8?b=1 4000",
        ],
        warnings: &[],
    },
    Case {
        name: "variables",
        text: "#EXTM3U\n#EXT-X-VERSION:11\n#EXT-X-TARGETDURATION:4\n#EXT-X-DEFINE:NAME=\"d\",VALUE=\"dir-1\"\n\
               #EXT-X-DEFINE:QUERYPARAM=\"SessionToken\"\n#EXT-X-MAP:URI=\"{$d}/i\"\n#EXTINF:4,{$title}\n{$d}/a?{$d}&t={$SessionToken}{$ {x}\n",
        segments: &["0 dir-1/a?dir-1&t=CiSecret~{$%20{x} 4000 init=dir-1/i"],
        warnings: &[],
    },
    Case {
        name: "braces without any definition",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na?{$x}\n",
        segments: &["0 a?{$x} 4000"],
        warnings: &[],
    },
    Case {
        name: "date ranges with an open quote",
        text: "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-DATERANGE:ID=\"a\n#EXTINF:4,\na\n#EXT-X-DATERANGE:ID=\"b\n#EXTINF:4,\nb\n",
        segments: &["0 a 4000", "1 b 4000"],
        warnings: &[],
    },
];

#[test]
fn playlists_give_their_segments() {
    for case in CASES {
        let playlist = try_media(case.text).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let segments: Vec<_> = playlist.segments.iter().map(line_of).collect();
        assert_eq!(segments, case.segments, "{}", case.name);
        let warnings: Vec<_> = playlist.warnings.iter().map(|warning| warning.line).collect();
        assert_eq!(warnings, case.warnings, "{}: {:?}", case.name, playlist.warnings);
    }
}

/// Head of three lines: what follows begins on line 3.
fn after_head(rest: &str) -> String {
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n{rest}")
}

#[test]
fn defects_are_named_with_their_line_and_without_secrets() {
    let secret = "CiTopSecret";
    let huge = "9".repeat(2_000_000);
    let cases = [
        (
            "#EXT-X-MEDIA-SEQUENCE:18446744073709551615\n#EXTINF:4,\na\n#EXTINF:4,\nb\n",
            "media sequence number above 2^64 - 1",
        ),
        ("#EXT-X-MEDIA-SEQUENCE:18446744073709551616\n", "line 3: EXT-X-MEDIA-SEQUENCE without an integer below 2^64"),
        ("#EXT-X-MEDIA-SEQUENCE:CiTopSecret\n", "line 3: EXT-X-MEDIA-SEQUENCE without an integer below 2^64"),
        ("#EXT-X-DISCONTINUITY-SEQUENCE:-1\n", "line 3: EXT-X-DISCONTINUITY-SEQUENCE without an integer below 2^64"),
        (&format!("#EXTINF:{huge},\na\n"), "line 3: EXTINF without a duration in seconds"),
        ("#EXTINF:-1,\na\n", "line 3: EXTINF without a duration in seconds"),
        ("#EXTINF:,\na\n", "line 3: EXTINF without a duration in seconds"),
        ("#EXTINF:NaN,\na\n", "line 3: EXTINF without a duration in seconds"),
        ("#EXT-X-TARGETDURATION:x\n", "line 3: EXT-X-TARGETDURATION without a duration in seconds"),
        (
            "#EXTINF:4,\n#EXT-X-BYTERANGE:5\na\n",
            "line 5: EXT-X-BYTERANGE without an offset, and no range of the same resource before it",
        ),
        (
            "#EXT-X-BYTERANGE:5@0\n#EXTINF:4,\na\n#EXTINF:4,\n#EXT-X-BYTERANGE:5\nb\n",
            "line 8: EXT-X-BYTERANGE without an offset, and no range of the same resource before it",
        ),
        ("#EXT-X-BYTERANGE:0@5\n#EXTINF:4,\na\n", "line 5: EXT-X-BYTERANGE without a byte range length[@offset]"),
        (
            "#EXT-X-BYTERANGE:2@18446744073709551615\n#EXTINF:4,\na\n",
            "line 5: EXT-X-BYTERANGE without a byte range length[@offset]",
        ),
        ("#EXT-X-MAP:BYTERANGE=\"x\",URI=\"i\"\n", "line 3: EXT-X-MAP without a byte range length[@offset]"),
        ("#EXT-X-MAP:BYTERANGE=\"1@0\"\n", "line 3: EXT-X-MAP without URI"),
        ("#EXT-X-MAP:URI=\"i?SessionToken=CiTopSecret\n", "line 3: EXT-X-MAP with a quoted string that does not end"),
        (
            "#EXT-X-KEY:URI=\"k?CiTopSecret\",METHOD=SAMPLE-AES\n",
            "line 3: EXT-X-KEY with METHOD=SAMPLE-AES: encryption is not supported",
        ),
        ("#EXT-X-KEY:URI=\"k\"\n", "line 3: EXT-X-KEY without METHOD"),
        (
            "#EXT-X-SKIP:SKIPPED-SEGMENTS=18446744073709551615\n#EXTINF:4,\na\n",
            "line 5: media sequence number above 2^64 - 1",
        ),
        ("#EXT-X-SKIP:X=1\n", "line 3: EXT-X-SKIP without SKIPPED-SEGMENTS"),
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=1\na\n",
            "line 3: EXT-X-STREAM-INF in a playlist of the other kind (RFC 8216 4.1)",
        ),
        ("#EXTINF:4,\nfile:///etc/passwd\n", "line 4: URI of scheme file (http and https are supported)"),
        (
            "#EXTINF:4,\ndata:video/mp4;base64,CiTopSecret\n",
            "line 4: URI of scheme data (http and https are supported)",
        ),
        ("#EXTINF:4,\nhttps://[CiTopSecret/a\n", "line 4: URI that cannot be resolved (invalid IPv6 address)"),
        (
            "#EXT-X-DEFINE:NAME=\"a\",VALUE=\"CiTopSecret\"\n#EXTINF:4,\n{$a}{$b}\n",
            "line 5: reference to a variable that no EXT-X-DEFINE defines",
        ),
        ("#EXT-X-DEFINE:NAME=\"a\"\n", "line 3: EXT-X-DEFINE without VALUE"),
        (
            "#EXT-X-DEFINE:QUERYPARAM=\"nothing\"\n",
            "line 3: EXT-X-DEFINE without its QUERYPARAM in the URL of the playlist",
        ),
        ("#EXT-X-DEFINE:IMPORT=\"a\"\n", "line 3: EXT-X-DEFINE with IMPORT, which is not supported"),
    ];
    for (rest, expected) in cases {
        let error = try_media(after_head(rest)).expect_err(expected);
        assert_eq!(error.to_string(), expected);
        let error = Error::from(error);
        assert_eq!(error.kind(), ErrorKind::Playlist);
        assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
        assert_eq!(error.is_unsupported(), expected.contains("supported"), "{expected}");
    }
    let error = try_media(b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,caf\xe9\na\n").unwrap_err();
    assert_eq!((error.to_string().as_str(), error.line()), ("line 3: byte that is not UTF-8", Some(3)));
    for text in ["#EXTM3U", "#EXTM3U\n#EXT-X-VERSION:3\n"] {
        assert!(try_media(text).unwrap_err().to_string().starts_with("no EXT-X-TARGETDURATION"));
    }
    assert_eq!(try_media("#EXTM3U\n#EXTINF:0,\na\n").unwrap_err().to_string(), "target duration of zero");
    // ffmpeg rounds the duration of short segments to zero.
    let short = try_media("#EXTM3U\n#EXT-X-TARGETDURATION:0\n#EXTINF:0.3,\na\n").unwrap();
    assert_eq!((short.target_duration, short.warnings.len()), (std::time::Duration::from_secs(1), 1));
}

#[test]
fn bodies_that_are_no_playlist_are_named() {
    for (body, expected, is_unsupported) in [
        (&b""[..], "the body is empty", false),
        (b"<!doctype html><title>403</title>", "the body is an HTML page", false),
        (b"<?xml version=\"1.0\"?><MPD>", "the body is a DASH manifest (MPD), not HLS", true),
        (b"{\"message\":\"Streaming session token is expired\"}", "the body is a JSON document", false),
        (b"\0\0\0\x18ftypiso5", "the body is an MP4 file or segment, not a playlist", true),
        (b"#EXTM3U8\n", "the body is tags or comments without the first line", false),
    ] {
        let error = Error::from(try_media(body).unwrap_err());
        assert_eq!(error.is_unsupported(), is_unsupported);
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, format!("no #EXTM3U at the start: {expected}"));
    }
}

#[test]
fn limits_are_named_with_their_value() {
    let mut limits = Limits::default();
    limits.max_playlist_bytes = 400;
    limits.max_playlist_segments = 2;
    limits.max_variants = 1;
    let bomb = format!("#EXT-X-DEFINE:NAME=\"a\",VALUE=\"{}\"\n#EXTINF:4,\n{{$a}}{{$a}}{{$a}}\n", "x".repeat(200));
    for (text, expected) in [
        (format!("#EXTM3U\n{}", "#\n".repeat(200)), "more than max_playlist_bytes allows (400)"),
        (
            after_head("#EXTINF:4,\na\n#EXTINF:4,\nb\n#EXTINF:4,\nc\n"),
            "line 8: more than max_playlist_segments allows (2)",
        ),
        (
            "#EXTM3U\n#EXT-X-STREAM-INF:A=1\na\n#EXT-X-STREAM-INF:A=1\nb\n".into(),
            "line 5: more than max_variants allows (1)",
        ),
        ("#EXTM3U\n#EXT-X-MEDIA:A=1\n#EXT-X-MEDIA:A=1\n".into(), "line 3: more than max_variants allows (1)"),
        (after_head(&bomb), "line 5: more than max_playlist_bytes allows (400)"),
    ] {
        let error = parse_with(text.as_bytes(), &limits).expect_err(expected);
        assert_eq!(error.to_string(), expected);
        assert_eq!(Error::from(error).kind(), ErrorKind::Limit);
    }
}

/// 2023-05-17T13:48:35Z, by `date -u +%s`.
fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_684_331_315_000 + millis)
}

#[test]
fn programme_times_are_read_and_carried() {
    let playlist = media(after_head(
        "#EXTINF:2,\na\n#EXTINF:3,\nb\n#EXT-X-PROGRAM-DATE-TIME:2023-05-17T13:48:35.500Z\n#EXTINF:4,\nc\n#EXTINF:4,\nd\n\
         #EXT-X-PROGRAM-DATE-TIME:2023-05-17T15:48:45+0200\n#EXTINF:1.5,\ne\n#EXT-X-PROGRAM-DATE-TIME:nonsense\n#EXTINF:4,\nf\n\
         #EXT-X-PROGRAM-DATE-TIME:2023-05-17t13:49:35\n#EXTINF:4,\ng\n",
    ));
    let times: Vec<_> = playlist.segments.iter().map(|s| (s.program_date_time, s.estimated_start)).collect();
    let expected = [
        (None, Some(at(500) - Duration::from_secs(5))),
        (None, Some(at(500) - Duration::from_secs(3))),
        (Some(at(500)), Some(at(500))),
        (None, Some(at(4_500))),
        (Some(at(10_000)), Some(at(10_000))),
        (None, Some(at(11_500))),
        (Some(at(60_000)), Some(at(60_000))),
    ];
    assert_eq!(times, expected);
    let warnings: Vec<_> = playlist.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "line 15: EXT-X-PROGRAM-DATE-TIME that is not a date",
            "line 18: EXT-X-PROGRAM-DATE-TIME without a zone, taken as UTC"
        ]
    );
    assert!(media(after_head("#EXTINF:4,\na\n")).segments[0].estimated_start.is_none());
}

/// The shape of a Kinesis Video Streams session, tokens replaced.
const KVS: &str = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-INDEPENDENT-SEGMENTS\n\
    #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"getMP4InitFragment.mp4?SessionToken=CiT~&TrackNumber=1&SequenceNumber=0\"\n\
    #EXT-X-PROGRAM-DATE-TIME:2023-05-17T13:48:35.994Z\n#EXTINF:2.663,\n\
    getMP4MediaFragment.mp4?FragmentNumber=91343852333181432392682062607743349713112230400&SessionToken=CiT~&TrackNumber=1\n\
    #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2023-05-17T13:48:38.656Z\n#EXTINF:2.663,\n\
    getMP4MediaFragment.mp4?SessionToken=CiT~&TrackNumber=1&FragmentNumber=91343852333181432392682062607743349713112230401\n";

#[test]
fn kinesis_playlists_are_read() {
    let playlist = media(KVS);
    assert!(playlist.has_independent_segments && !playlist.has_ended && !playlist.is_complete());
    assert_eq!(playlist.target_duration, Duration::from_secs(4));
    assert_eq!(playlist.warnings, []);
    let [first, second] = playlist.segments.as_slice() else { panic!("two segments") };
    assert!(first.is_discontinuity && second.is_discontinuity);
    assert_eq!((first.discontinuity_sequence, second.discontinuity_sequence), (1, 2));
    assert_eq!((first.program_date_time, second.program_date_time), (Some(at(994)), Some(at(3_656))));
    assert!(std::sync::Arc::ptr_eq(first.init.as_ref().unwrap(), second.init.as_ref().unwrap()));
    let (one, two) = (first.fragment_number.as_ref().unwrap(), second.fragment_number.as_ref().unwrap());
    assert!(one < two && one.is_global());
    assert_eq!(one.as_str(), "91343852333181432392682062607743349713112230400");
    assert!(!format!("{playlist:?}").contains("CiT~"));
}

#[test]
fn kinds_of_media_playlist_are_told_apart() {
    for (tags, playlist_type, has_ended, is_complete) in [
        ("", None, false, false),
        ("#EXT-X-ENDLIST\n", None, true, true),
        ("#EXT-X-PLAYLIST-TYPE:VOD\n", Some(PlaylistType::Vod), false, true),
        ("#EXT-X-PLAYLIST-TYPE:EVENT\n", Some(PlaylistType::Event), false, false),
        ("#EXT-X-PLAYLIST-TYPE:LIVE\n", None, false, false),
    ] {
        let playlist = media(after_head(tags));
        assert_eq!(
            (playlist.playlist_type, playlist.has_ended, playlist.is_complete()),
            (playlist_type, has_ended, is_complete)
        );
    }
}

#[test]
fn multivariant_playlists_are_read() {
    let playlist = multivariant(
        "#EXTM3U\n#EXT-X-VERSION:1\n#EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-SESSION-KEY:METHOD=AES-128,URI=\"k\"\n\
         #EXT-X-MEDIA:AUTOSELECT=YES,FORCED=NO,TYPE=AUDIO,URI=\"a.m3u8?SessionToken=t\",GROUP-ID=\"audio\",DEFAULT=NO,NAME=\"audio\"\n\
         #EXT-X-STREAM-INF:CODECS=\"avc1.4d4032,mp4a.40.2\",RESOLUTION=2592x1944,FRAME-RATE=15.02,BANDWIDTH=329640,AUDIO=\"audio\"\n\
         getHLSMediaPlaylist.m3u8?SessionToken=t&TrackNumber=1\n\
         #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i.m3u8\"\n\
         stray.m3u8\n\
         #EXT-X-STREAM-INF:BANDWIDTH=-5,AVERAGE-BANDWIDTH=7,RESOLUTION=0x9\n# comment\n\nb.m3u8\n\
         #EXT-X-STREAM-INF:BANDWIDTH=1\n#EXT-X-STREAM-INF:BANDWIDTH=2\n",
    );
    let [first, second] = playlist.variants.as_slice() else { panic!("two variants") };
    assert_eq!(
        first.url.expose().as_str(),
        "https://host/hls/v1/getHLSMediaPlaylist.m3u8?SessionToken=t&TrackNumber=1"
    );
    assert_eq!((first.bandwidth, first.average_bandwidth), (Some(329_640), None));
    assert_eq!(first.resolution.unwrap().to_string(), "2592x1944");
    assert_eq!(first.frame_rate_millihertz, Some(15_020));
    assert_eq!(first.codec_names().collect::<Vec<_>>(), ["avc1.4d4032", "mp4a.40.2"]);
    assert_eq!((first.audio_group.as_deref(), first.line), (Some("audio"), 6));
    assert_eq!((second.bandwidth, second.average_bandwidth, second.resolution), (None, Some(7), None));
    assert_eq!(second.codec_names().count(), 0);
    let [audio] = playlist.renditions.as_slice() else { panic!("one rendition") };
    assert_eq!((audio.rendition_type, audio.group_id.as_str(), audio.has_uri), (RenditionType::Audio, "audio", true));
    assert!(playlist.has_independent_segments);
    let lines: Vec<_> = playlist.warnings.iter().map(|warning| warning.line).collect();
    assert_eq!(lines, [9, 10, 15, 15]);
    for (text, expected) in [
        ("#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO\n", "multivariant playlist without a variant"),
        (
            "#EXTM3U\n#EXT-X-STREAM-INF:A=1\n#EXTINF:4,\na\n",
            "line 3: EXTINF in a playlist of the other kind (RFC 8216 4.1)",
        ),
        ("#EXTM3U\n#EXT-X-STREAM-INF:A=1\nrtmp://h/a\n", "line 3: URI of scheme rtmp (http and https are supported)"),
    ] {
        assert_eq!(parse_with(text.as_bytes(), &Limits::default()).unwrap_err().to_string(), expected);
    }
}

/// `m3u8-rs` is right on plain playlists; where it is not, the expectations above are worked out by hand.
#[test]
fn an_independent_parser_agrees_on_plain_playlists() {
    let plain =
        ["plain live", "map change and discontinuities", "discontinuity before the first segment, two before one"];
    let texts = CASES.iter().filter(|case| plain.contains(&case.name)).map(|case| case.text).chain([KVS]);
    for text in texts {
        let ours = media(text);
        let m3u8_rs::Playlist::MediaPlaylist(theirs) = m3u8_rs::parse_playlist_res(text.as_bytes()).unwrap() else {
            panic!("not a media playlist")
        };
        assert_eq!(ours.target_duration.as_secs(), theirs.target_duration);
        assert_eq!(ours.media_sequence, theirs.media_sequence);
        assert_eq!(ours.discontinuity_sequence, theirs.discontinuity_sequence);
        assert_eq!(ours.has_ended, theirs.end_list);
        assert_eq!(ours.segments.len(), theirs.segments.len());
        let base = SecretUrl::parse(BASE).unwrap();
        let mut map = None;
        for (ours, theirs) in ours.segments.iter().zip(&theirs.segments) {
            map = theirs.map.as_ref().map(|map| base.join(&map.uri).unwrap()).or(map);
            assert_eq!(ours.url, base.join(&theirs.uri).unwrap());
            assert_eq!(ours.duration.as_millis(), (f64::from(theirs.duration) * 1000.0).round() as u128);
            assert_eq!(ours.is_discontinuity, theirs.discontinuity);
            assert_eq!(ours.init.as_ref().map(|init| &init.url), map.as_ref());
            assert_eq!(ours.program_date_time, theirs.program_date_time.map(SystemTime::from));
        }
    }
}

/// Input on which a parser that looks back or ahead would not come to an end: run, not timed.
#[test]
fn long_playlists_are_read() {
    for lines in [10_000, 20_000, 40_000] {
        let open_quotes = "#EXT-X-DATERANGE:ID=\"a\n".repeat(lines);
        assert!(media(after_head(&open_quotes)).segments.is_empty());
        let stray = after_head(&"stray\n".repeat(lines));
        assert_eq!(media(stray).warnings.len(), 16);
        let defined =
            after_head(&format!("#EXT-X-DEFINE:NAME=\"x\",VALUE=\"\"\n#EXTINF:4,\n{}\n", "{$a".repeat(lines)));
        assert_eq!(media(defined).segments.len(), 1);
        let attributes = after_head(&format!("#EXT-X-MAP:URI=\"i\"{}\n", ",A".repeat(lines)));
        assert_eq!(media(attributes).warnings.len(), 16);
        let ranges = after_head(&format!(
            "#EXT-X-BYTERANGE:1@0\n#EXTINF:4,\nf\n{}",
            "#EXT-X-BYTERANGE:1\n#EXTINF:4,\nf\n".repeat(lines)
        ));
        assert_eq!(media(ranges).segments.last().unwrap().byte_range.unwrap().offset, lines as u64);
    }
    let segment = "#EXT-X-PROGRAM-DATE-TIME:2023-05-17T13:48:35.994Z\n#EXTINF:2.663,\ngetMP4MediaFragment.mp4?FragmentNumber=91343852333181432392682062607743349713112230400&SessionToken=CiT~&TrackNumber=1\n";
    let mut limits = Limits::default();
    limits.max_playlist_bytes = 16 << 20;
    let Playlist::Media(playlist) = parse_with(after_head(&segment.repeat(50_000)).as_bytes(), &limits).unwrap() else {
        panic!("not a media playlist")
    };
    assert_eq!(playlist.segments.last().unwrap().sequence, 49_999);
}

/// Every cut and every changed byte gives a playlist or an error.
#[test]
fn damaged_playlists_are_refused_or_read() {
    let text = KVS.as_bytes();
    for cut in 0..text.len() {
        let _ = parse_with(&text[..cut], &Limits::default());
        for byte in [0, b'\n', b'"', b',', b'=', b'9', b'-', 0xff] {
            let mut changed = text.to_vec();
            changed[cut] = byte;
            if let Ok(Playlist::Media(playlist)) = parse_with(&changed, &Limits::default()) {
                assert!(!playlist.target_duration.is_zero());
                assert!(playlist.segments.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
            }
        }
    }
}
