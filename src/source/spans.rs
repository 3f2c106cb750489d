//! The spans that log lines stand in: camera, session, segment. URLs are in none of them, and so no token is.

use tracing::{Span, debug_span, error_span, info_span};

use crate::hls::Segment;

/// With the level of errors, so that no filter leaves a warning without its camera.
pub(super) fn camera(id: &str) -> Span {
    error_span!("camera", %id)
}

/// The session that is read and the one that may follow it.
#[derive(Debug, Default)]
pub(super) struct Sessions(Vec<(u32, Span)>);

impl Sessions {
    /// The span of this session, a child of the camera's. The next session takes the place of another that failed.
    pub(super) fn get(&mut self, generation: u32) -> Span {
        if let Some((_, span)) = self.0.iter().find(|(known, _)| *known == generation) {
            return span.clone();
        }
        let span = info_span!("session", generation);
        self.0.truncate(1);
        self.0.push((generation, span.clone()));
        span
    }

    /// The session is read from now on: those before it are over.
    pub(super) fn began(&mut self, generation: u32) -> Span {
        self.0.retain(|(known, _)| *known >= generation);
        self.get(generation)
    }
}

/// From the request for a segment to its last picture.
pub(super) fn segment(session: &Span, segment: &Segment) -> Span {
    let number = segment.fragment_number.as_ref().map(tracing::field::display);
    // Not as `parent:`, for a filter may leave the session out.
    session.in_scope(|| debug_span!("segment", sequence = segment.sequence, number))
}
