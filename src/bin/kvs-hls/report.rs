//! Facts in sections, as aligned text and as JSON.

use serde_json::{Map, Value};

use crate::display::Style;

#[derive(Debug, Default)]
pub struct Report {
    sections: Vec<Section>,
}

#[derive(Debug)]
pub struct Section {
    name: &'static str,
    facts: Vec<Fact>,
}

#[derive(Debug)]
struct Fact {
    name: &'static str,
    value: Value,
    /// What people read; nothing when the fact is for programs only.
    lines: Vec<String>,
}

impl Report {
    /// Starts a section; facts go to it from now on.
    pub fn section(&mut self, name: &'static str) -> &mut Section {
        self.sections.push(Section { name, facts: Vec::new() });
        let last = self.sections.len() - 1;
        &mut self.sections[last]
    }

    pub fn text(&self, style: Style) -> String {
        let widest = self.facts().map(|fact| fact.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for section in &self.sections {
            if !text.is_empty() {
                text.push('\n');
            }
            text += &format!("{}\n", style.bold(section.name.replace('_', " ")));
            for fact in &section.facts {
                let mut label = fact.name.replace('_', " ");
                for line in &fact.lines {
                    text += &format!("  {}  {line}\n", style.dim(format!("{label:<widest$}")));
                    label.clear();
                }
            }
        }
        text
    }

    pub fn json(&self) -> Value {
        let mut json = Map::new();
        for section in &self.sections {
            let facts = section.facts.iter().map(|fact| (fact.name.to_owned(), fact.value.clone())).collect();
            json.insert(section.name.to_owned(), Value::Object(facts));
        }
        Value::Object(json)
    }

    fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.sections.iter().flat_map(|section| &section.facts).filter(|fact| !fact.lines.is_empty())
    }
}

impl Section {
    /// A fact, as a program and as people want it.
    pub fn fact(&mut self, name: &'static str, value: impl Into<Value>, text: impl Into<String>) -> &mut Self {
        self.facts.push(Fact { name, value: value.into(), lines: vec![text.into()] });
        self
    }

    /// A fact that reads the same for both.
    pub fn word(&mut self, name: &'static str, text: impl Into<String>) -> &mut Self {
        let text = text.into();
        self.fact(name, text.clone(), text)
    }

    /// A fact of several lines.
    pub fn list(&mut self, name: &'static str, values: Vec<Value>, lines: Vec<String>) -> &mut Self {
        self.facts.push(Fact { name, value: values.into(), lines });
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_report_has_two_faces() {
        let mut report = Report::default();
        report.section("playlist").word("kind", "media").fact("target_duration", 2.0, "2 s");
        report.section("video").list("tracks", vec![json!(1), json!(2)], vec!["one".into(), "two".into()]);
        let text = report.text(Style::plain());
        assert_eq!(
            text,
            "playlist\n  kind             media\n  target duration  2 s\n\nvideo\n  tracks           one\n                   two\n"
        );
        assert_eq!(
            report.json(),
            json!({"playlist": {"kind": "media", "target_duration": 2.0}, "video": {"tracks": [1, 2]}})
        );
    }
}
