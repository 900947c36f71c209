//! Metrics as Prometheus reads them (text format 0.0.4): families with their HELP and TYPE, then a line for each sample.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>. Does not know what is measured.

use crate::atomic;
use crate::error::Result;
use std::fmt::{Display, Write};
use std::path::Path;
use std::time::Duration;

/// How old a draft is that a killed process left beside the file.
const LOST: Duration = Duration::from_secs(86_400);

/// What an HTTP server is to call a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics of one name. All are gauges: what is counted up is counted by Prometheus itself.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// The name, in `[a-z_]`.
    pub name: &'static str,
    /// What it says, with its unit, in one line.
    pub help: &'static str,
}

/// A page of metrics that is being put together.
#[derive(Debug)]
pub struct Page {
    families: Vec<(Family, String)>,
}

impl Page {
    /// An empty page, on which these families will stand in this order.
    pub fn new(families: &[Family]) -> Self {
        Self { families: families.iter().map(|family| (*family, String::new())).collect() }
    }

    /// Adds a sample to the family `name`; one that the page does not have is left out, which tests find.
    pub fn add(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let found = self.families.iter_mut().find(|(family, _)| family.name == name);
        debug_assert!(found.is_some(), "there is no family {name}");
        let Some((_, text)) = found else { return };
        text.push_str(name);
        for (i, (label, value)) in labels.iter().enumerate() {
            let _ = write!(text, "{}{label}=\"{}\"", if i == 0 { '{' } else { ',' }, escaped(value));
        }
        let _ = writeln!(text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// The page. Families without a sample are left out.
    pub fn finish(self) -> String {
        let mut page = String::new();
        for (family, text) in self.families.iter().filter(|(_, text)| !text.is_empty()) {
            let _ = write!(page, "# HELP {0} {1}\n# TYPE {0} gauge\n{text}", family.name, family.help);
        }
        page
    }
}

/// Replaces the file in which node_exporter finds a page, and sweeps the folder of what killed processes left there.
///
/// # Errors
/// With the path.
pub fn write(path: &Path, page: &str) -> Result<()> {
    atomic::sweep_drafts(path.parent().unwrap_or(path), LOST);
    // Everybody may read how old backups are, as from node_exporter itself.
    atomic::write(path, page.as_bytes(), 0o644).map_err(|error| error.context("the metrics could not be written"))
}

/// A label's value as it stands between quotes: only `\`, `"` and the end of a line mean something there.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FAMILIES: &[Family] =
        &[Family { name: "a_bytes", help: "One." }, Family { name: "b", help: "Two." }, Family { name: "c", help: "" }];

    #[test]
    fn samples_stand_with_their_family() {
        let mut page = Page::new(FAMILIES);
        page.add("b", &[], -1);
        page.add("a_bytes", &[("path", "/a")], 7);
        page.add("b", &[("x", "1"), ("y", "a\\b\"c\nd")], 2.5);
        let text = "# HELP a_bytes One.\n# TYPE a_bytes gauge\na_bytes{path=\"/a\"} 7\n\
            # HELP b Two.\n# TYPE b gauge\nb -1\nb{x=\"1\",y=\"a\\\\b\\\"c\\nd\"} 2.5\n";
        assert_eq!(page.finish(), text);
    }

    proptest! {
        #[test]
        fn a_value_cannot_end_its_quotes(value in "(\\PC|[\\\\\"\n\r\t{}])*") {
            let mut page = Page::new(FAMILIES);
            page.add("b", &[("path", &value)], 1);
            let text = page.finish();
            let line = text.strip_prefix("# HELP b Two.\n# TYPE b gauge\nb{path=\"").unwrap().strip_suffix("\"} 1\n").unwrap();
            prop_assert!(!line.contains('\n'));
            // As Prometheus reads it.
            let (mut read, mut chars) = (String::new(), line.chars());
            while let Some(c) = chars.next() {
                prop_assert!(c != '"');
                read.push(match c {
                    '\\' => match chars.next() {
                        Some('n') => '\n',
                        Some(c @ ('\\' | '"')) => c,
                        other => return Err(TestCaseError::fail(format!("{other:?}"))),
                    },
                    c => c,
                });
            }
            prop_assert_eq!(read, value);
        }
    }
}
