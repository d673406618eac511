//! The results as pictures: bars, a group for each scenario, a bar for each server.

use crate::Result;
use crate::tables::Samples;
use plotters::prelude::*;
use serde_json::Value;
use std::path::Path;

/// Bars of ratios end here, or one of them would flatten all others. The tables tell how far they go.
const MOST: f64 = 4.0;

pub fn draw(results: &Value, folder: &Path) -> Result<()> {
    let samples = Samples::of(results);
    let busy = [
        "64 B × 1",
        "64 B × 64",
        "64 B × 1000",
        "64 B × 10000",
        "16 KiB × 64",
        "1 MiB × 4",
        "pipelined lines",
        "connect-echo-close",
    ];
    let ratio = |pointer: &'static str| {
        let samples = &samples;
        move |scenario: &str, server: &str| {
            samples
                .ratio(scenario, server, pointer)
                .map(|ratio| ratio.min(MOST))
        }
    };
    let title = "CPU per message, as a multiple of plain epoll's (less is better; cut off at 4)";
    bars(
        &samples,
        &folder.join("cpu.svg"),
        title,
        &busy,
        ratio("/cpu_ns"),
    )?;
    let title = "Messages a second, as a multiple of plain epoll's (more is better)";
    bars(
        &samples,
        &folder.join("rate.svg"),
        title,
        &busy,
        ratio("/rate"),
    )?;
    let title = "99th percentile of the latency, as a multiple of plain epoll's (less is better; cut off at 4)";
    bars(
        &samples,
        &folder.join("latency.svg"),
        title,
        &busy,
        ratio("/latency_ns/p99"),
    )?;
    let title = "Memory of an idle connection, bytes (less is better)";
    let memory =
        |scenario: &str, server: &str| samples.median(scenario, server, "/bytes_per_connection");
    bars(
        &samples,
        &folder.join("memory.svg"),
        title,
        &["idle"],
        memory,
    )
}

fn bars(
    samples: &Samples<'_>,
    path: &Path,
    title: &str,
    wanted: &[&str],
    height: impl Fn(&str, &str) -> Option<f64>,
) -> Result<()> {
    let servers = samples.servers();
    let scenarios: Vec<&str> = samples
        .scenarios()
        .into_iter()
        .filter(|name| wanted.contains(name))
        .collect();
    if scenarios.is_empty() {
        return Ok(());
    }
    let all = scenarios
        .iter()
        .flat_map(|scenario| servers.iter().filter_map(|server| height(scenario, server)));
    let most = all.fold(1.0, f64::max);
    let root = SVGBackend::new(path, (1280, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let (groups, width) = (scenarios.len() as f64, 0.8 / servers.len() as f64);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(32)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..groups + 0.9, 0.0..most * 1.1)?;
    let label = |at: &f64| {
        let middle = (at.fract() - 0.5).abs() < 0.01;
        scenarios
            .get(*at as usize)
            .filter(|_| middle)
            .map_or(String::new(), ToString::to_string)
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(2 * scenarios.len() + 2)
        .x_label_formatter(&label)
        .draw()?;
    for (place, server) in servers.iter().enumerate() {
        let color = Palette99::pick(place).to_rgba();
        // A figure that is not there has no bar, not one of no height.
        let bars = scenarios
            .iter()
            .enumerate()
            .filter_map(|(group, scenario)| {
                let left = group as f64 + 0.1 + place as f64 * width;
                Some(Rectangle::new(
                    [(left, 0.0), (left + width * 0.9, height(scenario, server)?)],
                    color.filled(),
                ))
            });
        chart
            .draw_series(bars)?
            .label(*server)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    root.present()?;
    Ok(())
}
