//! Fragmented MP4 (ISO 14496-12).
