//! The latencies of a bench as a picture (SVG).

use super::super::Failure;
use super::report::Report;
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
fn points(report: &Report) -> Vec<(f64, f64)> {
    let latencies = report.measured.latencies.borrow();
    let nines = |quantile: f64| -(1.0 - quantile).log10();
    (0..=400)
        .map(|step| 1.0 - 10f64.powf(-f64::from(step) / 100.0))
        .map(|quantile| {
            let latency = latencies.value_at_quantile(quantile) as f64 / 1e6;
            (nines(quantile), latency)
        })
        .collect()
}

fn picture(report: &Report) -> Result<String, Box<dyn Error>> {
    if report.measured.latencies.borrow().is_empty() {
        return Err("no request was answered: there is nothing to draw".into());
    }
    let points = points(report);
    let top = points.iter().map(|point| point.1).fold(0.001, f64::max) * 1.1;
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
    let label = |nines: &f64| format!("{}%", (1.0 - 10f64.powf(-nines)) * 100.0);
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
