//! Attribute lists, RFC 8216 §4.2.

use super::Defect;

/// What stands between two commas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute<'a> {
    /// `NAME=value` or `NAME="value"`, without the quotes.
    Pair(&'a str, &'a str),
    /// Text that is no attribute: a name without a value, or what follows a closing quote.
    Stray,
}

/// The attributes of one line, in their order. It allocates nothing and looks at each byte once.
pub(super) struct Attributes<'a> {
    tag: &'static str,
    rest: &'a str,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(tag: &'static str, list: &'a str) -> Self {
        Self { tag, rest: list }
    }

    /// Cuts off what precedes the next comma.
    fn until_comma(&mut self) -> &'a str {
        let (head, rest) = self.rest.split_once(',').unwrap_or((self.rest, ""));
        self.rest = rest;
        head.trim()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Defect>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest = self.rest.trim_start_matches([',', ' ', '\t']);
        if self.rest.is_empty() {
            return None;
        }
        let name_end = self.rest.find(['=', ',', '"']).unwrap_or(self.rest.len());
        let (name, after) = self.rest.split_at_checked(name_end)?;
        let Some(after) = after.strip_prefix('=') else {
            self.until_comma();
            return Some(Ok(Attribute::Stray));
        };
        let name = name.trim();
        self.rest = after.trim_start_matches([' ', '\t']);
        let Some(quoted) = self.rest.strip_prefix('"') else {
            return Some(Ok(Attribute::Pair(name, self.until_comma())));
        };
        let Some((value, rest)) = quoted.split_once('"') else {
            self.rest = "";
            return Some(Err(Defect::UnterminatedQuote { tag: self.tag }));
        };
        self.rest = rest;
        Some(Ok(Attribute::Pair(name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Attribute::{Pair, Stray};

    #[test]
    fn lists_are_read_as_lists() {
        let cases: [(&str, &[Attribute<'_>]); 9] = [
            ("A=1,B=\"x,y=z\",C=1x2", &[Pair("A", "1"), Pair("B", "x,y=z"), Pair("C", "1x2")]),
            (" A = 1 , B = \"x\" ", &[Pair("A", "1"), Pair("B", "x")]),
            ("URI=\"i\",FOO", &[Pair("URI", "i"), Stray]),
            ("FOO,URI=\"i\"", &[Stray, Pair("URI", "i")]),
            ("URI=\"i\"junk,B=2", &[Pair("URI", "i"), Stray, Pair("B", "2")]),
            ("URI=\"a=b&c=d\"", &[Pair("URI", "a=b&c=d")]),
            ("A=,B=\"\"", &[Pair("A", ""), Pair("B", "")]),
            (",,A=1,,", &[Pair("A", "1")]),
            ("", &[]),
        ];
        for (list, expected) in cases {
            let read = Attributes::new("EXT-X-MAP", list).collect::<Result<Vec<_>, _>>();
            assert_eq!(read.as_deref(), Ok(expected), "{list}");
        }
    }

    #[test]
    fn a_quoted_string_ends_on_its_line() {
        let mut attributes = Attributes::new("EXT-X-MAP", "URI=\"a,B=1");
        assert_eq!(attributes.next(), Some(Err(Defect::UnterminatedQuote { tag: "EXT-X-MAP" })));
        assert_eq!(attributes.next(), None);
    }
}
