//! The text of a scrape.
//!
//! In flow readings of series. Out flows OpenMetrics 1.0 (<https://prometheus.io/docs/specs/om/open_metrics_spec/>) or the
//! Prometheus text format 0.0.4. Both show the same samples; the second has no units, no `# EOF`, and other family names.

use std::fmt::Write;

use super::family::Reading;
use super::registry::{Kind, base_name};

/// Which text a scraper gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Prometheus,
}

impl Format {
    /// By the Accept header (RFC 9110, section 12.5.1): OpenMetrics, unless `text/plain` is named and preferred.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let Some(accept) = accept else { return Self::OpenMetrics };
        let quality = |wanted: &str| accept.split(',').filter_map(|range| quality_of(range, wanted)).max();
        match (quality("application/openmetrics-text"), quality("text/plain")) {
            (Some(open), Some(plain)) if plain > open => Self::Prometheus,
            (None, Some(plain)) if plain > 0 => Self::Prometheus,
            _ => Self::OpenMetrics,
        }
    }

    /// The Content-Type of this text.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The weight of one media range in thousandths, if it is for `wanted`.
fn quality_of(range: &str, wanted: &str) -> Option<u16> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(wanted) {
        return None;
    }
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let Some(weight) = weight else { return Some(1000) };
    let weight: f32 = weight.parse().unwrap_or(0.0);
    Some((weight.clamp(0.0, 1.0) * 1000.0) as u16)
}

/// The lines that open a family.
pub(super) fn head(out: &mut String, format: Format, name: &str, kind: Kind, help: &str) {
    let base = base_name(name, kind);
    let word = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
        Kind::Info => "info",
    };
    match format {
        Format::OpenMetrics => {
            line(out, format_args!("# TYPE {base} {word}"));
            if let Some(unit) = unit(base) {
                line(out, format_args!("# UNIT {base} {unit}"));
            }
            line(out, format_args!("# HELP {base} {help}"));
        }
        Format::Prometheus => {
            let word = if kind == Kind::Info { "gauge" } else { word };
            line(out, format_args!("# HELP {name} {help}"));
            line(out, format_args!("# TYPE {name} {word}"));
        }
    }
}

/// All samples of one series.
pub(super) fn series(out: &mut String, name: &str, labels: &str, reading: &Reading) {
    match reading {
        Reading::Count(value) => sample(out, name, "", labels, value),
        Reading::Level(value) => sample(out, name, "", labels, value),
        Reading::Distribution(buckets, sum) => {
            let comma = if labels.is_empty() { "" } else { "," };
            for (bound, count) in buckets {
                sample(out, name, "_bucket", &format!("{labels}{comma}le=\"{}\"", Number(*bound)), count);
            }
            sample(out, name, "_count", labels, buckets.last().map_or(0, |(_, count)| *count));
            sample(out, name, "_sum", labels, Number(*sum));
        }
    }
}

/// One sample; `labels` is written text.
pub(super) fn sample(out: &mut String, name: &str, suffix: &str, labels: &str, value: impl Show) {
    let value = value.show();
    match labels {
        "" => line(out, format_args!("{name}{suffix} {value}")),
        _ => line(out, format_args!("{name}{suffix}{{{labels}}} {value}")),
    }
}

/// What ends the text.
pub(super) fn end(out: &mut String, format: Format) {
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
}

/// The unit that a name ends in, as OpenMetrics demands.
fn unit(base: &str) -> Option<&'static str> {
    ["seconds", "bytes", "ratio"].into_iter().find(|unit| base.ends_with(&format!("_{unit}")))
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// A value of a sample.
pub(super) trait Show {
    fn show(self) -> String;
}

impl Show for &u64 {
    fn show(self) -> String {
        self.to_string()
    }
}

impl Show for u64 {
    fn show(self) -> String {
        self.to_string()
    }
}

impl Show for &i64 {
    fn show(self) -> String {
        self.to_string()
    }
}

impl Show for f64 {
    fn show(self) -> String {
        Number(self).to_string()
    }
}

impl Show for Number {
    fn show(self) -> String {
        self.to_string()
    }
}

/// A real number in the canonical form: `0.0005`, `1.0`, `+Inf`.
pub(super) struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiation_table() {
        use Format::{OpenMetrics, Prometheus};
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let cases = [
            (None, OpenMetrics),
            (Some(""), OpenMetrics),
            (Some("*/*"), OpenMetrics),
            (Some("text/html"), OpenMetrics),
            (Some(prometheus_3), OpenMetrics),
            (Some("text/plain"), Prometheus),
            (Some("text/plain;version=0.0.4;q=1,*/*;q=0.1"), Prometheus),
            (Some("application/openmetrics-text;q=0.3, TEXT/PLAIN; q=0.5"), Prometheus),
            (Some("application/openmetrics-text, text/plain"), OpenMetrics),
            (Some("application/openmetrics-text;q=0, text/plain;q=0"), OpenMetrics),
            (Some("text/plain;q=x"), OpenMetrics),
        ];
        for (accept, expected) in cases {
            assert_eq!(Format::negotiate(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn numbers_are_canonical() {
        for (number, text) in [
            (0.0005, "0.0005"),
            (1.0, "1.0"),
            (60.0, "60.0"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(Number(number).to_string(), text);
        }
    }
}
