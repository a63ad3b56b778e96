//! Metrics as text that Prometheus reads, in both of its formats.
//!
//! Families are contiguous, each announced once; counters end in `_total`, which OpenMetrics leaves
//! out of their names. Source: the exposition formats 0.0.4 and OpenMetrics 1.0.

use std::fmt::Write as _;

use crate::json::number;

/// What a scraper can read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    Plain,
    OpenMetrics,
}

impl Format {
    /// The one that an `Accept` header asks for.
    #[must_use]
    pub fn wanted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Plain
        }
    }

    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A page of metrics in the making.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    text: String,
    /// The family that was announced last, with the ending of its samples.
    name: String,
}

/// A label and its value.
pub type Label<'a> = (&'a str, &'a str);

impl Exposition {
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, text: String::with_capacity(16 * 1024), name: String::new() }
    }

    /// Begins a family of gauges.
    pub fn gauge(&mut self, name: &str, help: &str) {
        self.announce(name, name, "gauge", help);
    }

    /// Begins a family of counters; `name` without `_total`.
    pub fn counter(&mut self, name: &str, help: &str) {
        let whole = format!("{name}_total");
        match self.format {
            Format::Plain => self.announce(&whole, &whole, "counter", help),
            Format::OpenMetrics => self.announce(name, &whole, "counter", help),
        }
    }

    fn announce(&mut self, family: &str, samples: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP {family} {help}\n# TYPE {family} {kind}\n");
        self.name.clear();
        self.name.push_str(samples);
    }

    /// One value of the present family. What is not finite is left out.
    pub fn value(&mut self, labels: &[&[Label<'_>]], value: f64) {
        let name = std::mem::take(&mut self.name);
        self.sample(&name, labels, value);
        self.name = name;
    }

    /// A histogram: for each bound how many were not above it, then all and their sum.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        buckets: &[(&str, u64)],
        count: u64,
        sum: f64,
    ) {
        self.announce(name, name, "histogram", help);
        #[allow(clippy::cast_precision_loss)]
        let as_value = |count: u64| count as f64;
        let bucket = format!("{name}_bucket");
        for (bound, below) in buckets {
            self.sample(&bucket, &[&[("le", bound)]], as_value(*below));
        }
        self.sample(&bucket, &[&[("le", "+Inf")]], as_value(count));
        self.sample(&format!("{name}_sum"), &[], sum);
        self.sample(&format!("{name}_count"), &[], as_value(count));
    }

    fn sample(&mut self, name: &str, labels: &[&[Label<'_>]], value: f64) {
        if !value.is_finite() {
            return;
        }
        self.text.push_str(name);
        for (at, (label, value)) in labels.iter().copied().flatten().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            for letter in value.chars() {
                match letter {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    letter => self.text.push(letter),
                }
            }
            self.text.push('"');
        }
        if labels.iter().any(|labels| !labels.is_empty()) {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {}", number(value));
    }

    /// The whole page.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(format: Format) -> String {
        let mut page = Exposition::new(format);
        page.gauge("up", "Whether it is up.");
        page.value(&[&[("name", "a\"b\\c\nd")], &[("id", "0")]], 1.0);
        page.value(&[], f64::NAN);
        page.counter("restarts", "How often.");
        page.value(&[&[]], 3.0);
        page.histogram("turn", "How long.", &[("0.1", 2)], 3, 0.5);
        page.finish()
    }

    #[test]
    fn counters_are_named_as_each_format_wants() {
        assert_eq!(
            page(Format::Plain),
            "# HELP up Whether it is up.\n# TYPE up gauge\n\
             up{name=\"a\\\"b\\\\c\\nd\",id=\"0\"} 1\n\
             # HELP restarts_total How often.\n# TYPE restarts_total counter\nrestarts_total 3\n\
             # HELP turn How long.\n# TYPE turn histogram\n\
             turn_bucket{le=\"0.1\"} 2\nturn_bucket{le=\"+Inf\"} 3\nturn_sum 0.5\nturn_count 3\n"
        );
        let open = page(Format::OpenMetrics);
        assert!(open.contains("# TYPE restarts counter\nrestarts_total 3\n"), "{open}");
        assert!(open.ends_with("turn_count 3\n# EOF\n"), "{open}");
    }

    #[test]
    fn a_scraper_gets_what_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1";
        assert_eq!(Format::wanted(prometheus), Format::OpenMetrics);
        assert_eq!(Format::wanted("*/*"), Format::Plain);
    }
}
