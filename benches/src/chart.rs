//! Bars on a logarithmic scale, as an SVG that can be read on a light and on a dark page.
//!
//! Pure: figures in, text out.

use std::fmt::Write;

/// One group of bars under a title.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What is shown, and which way is better.
    pub title: String,
    /// The bars, from top to bottom.
    pub bars: Vec<Bar>,
}

/// A bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it stands for.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// Whether it is drawn in the colour that draws the eye.
    pub ours: bool,
}

const WIDTH: f64 = 720.0;
const LABEL_WIDTH: f64 = 190.0;
const VALUE_WIDTH: f64 = 70.0;
const ROW: f64 = 20.0;
const BAR: f64 = 13.0;
const TITLE: f64 = 34.0;

/// Draws the panels below one another. Each has a scale of its own, from a power of ten to a power of ten; values that
/// are not above zero have no bar.
pub fn draw(panels: &[Panel]) -> String {
    let rows: usize = panels.iter().map(|panel| panel.bars.len()).sum();
    let height = rows as f64 * ROW + panels.len() as f64 * (TITLE + 22.0) + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <style>text{{fill:#24292f}}.s{{fill:#57606a;font-size:10px}}.t{{font-weight:600;font-size:13px}}\
         .b{{fill:#8c959f}}.o{{fill:#0969da}}line{{stroke:#d0d7de}}\
         @media (prefers-color-scheme:dark){{text{{fill:#e6edf3}}.s{{fill:#9198a1}}.b{{fill:#6e7681}}\
         .o{{fill:#4493f8}}line{{stroke:#3d444d}}}}</style>\n"
    );
    let mut top = 0.0;
    for panel in panels {
        draw_panel(&mut svg, panel, top);
        top += panel.bars.len() as f64 * ROW + TITLE + 22.0;
    }
    svg += "</svg>\n";
    svg
}

fn draw_panel(svg: &mut String, panel: &Panel, top: f64) {
    let values = || panel.bars.iter().map(|bar| bar.value).filter(|v| *v > 0.0);
    let low = values().fold(f64::INFINITY, f64::min).log10().floor();
    let high = values().fold(0.0, f64::max).log10().ceil().max(low + 1.0);
    let room = WIDTH - LABEL_WIDTH - VALUE_WIDTH;
    let place = |value: f64| LABEL_WIDTH + (value.log10() - low) / (high - low) * room;
    let first = top + TITLE;
    let last = first + panel.bars.len() as f64 * ROW;
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<text class=\"t\" x=\"8\" y=\"{}\">{}</text>",
        top + 20.0,
        escape(&panel.title)
    );
    let mut power = low;
    while power <= high && values().next().is_some() {
        let (x, value) = (place(10f64.powf(power)), short(10f64.powf(power)));
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{first}\" y2=\"{last}\"/>\
             <text class=\"s\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{value}</text>",
            last + 12.0
        );
        power += 1.0;
    }
    for (row, bar) in panel.bars.iter().enumerate() {
        let y = first + row as f64 * ROW;
        let text_y = y + 14.0;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text_y}\" text-anchor=\"end\">{}</text>",
            LABEL_WIDTH - 8.0,
            escape(&bar.label)
        );
        if bar.value > 0.0 {
            // A value on the lowest power would have no length.
            let width = (place(bar.value) - LABEL_WIDTH).max(2.0);
            let class = if bar.ours { "o" } else { "b" };
            let _ = writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{LABEL_WIDTH}\" y=\"{}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>\
                 <text x=\"{:.1}\" y=\"{text_y}\">{}</text>",
                y + 3.0,
                LABEL_WIDTH + width + 6.0,
                short(bar.value)
            );
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Two or three figures.
pub fn short(value: f64) -> String {
    match value.abs() {
        below if below < 0.1 => format!("{value:.3}"),
        below if below < 1.0 => format!("{value:.2}"),
        below if below < 10.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, value: f64) -> Bar {
        Bar {
            label: label.to_owned(),
            value,
            ours: false,
        }
    }

    fn width_of(svg: &str, row: usize) -> f64 {
        let rect = svg.split("<rect").nth(row + 1).unwrap();
        let width = rect.split("width=\"").nth(1).unwrap();
        width.split('"').next().unwrap().parse().unwrap()
    }

    #[test]
    fn ten_times_as_much_is_one_step_longer() {
        let svg = draw(&[Panel {
            title: "speed".to_owned(),
            bars: vec![bar("a", 1.0), bar("b", 10.0), bar("c", 100.0)],
        }]);
        let (one, two) = (width_of(&svg, 1), width_of(&svg, 2));
        assert!((two - 2.0 * one).abs() < 0.2, "{one} {two}");
    }

    #[test]
    fn what_was_not_measured_has_a_label_and_no_bar() {
        let svg = draw(&[Panel {
            title: "a < b".to_owned(),
            bars: vec![bar("there", 3.0), bar("absent", 0.0)],
        }]);
        assert_eq!(svg.matches("<rect").count(), 1);
        assert!(svg.contains("absent") && svg.contains("a &lt; b"));
    }

    #[test]
    fn a_panel_without_figures_can_be_drawn() {
        let svg = draw(&[Panel {
            title: "nothing".to_owned(),
            bars: vec![bar("absent", 0.0)],
        }]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
