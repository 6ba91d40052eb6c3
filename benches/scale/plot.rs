//! The plot: what a daemon costs, against its number of leases.

use std::path::Path;

use lab::Result;
use lab::anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::growth::Point;

/// The size of the plot, in pixels.
const SIZE: (u32, u32) = (860, 340);

/// The measurements of one daemon, and how they are drawn.
struct Curve<'a> {
    name: &'a str,
    color: RGBColor,
    points: &'a [Point],
}

/// A plot of one quantity.
struct Panel {
    caption: &'static str,
    of: fn(&Point) -> f64,
    label: fn(f64) -> String,
}

const PANELS: [Panel; 2] = [
    Panel {
        caption: "Memory of the daemon (PSS)",
        of: |point| point.usage.memory as f64 / 1024.0,
        label: |mebibytes| format!("{mebibytes} MiB"),
    },
    Panel {
        caption: "Threads of the daemon",
        of: |point| point.usage.threads as f64,
        label: |threads| format!("{threads}"),
    },
];

/// Draws our daemon's measurements, and the others' if there are any.
pub(crate) fn draw(file: &Path, ours: &[Point], others: &[Point]) -> Result {
    let curves = [
        Curve {
            name: "leasehold",
            color: RGBColor(0, 110, 190),
            points: ours,
        },
        Curve {
            name: "Go plugins",
            color: RGBColor(200, 80, 20),
            points: others,
        },
    ];
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    let drawn = area.fill(&WHITE).and_then(|()| {
        let areas = area.split_evenly((1, PANELS.len()));
        areas
            .iter()
            .zip(&PANELS)
            .try_for_each(|(area, panel)| panel.draw(area, &curves))?;
        area.present()
    });
    drawn.map_err(|error| anyhow!("draw {}: {error}", file.display()))
}

type Drawn<'a> =
    std::result::Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

impl Panel {
    fn draw<'a>(
        &self,
        area: &DrawingArea<SVGBackend<'a>, Shift>,
        curves: &[Curve<'_>],
    ) -> Drawn<'a> {
        let points = || {
            curves
                .iter()
                .flat_map(|curve| curve.points)
                .filter(is_drawn)
        };
        let leases = points().map(|point| point.leases as f64);
        let values = points().map(self.of);
        let (x, y) = (range(leases), range(values));
        let mut chart = ChartBuilder::on(area)
            .caption(self.caption, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(46)
            .y_label_area_size(76)
            .build_cartesian_2d(x.log_scale(), y.log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc("leases")
            .x_labels(4)
            .y_labels(5)
            .x_label_formatter(&|leases| format!("{leases}"))
            .y_label_formatter(&|value| (self.label)(*value))
            .label_style(("sans-serif", 16))
            .draw()?;
        for curve in curves.iter().filter(|curve| !curve.points.is_empty()) {
            let drawn = curve.points.iter().filter(is_drawn);
            let drawn = drawn.map(|point| (point.leases as f64, (self.of)(point)));
            let drawn: Vec<(f64, f64)> = drawn.collect();
            let (color, style) = (curve.color, curve.color.stroke_width(2));
            chart
                .draw_series(LineSeries::new(drawn.iter().copied(), style))?
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            let dots = drawn.iter().map(|&dot| Circle::new(dot, 3, color.filled()));
            chart.draw_series(dots)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE)
            .label_font(("sans-serif", 16))
            .draw()
    }
}

/// A logarithmic axis has no place for zero.
fn is_drawn(point: &&Point) -> bool {
    point.leases > 0
}

/// The range of some values on a logarithmic axis, with some room on either side.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    const ROOM: f64 = 1.5;
    let (mut least, mut most) = (f64::INFINITY, 1.0_f64);
    for value in values {
        least = least.min(value);
        most = most.max(value);
    }
    least.min(most) / ROOM..most * ROOM
}
