//! The results as pictures: a panel for each scenario, a bar for each server, a line for the yardstick.

use crate::Result;
use crate::samples::Samples;
use crate::statistics::{median, middle_half, ratio};
use crate::suites::{self, Suite};
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

/// A bar of multiples ends here, so that short bars differ visibly. A longer one is drawn with a break.
const MOST: f64 = 2.0;

/// The yardstick with another setting: only the tables have it.
const LEFT_OUT: &str = "epoll-64";

pub struct Picture {
    pub file: &'static str,
    pub title: &'static str,
    /// Replaces the note about rounds.
    pub note: Option<&'static str>,
    pub panels: Vec<Panel>,
}

pub struct Panel {
    pub title: String,
    pub yardstick: Option<(&'static str, f64)>,
    /// The value of the longest bar.
    pub most: f64,
    pub digits: usize,
    pub rows: Vec<Row>,
}

pub struct Row {
    pub name: &'static str,
    /// `None` if it was not measured.
    pub value: Option<f64>,
    pub middle_half: Option<(f64, f64)>,
    pub is_troubled: bool,
}

impl Row {
    /// A bar with only a value.
    pub fn new(name: &'static str, value: Option<f64>) -> Row {
        Row {
            name,
            value,
            middle_half: None,
            is_troubled: false,
        }
    }
}

/// Writes the pictures into a folder, and returns the lines of Markdown that show them.
pub fn draw(results: &Value, folder: &Path) -> Result<String> {
    let mut links = String::new();
    for picture in pictures(&Samples::of(results)) {
        links += &picture.put(folder)?;
    }
    Ok(links)
}

/// The pictures of everything that was measured.
fn pictures(samples: &Samples<'_>) -> Vec<Picture> {
    let [echo, relay, kv, http] = &suites::ALL;
    let servers = [kv, http].into_iter();
    let pictures = [
        (
            "cpu.svg",
            "Echo: CPU per message; shorter is better",
            multiples(samples, echo, "/cpu_ns"),
        ),
        (
            "rate.svg",
            "Echo: messages a second; longer is better",
            multiples(samples, echo, "/rate"),
        ),
        (
            "latency.svg",
            "Echo: 99th percentile of the latency; shorter is better",
            multiples(samples, echo, "/latency_ns/p99"),
        ),
        (
            "pressure.svg",
            "Idle connections; pings beside 4 flooders; pings beside 8 clients that never read",
            pressure(samples, echo),
        ),
        (
            "relay.svg",
            "Relay: CPU per message; shorter is better",
            multiples(samples, relay, "/cpu_ns"),
        ),
        (
            "servers.svg",
            "Key-value server and HTTP: CPU per request; shorter is better",
            servers
                .flat_map(|suite| multiples(samples, suite, "/cpu_ns"))
                .collect(),
        ),
    ];
    let pictures = pictures.into_iter().map(|(file, title, panels)| Picture {
        file,
        title,
        note: None,
        panels,
    });
    pictures
        .filter(|picture| !picture.panels.is_empty())
        .collect()
}

/// A panel for each busy scenario of a suite, its rows in the order of the values.
fn multiples(samples: &Samples<'_>, suite: &'static Suite, pointer: &str) -> Vec<Panel> {
    let mut panels = Vec::new();
    for scenario in samples.scenarios(suite) {
        if ["idle", "50 pingers", "flood", "mute"].contains(&scenario) {
            continue;
        }
        let row = |name| {
            let rounds = samples.multiples(suite, scenario, name, pointer);
            Row {
                name,
                value: median(&rounds),
                middle_half: middle_half(&rounds),
                is_troubled: !samples.troubles(scenario, name).is_empty(),
            }
        };
        let others = samples
            .servers(suite)
            .into_iter()
            .filter(|name| ![suite.yardstick, LEFT_OUT].contains(name));
        let mut rows: Vec<Row> = others.map(row).collect();
        sort(&mut rows, pointer == "/rate");
        panels.push(Panel {
            title: scenario.to_string(),
            yardstick: Some((suite.yardstick, 1.0)),
            most: MOST,
            digits: 2,
            rows,
        });
    }
    panels
}

/// The best first; a value that is missing last.
fn sort(rows: &mut [Row], more_is_better: bool) {
    rows.sort_by(|a, b| {
        let order = |row: &Row| {
            row.value.map_or(
                f64::INFINITY,
                |value| if more_is_better { -value } else { value },
            )
        };
        order(a).total_cmp(&order(b))
    });
}

/// The scenarios that are not about messages a second, in their units.
fn pressure(samples: &Samples<'_>, suite: &'static Suite) -> Vec<Panel> {
    let kept = |name: &str| {
        let rate = |scenario| samples.values(scenario, name, "/rate");
        median(&ratio(&rate("mute"), &rate("50 pingers")))
    };
    let idle = |name: &str| samples.median("idle", name, "/bytes_per_connection");
    let flood = |name: &str| {
        samples
            .median("flood", name, "/latency_ns/p99")
            .map(|value| value / 1e6)
    };
    type Figure<'a> = &'a dyn Fn(&str) -> Option<f64>;
    let panels: [(&str, &str, Figure<'_>, f64, usize); 3] = [
        (
            "idle",
            "Bytes a connection: less is better",
            &idle,
            1500.0,
            0,
        ),
        ("flood", "Ping p99, ms: less is better", &flood, 2.0, 2),
        (
            "mute",
            "Part of the rate kept: more is better",
            &kept,
            1.5,
            2,
        ),
    ];
    let measured = samples.scenarios(suite);
    let panels = panels
        .into_iter()
        .filter(|(scenario, ..)| measured.contains(scenario));
    panels
        .map(|(scenario, title, figure, most, digits)| {
            let row = |name| Row {
                name,
                value: figure(name),
                middle_half: None,
                is_troubled: !samples.troubles(scenario, name).is_empty(),
            };
            let servers = samples
                .servers(suite)
                .into_iter()
                .filter(|&name| name != LEFT_OUT);
            let mut rows: Vec<Row> = servers.map(row).collect();
            sort(&mut rows, scenario == "mute");
            Panel {
                title: title.to_string(),
                yardstick: None,
                most,
                digits,
                rows,
            }
        })
        .collect()
}

const WIDTH: usize = 840;
const COLUMNS: usize = 3;
const PANEL_WIDTH: usize = 264;
const GAP: usize = 24;
const HEADER: usize = 52;
const ROW: usize = 17;
/// Where the rows of a panel begin, and its bars; how long the longest bar is.
const ROWS_TOP: usize = 40;
const BARS_LEFT: f64 = 94.0;
const BARS_WIDTH: f64 = 124.0;
/// The room that the label of a bar takes.
const LABEL_WIDTH: f64 = 36.0;

const STYLE: &str = "\
text { font: 12px -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #59636e }
.page { fill: #ffffff } .title { font-weight: 600; font-size: 15px } .title, .panel, .own { fill: #1f2328 }
.panel, .own { font-weight: 600 } .bar { fill: #c8ced5 } .bar.own { fill: #d4380d } .end { text-anchor: end }
.middle { text-anchor: middle; font-size: 11px } .line { stroke: #1f2328; stroke-width: 1.5 } .half { stroke: #59636e }
.cut { stroke: #ffffff; stroke-width: 2.5 }
@media (prefers-color-scheme: dark) {
text { fill: #9198a1 } .page { fill: #0d1117 } .title, .panel, .own { fill: #f0f6fc } .bar { fill: #3d444d }
.bar.own { fill: #ff7a45 } .line { stroke: #f0f6fc } .half { stroke: #9198a1 } .cut { stroke: #0d1117 }
}";

impl Picture {
    /// Writes it into a folder, and returns the line of Markdown that shows it.
    pub fn put(&self, folder: &Path) -> Result<String> {
        std::fs::write(folder.join(self.file), self.svg())?;
        Ok(format!("![{}](performance/{})\n\n", self.title, self.file))
    }

    fn svg(&self) -> String {
        let rows = |panels: &[Panel]| {
            panels
                .iter()
                .map(|panel| panel.rows.len())
                .max()
                .unwrap_or(0)
        };
        let height_of = |panels: &[Panel]| ROWS_TOP + ROW * rows(panels) + GAP;
        let height = HEADER + self.panels.chunks(COLUMNS).map(height_of).sum::<usize>();
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
             <text class=\"title\" x=\"4\" y=\"18\">{title}</text>\n<text x=\"4\" y=\"36\">{}</text>\n",
            self.note(),
            title = self.title,
        );
        let mut top = HEADER;
        for panels in self.panels.chunks(COLUMNS) {
            for (column, panel) in panels.iter().enumerate() {
                let _ = writeln!(
                    text,
                    "<g transform=\"translate({} {top})\">",
                    column * (PANEL_WIDTH + GAP)
                );
                panel.draw(&mut text);
                text += "</g>\n";
            }
            top += height_of(panels);
        }
        text + "</svg>\n"
    }

    /// Explains the signs that the picture has.
    fn note(&self) -> String {
        if let Some(note) = self.note {
            return note.to_string();
        }
        let rows = || {
            self.panels
                .iter()
                .flat_map(|panel| panel.rows.iter().map(move |row| (panel, row)))
        };
        let has_line = self.panels.iter().any(|panel| panel.yardstick.is_some());
        let what = if has_line {
            "Multiples of the line: median of the rounds"
        } else {
            "Median of the rounds"
        };
        let mut note = what.to_string();
        if rows().any(|(_, row)| row.middle_half.is_some()) {
            note += "; thin line: their middle half";
        }
        if rows().any(|(panel, row)| row.value.is_some_and(|value| value > panel.most)) {
            note += "; a bar with a break is longer than drawn";
        }
        if rows().any(|(_, row)| row.is_troubled) {
            note += "; †: something failed";
        }
        note + "."
    }
}

impl Panel {
    /// Where a value is drawn.
    fn x(&self, value: f64) -> f64 {
        BARS_LEFT + BARS_WIDTH * value.min(self.most) / self.most
    }

    fn draw(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "<text class=\"panel\" x=\"4\" y=\"14\">{}</text>",
            self.title
        );
        for (place, row) in self.rows.iter().enumerate() {
            self.draw_row(text, row, ROWS_TOP + ROW * place);
        }
        if let Some((name, value)) = self.yardstick {
            let (x, bottom) = (self.x(value), ROWS_TOP + ROW * self.rows.len());
            let _ = writeln!(
                text,
                "<text class=\"middle\" x=\"{x:.1}\" y=\"{}\">{name}</text><path class=\"line\" d=\"M{x:.1} {}V{bottom}\"/>",
                ROWS_TOP - 8,
                ROWS_TOP - 4
            );
        }
    }

    fn draw_row(&self, text: &mut String, row: &Row, top: usize) {
        let (own, base) = (if row.name == "doorkeeper" { " own" } else { "" }, top + 12);
        let _ = write!(
            text,
            "<text class=\"end{own}\" x=\"{}\" y=\"{base}\">{}</text>",
            BARS_LEFT - 6.0,
            row.name
        );
        let mut end = BARS_LEFT;
        if let Some(value) = row.value {
            end = self.x(value);
            // A value of 0 has a bar too, as thin as can be seen.
            let width = (end - BARS_LEFT).max(1.5);
            let _ = write!(
                text,
                "<rect class=\"bar{own}\" x=\"{BARS_LEFT}\" y=\"{}\" width=\"{width:.1}\" height=\"12\"/>",
                top + 2
            );
            if value > self.most {
                let _ = write!(
                    text,
                    "<path class=\"cut\" d=\"M{:.1} {}l6 -18\"/>",
                    end - 14.0,
                    top + 17
                );
            } else if let Some((least, most)) = row.middle_half {
                let (least, most) = (self.x(least), self.x(most));
                let _ = write!(
                    text,
                    "<path class=\"half\" d=\"M{least:.1} {}H{most:.1}\"/>",
                    top + 8
                );
                end = end.max(most);
            }
        }
        // A label does not stand across the line.
        let line = self.yardstick.map_or(0.0, |(_, value)| self.x(value));
        if end < line && end + LABEL_WIDTH > line {
            end = line;
        }
        let shown = row.value.map_or("–".to_string(), |value| {
            format!("{value:.*}", self.digits)
        });
        let mark = if row.is_troubled { " †" } else { "" };
        let _ = writeln!(
            text,
            "<text class=\"value{own}\" x=\"{:.1}\" y=\"{base}\">{shown}{mark}</text>",
            end + 5.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::tests::results;

    fn drawn(rows: Vec<Row>) -> String {
        let panel = Panel {
            title: "64 B × 1".into(),
            yardstick: Some(("epoll", 1.0)),
            most: 2.0,
            digits: 2,
            rows,
        };
        Picture {
            file: "cpu.svg",
            title: "CPU",
            note: None,
            panels: vec![panel],
        }
        .svg()
    }

    /// The part of a picture that shows one server.
    fn of<'a>(picture: &'a str, name: &str) -> &'a str {
        picture
            .lines()
            .find(|line| line.contains(&format!(">{name}</text><")))
            .unwrap_or("")
    }

    fn width(line: &str) -> f64 {
        let (_, rest) = line.split_once("width=\"").unwrap();
        rest.split_once('"').unwrap().0.parse().unwrap()
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let picture = drawn(vec![
            Row::new("mio", Some(1.0)),
            Row::new("tokio", Some(1.5)),
        ]);
        assert_eq!(width(of(&picture, "mio")), BARS_WIDTH / 2.0);
        assert_eq!(width(of(&picture, "tokio")), BARS_WIDTH * 0.75);
        assert!(
            picture.contains(&format!("d=\"M{:.1} ", BARS_LEFT + BARS_WIDTH / 2.0)),
            "{picture}"
        );
    }

    #[test]
    fn no_label_stands_across_the_line() {
        let line = BARS_LEFT + BARS_WIDTH / 2.0;
        for value in [0.2, 0.6, 0.9, 1.0, 1.2] {
            let picture = drawn(vec![Row::new("mio", Some(value))]);
            let (_, label) = of(&picture, "mio")
                .split_once("class=\"value\" x=\"")
                .unwrap();
            let left: f64 = label.split_once('"').unwrap().0.parse().unwrap();
            assert!(
                left > line || left + LABEL_WIDTH <= line + 6.0,
                "{value}: {left}"
            );
        }
    }

    #[test]
    fn a_bar_of_zero_can_be_seen() {
        let picture = drawn(vec![Row::new("mio", Some(0.0))]);
        assert!(
            width(of(&picture, "mio")) > 0.0 && picture.contains(">0.00<"),
            "{picture}"
        );
    }

    #[test]
    fn a_missing_value_has_no_bar() {
        let picture = drawn(vec![Row::new("mio", None)]);
        assert!(
            !picture.contains("class=\"bar") && picture.contains(">–<"),
            "{picture}"
        );
    }

    #[test]
    fn a_cut_is_shown_and_explained() {
        let whole = drawn(vec![Row::new("mio", Some(2.0))]);
        assert!(
            !whole.contains("class=\"cut\"") && !whole.contains("break"),
            "{whole}"
        );
        let cut = drawn(vec![Row::new("mio", Some(9.25))]);
        assert_eq!(width(of(&cut, "mio")), BARS_WIDTH);
        assert!(
            cut.contains("class=\"cut\"") && cut.contains("break") && cut.contains(">9.25<"),
            "{cut}"
        );
    }

    #[test]
    fn one_colour_is_strong() {
        let picture = drawn(vec![
            Row::new("mio", Some(1.0)),
            Row::new("doorkeeper", Some(1.0)),
        ]);
        assert!(
            of(&picture, "doorkeeper").contains("bar own") && !of(&picture, "mio").contains("own"),
            "{picture}"
        );
    }

    #[test]
    fn the_best_comes_first_and_the_missing_last() {
        let names = |more: bool| {
            let mut rows = vec![
                Row::new("a", None),
                Row::new("b", Some(2.0)),
                Row::new("c", Some(1.0)),
            ];
            sort(&mut rows, more);
            rows.iter().map(|row| row.name).collect::<String>()
        };
        assert_eq!(
            (names(false).as_str(), names(true).as_str()),
            ("cba", "bca")
        );
    }

    #[test]
    fn only_what_was_measured_is_drawn() {
        let files: Vec<_> = pictures(&Samples::of(&results()))
            .iter()
            .map(|picture| picture.file)
            .collect();
        assert_eq!(files, ["cpu.svg", "rate.svg", "latency.svg"]);
    }

    #[test]
    fn a_panel_has_the_figures_of_the_table() {
        let results = results();
        let panels = multiples(&Samples::of(&results), &suites::ALL[0], "/cpu_ns");
        let rows: Vec<_> = panels[0]
            .rows
            .iter()
            .map(|row| (row.name, row.value, row.middle_half))
            .collect();
        assert_eq!(rows, [("doorkeeper", Some(1.2), Some((1.1, 2.0)))]);
        assert_eq!(panels[0].yardstick, Some(("epoll", 1.0)));
    }
}
