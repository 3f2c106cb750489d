//! The README's recovery table, row by row.

use kvs_hls::{Error, ErrorKind, Recovery, Stage};

fn answered(stage: Stage, status: u16) -> Error {
    Error::new(ErrorKind::Network, "answer").with_status(status).at(stage)
}

fn session(status: u16, code: &str, text: &str) -> Error {
    Error::new(ErrorKind::Session, text).with_status(status).with_code(code).at(Stage::OpenSession)
}

#[test]
fn every_row_of_the_readme_holds() {
    use Recovery::{Fatal, RefreshSession, ResetDecoder, Retry, SkipSegment};
    let fault = |stage| Error::new(ErrorKind::Network, "reset").at(stage);
    let of = |kind, stage| Error::new(kind, "defect").at(stage);
    let loads = [Stage::Playlist, Stage::Init, Stage::Segment];
    let mut rows: Vec<(&str, Vec<Error>, Recovery)> = vec![
        (
            "| open session | 404 \"No fragments found\" | the camera is silent: it is waited for |",
            vec![session(
                404,
                "ResourceNotFoundException",
                "No fragments found in the stream for the streaming request.",
            )],
            Retry,
        ),
        (
            "| open session | 400 ClientLimitExceeded, 408, 410, 429, 5xx, I/O | retry with backoff |",
            vec![
                session(400, "ClientLimitExceededException", "slow down"),
                session(408, "RequestTimeout", "late"),
                session(410, "", "gone"),
                session(429, "TooManyRequests", "slow down"),
                session(503, "ServiceUnavailable", "later"),
                fault(Stage::OpenSession),
                Error::new(ErrorKind::Session, "timeout").timed_out().at(Stage::OpenSession),
            ],
            Retry,
        ),
        (
            "| open session | stream unknown, no credentials, 401, 403 (after one refresh of the credentials), any other 400 | fatal |",
            vec![
                session(404, "ResourceNotFoundException", "The requested stream is not found or not active."),
                session(401, "NotAuthorizedException", "no"),
                session(403, "AccessDeniedException", "no"),
                session(400, "InvalidArgumentException", "no"),
                session(400, "NoDataRetentionException", "no"),
                Error::new(ErrorKind::Session, "no").with_code("CredentialsNotLoaded").at(Stage::OpenSession),
            ],
            Fatal,
        ),
        (
            "| playlist, init, segment | 401, 403 | refresh the session |",
            loads.iter().flat_map(|&stage| [answered(stage, 401), answered(stage, 403)]).collect(),
            RefreshSession,
        ),
        (
            "| playlist | 404, 410 | refresh the session |",
            vec![answered(Stage::Playlist, 404), answered(Stage::Playlist, 410)],
            RefreshSession,
        ),
        (
            "| init, segment | 404, 410, 416, too large, damaged container or bitstream | skip the segment, resume at an IDR |",
            [Stage::Init, Stage::Segment]
                .into_iter()
                .flat_map(|stage| {
                    let statuses = [404, 410, 416].map(|status| answered(stage, status));
                    let defects =
                        [ErrorKind::Limit, ErrorKind::Container, ErrorKind::Bitstream].map(|kind| of(kind, stage));
                    statuses.into_iter().chain(defects)
                })
                .collect(),
            SkipSegment,
        ),
        (
            "| playlist, init, segment | timeout, 400, 408, 429, 5xx, broken connection, damaged playlist | retry four times, then with backoff; a segment that fails while all else works is skipped |",
            loads
                .iter()
                .flat_map(|&stage| {
                    [400, 408, 429, 500, 503].map(|status| answered(stage, status)).into_iter().chain([
                        fault(stage),
                        Error::new(ErrorKind::Network, "late").timed_out().at(stage),
                        of(ErrorKind::Playlist, Stage::Playlist),
                    ])
                })
                .collect(),
            Retry,
        ),
        (
            "| decoder | error on an access unit; with `isolate`, a process that crashed or does not answer for 10 s | reset the decoder, resume at an IDR |",
            vec![of(ErrorKind::Decoder, Stage::Decode), of(ErrorKind::Bitstream, Stage::Decode)],
            ResetDecoder,
        ),
    ];
    let unsupported = [ErrorKind::Playlist, ErrorKind::Container, ErrorKind::Bitstream, ErrorKind::Limit];
    rows.push((
        "| any | unsupported: HEVC, encryption, MPEG-TS, interlaced, 10 bit, picture too large | fatal; in segments, after the first frame, as damage |",
        unsupported.into_iter().flat_map(|kind| loads.map(|stage| of(kind, stage).unsupported())).collect(),
        Fatal,
    ));
    let readme = include_str!("../README.md");
    let crate_docs = include_str!("../src/lib.rs");
    // These are behaviour over time: src/source/machine/tests.rs walks them, and tests/reconnect.rs over sockets.
    let over_time = [
        "| open session, while the present one still works | anything | retry with backoff; the present one is read on |",
        "| playlist | unchanged for 3.5 target durations | refresh the session; the camera is waited for |",
        "| any | `max_consecutive_errors` in a row without a frame | fatal |",
    ];
    let table = readme.lines().skip_while(|line| !line.starts_with("| stage | sign | recovery |")).skip(2);
    for row in table.take_while(|line| line.starts_with('|')) {
        let is_walked = over_time.contains(&row) || rows.iter().any(|(walked, ..)| *walked == row);
        assert!(is_walked, "no test walks the README's row\n{row}");
        assert!(crate_docs.contains(&format!("//! {row}\n")), "src/lib.rs lacks the README's row\n{row}");
    }
    for (row, errors, recovery) in rows {
        assert!(readme.contains(row), "the README lacks the row\n{row}");
        for error in errors {
            assert_eq!(error.recovery(), recovery, "{error} {error:?}");
        }
    }
    assert_eq!(Error::new(ErrorKind::Config, "x").recovery(), Fatal);
    assert_eq!(Error::new(ErrorKind::Stopped, "x").recovery(), Fatal);
}

#[test]
fn an_error_is_one_word_in_size_and_crosses_threads() {
    fn crosses_threads<T: Send + Sync + 'static>() {}
    crosses_threads::<Error>();
    assert_eq!(size_of::<Error>(), size_of::<usize>());
}
