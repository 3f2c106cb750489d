//! What both kinds of playlist need while they are read: the base URL, the limits, variables, the present line.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::attributes::{Attribute, Attributes};
use super::playlist::Warning;
use super::{Defect, ParseError, Word};
use crate::limits::Limits;
use crate::secret::SecretUrl;

/// Warnings kept of one playlist: enough to see what is wrong, whatever the server sends.
const MAX_WARNINGS: usize = 16;

const HTTP_SCHEMES: [&str; 2] = ["http", "https"];

pub(super) struct Context<'a> {
    base: &'a SecretUrl,
    pub(super) limits: &'a Limits,
    /// The present line, from 1.
    pub(super) line: usize,
    warnings: Vec<Warning>,
    variables: BTreeMap<String, String>,
    /// Bytes that variables have added so far. A short playlist could grow without end by references to a long one.
    expanded_bytes: usize,
}

impl<'a> Context<'a> {
    pub(super) fn new(base: &'a SecretUrl, limits: &'a Limits) -> Self {
        Self { base, limits, line: 0, warnings: Vec::new(), variables: BTreeMap::new(), expanded_bytes: 0 }
    }

    pub(super) fn warn(&mut self, text: &'static str) {
        self.warn_at(self.line, text);
    }

    pub(super) fn warn_at(&mut self, line: usize, text: &'static str) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(Warning { line, text });
        }
    }

    pub(super) fn into_warnings(self) -> Vec<Warning> {
        self.warnings
    }

    pub(super) fn fail(&self, defect: Defect) -> ParseError {
        ParseError::at(defect, self.line)
    }

    /// Hands each attribute of a tag to `take`.
    pub(super) fn attributes<'t>(
        &mut self,
        tag: &'static str,
        list: &'t str,
        mut take: impl FnMut(&'t str, &'t str),
    ) -> Result<(), ParseError> {
        for attribute in Attributes::new(tag, list) {
            match attribute.map_err(|defect| self.fail(defect))? {
                Attribute::Pair(name, value) => take(name, value),
                Attribute::Stray => self.warn("attribute without a value"),
            }
        }
        Ok(())
    }

    /// `EXT-X-DEFINE` (RFC 8216bis §4.4.2.3).
    pub(super) fn define(&mut self, list: &str) -> Result<(), ParseError> {
        const TAG: &str = "EXT-X-DEFINE";
        let (mut name, mut value, mut parameter, mut is_import) = (None, None, None, false);
        self.attributes(TAG, list, |key, text| match key {
            "NAME" => name = Some(text),
            "VALUE" => value = Some(text),
            "QUERYPARAM" => parameter = Some(text),
            "IMPORT" => is_import = true,
            _ => {}
        })?;
        // The multivariant playlist that defines it is not at hand here.
        if is_import {
            return Err(self.fail(Defect::ImportedVariable));
        }
        let (name, value) = match (name, parameter) {
            (Some(name), _) => {
                let value = value.ok_or_else(|| self.fail(Defect::MissingAttribute { tag: TAG, name: "VALUE" }))?;
                (name, self.substitute(value)?.into_owned())
            }
            (None, Some(parameter)) => {
                let value = self.base.query_value(parameter).ok_or_else(|| {
                    self.fail(Defect::Value { tag: TAG, expected: "its QUERYPARAM in the URL of the playlist" })
                })?;
                (parameter, value)
            }
            (None, None) => return Err(self.fail(Defect::MissingAttribute { tag: TAG, name: "NAME" })),
        };
        self.count_expansion(name.len().saturating_add(value.len()))?;
        self.variables.insert(name.to_owned(), value);
        Ok(())
    }

    /// Replaces `{$NAME}` (RFC 8216bis §4.3). Without any definition the text stands for itself, as before version 8.
    pub(super) fn substitute<'t>(&mut self, text: &'t str) -> Result<Cow<'t, str>, ParseError> {
        if self.variables.is_empty() || !text.contains("{$") {
            return Ok(Cow::Borrowed(text));
        }
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{$") {
            result.push_str(before);
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            let name_end = after.find(|c| !is_name(c)).unwrap_or(after.len());
            let (name, tail) = after.split_at_checked(name_end).unwrap_or((after, ""));
            let Some(tail) = tail.strip_prefix('}') else {
                result.push_str("{$");
                rest = after;
                continue;
            };
            let value = self.variables.get(name).ok_or_else(|| self.fail(Defect::UndefinedVariable))?;
            let value_bytes = value.len();
            result.push_str(value);
            self.count_expansion(value_bytes)?;
            rest = tail;
        }
        result.push_str(rest);
        Ok(Cow::Owned(result))
    }

    fn count_expansion(&mut self, bytes: usize) -> Result<(), ParseError> {
        self.expanded_bytes = self.expanded_bytes.saturating_add(bytes);
        let limit = self.limits.max_playlist_bytes;
        if self.expanded_bytes > limit {
            return Err(self.fail(Defect::Limit { name: "max_playlist_bytes", limit }));
        }
        Ok(())
    }

    /// The absolute URL of a URI line or a `URI` attribute.
    pub(super) fn resolve(&mut self, uri: &str) -> Result<SecretUrl, ParseError> {
        let uri = self.substitute(uri)?;
        let url = self.base.join(&uri).map_err(|reason| self.fail(Defect::Url(reason)))?;
        let scheme = url.expose().scheme();
        if !HTTP_SCHEMES.contains(&scheme) {
            return Err(self.fail(Defect::Scheme(Word::new(scheme))));
        }
        Ok(url)
    }
}
