//! Bar charts as SVG, for files that are read on the web and in editors.
//!
//! What flows in: groups of bars, each bar a stack of parts. What flows out: the SVG. Each group has a scale of its own, for what is compared stands
//! within a group.

use std::fmt::Write;

pub(super) struct Chart {
    pub(super) title: String,
    /// What the parts of each bar are, from the left.
    pub(super) parts: Vec<&'static str>,
    pub(super) groups: Vec<Group>,
}

pub(super) struct Group {
    pub(super) label: String,
    pub(super) bars: Vec<Bar>,
}

pub(super) struct Bar {
    pub(super) label: &'static str,
    pub(super) parts: Vec<f64>,
    /// Written after the bar.
    pub(super) text: String,
    /// Whether it is the one that is looked for.
    pub(super) ours: bool,
}

const WIDTH: f64 = 860.0;
const LABEL: f64 = 150.0;
const NAME: f64 = 80.0;
/// The longest bar.
const LONGEST: f64 = 440.0;
const BAR: f64 = 16.0;
const GAP: f64 = 12.0;
const TOP: f64 = 64.0;
/// Of the parts of a bar: ours, and others'.
const OURS: &[&str] = &["#0b5cad", "#7fb2e5"];
const OTHERS: &[&str] = &["#6b7280", "#c4c9d1"];

/// Draws it.
pub(super) fn svg(chart: &Chart) -> String {
    let rows: usize = chart.groups.iter().map(|group| group.bars.len()).sum();
    let height = TOP + rows as f64 * BAR + chart.groups.len() as f64 * GAP;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#111827\">\n<rect width=\"{WIDTH}\" height=\"{height}\" \
         fill=\"#ffffff\"/>\n"
    );
    words(&mut text, 12.0, 24.0, "font-size=\"15\" font-weight=\"bold\"", &chart.title);
    for (number, part) in chart.parts.iter().enumerate() {
        let left = LABEL + NAME + number as f64 * 140.0;
        rectangle(&mut text, left, 38.0, 12.0, colour(OTHERS, number));
        rectangle(&mut text, left + 12.0, 38.0, 12.0, colour(OURS, number));
        words(&mut text, left + 30.0, 48.0, "", part);
    }
    let mut top = TOP;
    for group in &chart.groups {
        draw(&mut text, group, top);
        top += group.bars.len() as f64 * BAR + GAP;
    }
    text + "</svg>\n"
}

fn draw(text: &mut String, group: &Group, mut top: f64) {
    let length = |bar: &Bar| bar.parts.iter().sum::<f64>();
    let longest = group.bars.iter().map(length).filter(|length| length.is_finite()).fold(0.0, f64::max);
    words(text, 12.0, top + 12.0, "font-weight=\"bold\"", &group.label);
    for bar in &group.bars {
        words(text, LABEL, top + 12.0, if bar.ours { "font-weight=\"bold\"" } else { "" }, bar.label);
        let mut left = LABEL + NAME;
        for (number, part) in bar.parts.iter().enumerate() {
            let width = part / longest * LONGEST;
            if width.is_finite() && width > 0.0 {
                rectangle(text, left, top + 2.0, width, colour(if bar.ours { OURS } else { OTHERS }, number));
                left += width;
            }
        }
        words(text, left + 6.0, top + 12.0, "", &bar.text);
        top += BAR;
    }
}

fn colour(of: &[&'static str], number: usize) -> &'static str {
    of.get(number % of.len()).copied().unwrap_or("#000000")
}

fn rectangle(text: &mut String, left: f64, top: f64, width: f64, colour: &str) {
    // Writing to a String cannot fail.
    let _ =
        writeln!(text, "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"12\" fill=\"{colour}\"/>");
}

fn words(text: &mut String, left: f64, bottom: f64, style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(text, "<text x=\"{left:.1}\" y=\"{bottom:.1}\" {style}>{words}</text>");
}

#[cfg(test)]
mod tests {
    use super::{Bar, Chart, Group, LONGEST, svg};

    #[test]
    fn the_longest_bar_of_each_group_has_the_full_length() {
        let bar = |label, parts: &[f64]| Bar { label, parts: parts.to_vec(), text: "a < b".to_owned(), ours: false };
        let group = |bars| Group { label: "group".to_owned(), bars };
        let text = svg(&Chart {
            title: "title".to_owned(),
            parts: vec!["user", "system"],
            groups: vec![
                group(vec![bar("one", &[10.0, 30.0]), bar("two", &[5.0, f64::NAN])]),
                group(vec![bar("x", &[1.0])]),
            ],
        });
        for width in [LONGEST / 4.0, LONGEST * 3.0 / 4.0, LONGEST / 8.0, LONGEST] {
            assert!(text.contains(&format!("width=\"{width:.1}\"")), "{width} is not in\n{text}");
        }
        assert!(text.contains("a &lt; b") && !text.contains("NaN"));
    }
}
