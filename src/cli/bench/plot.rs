//! The latencies of a bench as a picture (SVG).

use super::super::Failure;
use super::report::Report;
use hdrhistogram::Histogram;
use plotters::prelude::*;
use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// The file of the picture. It is opened before the load begins, because a load may take hours.
pub(crate) struct Plot<'a> {
    path: &'a Path,
    file: File,
    /// The file is new and empty, and goes if nothing is written.
    is_new: bool,
}

impl Plot<'_> {
    pub(crate) fn create(path: &Path) -> Result<Plot<'_>, Failure> {
        let failed =
            |error: io::Error| Failure::failed(format_args!("--plot {}: {error}", path.display()));
        let is_new = match path.metadata() {
            Ok(found) if !found.is_file() => {
                let problem = "it must be a regular file";
                return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, problem)));
            }
            found => found.is_err(),
        };
        // An earlier picture stays until there is a new one.
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = file.map_err(failed)?;
        Ok(Plot { path, file, is_new })
    }

    pub(super) fn write(mut self, report: &Report) -> Result<(), String> {
        let written = picture(report).and_then(|picture| {
            self.file.set_len(0)?;
            self.file.write_all(picture.as_bytes())?;
            self.is_new = false;
            Ok(())
        });
        written.map_err(|error| format!("--plot {}: {error}", self.path.display()))
    }
}

impl Drop for Plot<'_> {
    fn drop(&mut self) {
        if self.is_new {
            let _ = std::fs::remove_file(self.path);
        }
    }
}

/// The points of the curve: the quantile as a number of nines, and its latency in milliseconds.
fn points(latencies: &Histogram<u64>) -> Vec<(f64, f64)> {
    let nines = |quantile: f64| -(1.0 - quantile).log10();
    (0..=400)
        .map(|step| 1.0 - 10f64.powf(-f64::from(step) / 100.0))
        .map(|quantile| {
            let latency = latencies.value_at_quantile(quantile) as f64 / 1e6;
            (nines(quantile), latency)
        })
        .collect()
}

/// The latency at the top of the picture, a little above the longest.
fn top(points: &[(f64, f64)]) -> f64 {
    points.iter().map(|point| point.1).fold(0.001, f64::max) * 1.1
}

/// The quantile of this number of nines.
fn label(nines: &f64) -> String {
    format!("{}%", (1.0 - 10f64.powf(-nines)) * 100.0)
}

fn picture(report: &Report) -> Result<String, Box<dyn Error>> {
    let latencies = report.measured.latencies.borrow();
    if latencies.is_empty() {
        return Err("no request was answered: there is nothing to draw".into());
    }
    let points = points(&latencies);
    let top = top(&points);
    let mut picture = String::new();
    let root = SVGBackend::with_string(&mut picture, (720, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!(
        "{}: {} connections, {:.0} requests a second",
        report.options.name(),
        report.options.connections,
        report.per_second(report.measured.requests.get())
    );
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(16)
        .margin_right(36)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..4.0, 0.0..top)?;
    chart
        .configure_mesh()
        .x_labels(5)
        .x_label_formatter(&label)
        .x_desc("of the requests took at most")
        .y_desc("milliseconds")
        .draw()?;
    chart.draw_series(LineSeries::new(points, &BLUE))?;
    root.present()?;
    drop(chart);
    drop(root);
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::{label, points, top};
    use hdrhistogram::Histogram;

    #[test]
    fn a_point_has_the_nines_of_its_quantile_and_the_latency_in_milliseconds() {
        let mut latencies = Histogram::new(3).unwrap();
        for ms in 1..=100_000 {
            latencies.record(ms * 1_000_000).unwrap();
        }
        let points = points(&latencies);
        assert_eq!(points.len(), 401);
        for (at, nines, latency) in [
            (0, 0.0, 1.0),
            (30, 0.3, 49_881.0),
            (100, 1.0, 90_000.0),
            (200, 2.0, 99_000.0),
            (300, 3.0, 99_900.0),
            (400, 4.0, 99_990.0),
        ] {
            let point = points[at];
            assert!((point.0 - nines).abs() < 1e-9, "{point:?}");
            // Three digits of a latency are exact.
            assert!((point.1 / latency - 1.0).abs() < 1e-3, "{point:?}");
        }
    }

    #[test]
    fn the_longest_latency_is_a_little_below_the_top() {
        assert!((top(&[(0.0, 2.0), (1.0, 5.0), (2.0, 4.0)]) - 5.5).abs() < 1e-9);
        // Nothing is a picture without a height.
        assert!((top(&[(0.0, 0.0)]) - 0.0011).abs() < 1e-9);
    }

    #[test]
    fn the_labels_are_quantiles() {
        let labels = [0.0, 1.0, 2.0, 3.0, 4.0].map(|nines| label(&nines));
        assert_eq!(labels, ["0%", "90%", "99%", "99.9%", "99.99%"]);
    }
}
