//! The table of results, in Markdown.

use weft_testkit::Subject;

use crate::measure::Measured;
use crate::rows::{Row, Target};

/// One line for each row: the subjects' medians, their ratio, the target and whether it is reached.
pub fn render(subjects: &[Subject], results: &[Measured]) -> String {
    let names: Vec<&str> = subjects.iter().map(|subject| subject.name()).collect();
    let mut text = format!("| row | what | unit | {} | ratio | target | verdict |\n", names.join(" | "));
    text.push_str(&format!("|{}\n", "---|".repeat(names.len() + 6)));
    for result in results {
        let values: Vec<String> = result
            .values
            .iter()
            .map(|value| match value {
                Ok(number) => figure(*number),
                Err(why) => format!("not measured: {}", why.replace(['\n', '|'], " ")),
            })
            .collect();
        let value_of = |wanted: Subject| {
            let index = subjects.iter().position(|subject| *subject == wanted)?;
            result.values.get(index)?.as_ref().ok().copied()
        };
        let (dockerd, weft) = (value_of(Subject::Dockerd), value_of(Subject::Weft));
        let ratio =
            dockerd.zip(weft).map_or_else(|| "-".to_owned(), |(old, new)| format!("{:.2}", new / old));
        let row = result.row;
        text.push_str(&format!(
            "| {} | {} | {} | {} | {ratio} | {} | {} |\n",
            row.name,
            row.what,
            row.unit,
            values.join(" | "),
            target(row),
            verdict(row, dockerd, weft)
        ));
    }
    text
}

fn figure(number: f64) -> String {
    if number >= 100.0 { format!("{number:.0}") } else { format!("{number:.2}") }
}

fn target(row: &Row) -> String {
    match row.target {
        Target::OfDockerd(share) => format!("≤ {share:.2} × dockerd"),
        Target::TimesDockerd(times) => format!("≥ {times} × dockerd"),
        Target::AtMost(limit) => format!("≤ {limit}"),
        Target::AtLeast(limit) => format!("≥ {limit}"),
        Target::Told => "-".to_owned(),
    }
}

fn verdict(row: &Row, dockerd: Option<f64>, weft: Option<f64>) -> &'static str {
    let Some(weft) = weft else { return "-" };
    let good = match row.target {
        Target::OfDockerd(share) => match dockerd {
            Some(dockerd) => weft <= dockerd * share,
            None => return "-",
        },
        Target::TimesDockerd(times) => match dockerd {
            Some(dockerd) => weft >= dockerd * times,
            None => return "-",
        },
        Target::AtMost(limit) => weft <= limit,
        Target::AtLeast(limit) => weft >= limit,
        Target::Told => return "-",
    };
    if good { "reached" } else { "MISSED" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let row = |target| Row { target, ..crate::rows::ROWS[0] };
        for (target, dockerd, weft, expected) in [
            (Target::OfDockerd(0.25), Some(100.0), Some(25.0), "reached"),
            (Target::OfDockerd(0.25), Some(100.0), Some(26.0), "MISSED"),
            (Target::OfDockerd(0.25), None, Some(26.0), "-"),
            (Target::TimesDockerd(5.0), Some(10.0), Some(50.0), "reached"),
            (Target::TimesDockerd(5.0), Some(10.0), Some(49.0), "MISSED"),
            (Target::TimesDockerd(5.0), None, Some(49.0), "-"),
            (Target::AtLeast(5.0), None, Some(6.0), "reached"),
            (Target::AtMost(5.0), None, Some(6.0), "MISSED"),
            (Target::AtMost(5.0), None, None, "-"),
        ] {
            assert_eq!(verdict(&row(target), dockerd, weft), expected);
        }
    }
}
