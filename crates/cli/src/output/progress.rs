//! The progress of pulls, pushes and loads.
//!
//! On a terminal each layer has its line, redrawn in place; elsewhere every change of status is one line, as
//! Docker's client prints it. The last error of the stream is the command's.

use std::io::{IsTerminal as _, Write as _};

use anyhow::anyhow;
use serde_json::Value;

use crate::{
    client::{Answer, JsonStream},
    output::{self, human},
};

/// How much of a stream is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// For people.
    All,
    /// For people whose standard output belongs to a container: on standard error.
    Stderr,
    /// Nothing but errors.
    Quiet,
    /// Each message as a line of JSON.
    Json,
}

struct Screen {
    ids: Vec<String>,
    terminal: bool,
}

impl Screen {
    /// The text that shows `message`, with the movements of the cursor around it.
    fn draw(&mut self, message: &Value) -> Option<String> {
        if let Some(text) = message["stream"].as_str() {
            self.ids.clear();
            return Some(text.to_owned());
        }
        let status = message["status"].as_str()?;
        let id = human::text(message, "id");
        let detail = bar(&message["progressDetail"]);
        if !self.terminal {
            // Bars would be thousands of lines: only changes of status are told.
            return detail.is_empty().then(|| match id {
                "" => format!("{status}\n"),
                _ => format!("{id}: {status}\n"),
            });
        }
        if id.is_empty() {
            self.ids.clear();
            return Some(format!("{status}\n"));
        }
        let new = !self.ids.iter().any(|i| i == id);
        if new {
            self.ids.push(id.to_owned());
        }
        let place = self.ids.iter().position(|i| i == id).unwrap_or(0);
        let up = self.ids.len() - place;
        let text = format!("\r\x1b[2K{id}: {status} {detail}");
        Some(if new { format!("{text}\n") } else { format!("\x1b[{up}A{text}\r\x1b[{up}B") })
    }
}

fn bar(detail: &Value) -> String {
    let (Some(current), total) = (detail["current"].as_f64(), detail["total"].as_f64().unwrap_or(0.0)) else {
        return String::new();
    };
    if total <= 0.0 {
        return human::size(current);
    }
    let share = (current / total).clamp(0.0, 1.0);
    let full = (0..50).filter(|n| f64::from(*n) < share * 50.0).count();
    let head = if full == 50 { "" } else { ">" };
    let space = 50_usize.saturating_sub(full + head.len());
    format!(
        "[{}{head}{}]  {}/{}",
        "=".repeat(full),
        " ".repeat(space),
        human::size(current),
        human::size(total)
    )
}

/// Follows the stream of `answer` to its end and returns its `aux` values.
///
/// # Errors
/// What the stream reports.
pub async fn follow(answer: Answer, show: Show) -> anyhow::Result<Vec<Value>> {
    let terminal =
        if show == Show::Stderr { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
    let mut screen = Screen { ids: Vec::new(), terminal };
    let mut stream = JsonStream::new(answer.into_body());
    let mut aux = Vec::new();
    while let Some(message) = stream.next().await? {
        if show == Show::Json {
            output::json_line(&message)?;
        } else if show != Show::Quiet
            && let Some(text) = screen.draw(&message)
        {
            if show == Show::Stderr {
                std::io::stderr().write_all(text.as_bytes())?;
            } else {
                output::bytes(text.as_bytes())?;
                std::io::stdout().flush()?;
            }
        }
        if let Some(error) = message["errorDetail"]["message"].as_str().or(message["error"].as_str()) {
            return Err(anyhow!("{error}"));
        }
        if !message["aux"].is_null() {
            aux.push(message["aux"].clone());
        }
    }
    Ok(aux)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_layer_keeps_its_line_on_a_terminal() {
        let mut screen = Screen { ids: Vec::new(), terminal: true };
        let mut draw = |v: Value| screen.draw(&v).unwrap_or_default();
        assert_eq!(draw(json!({"status": "Pulling", "id": "a"})), "\r\x1b[2Ka: Pulling \n");
        assert_eq!(draw(json!({"status": "Pulling", "id": "b"})), "\r\x1b[2Kb: Pulling \n");
        assert!(draw(json!({"status": "Done", "id": "a"})).starts_with("\x1b[2A"));
        assert_eq!(draw(json!({"status": "Digest: x"})), "Digest: x\n");
    }

    #[test]
    fn elsewhere_only_changes_are_told() {
        let mut screen = Screen { ids: Vec::new(), terminal: false };
        let progress =
            json!({"status": "Downloading", "id": "a", "progressDetail": {"current": 1, "total": 2}});
        assert_eq!(screen.draw(&progress), None);
        assert_eq!(screen.draw(&json!({"status": "Done", "id": "a"})).as_deref(), Some("a: Done\n"));
    }

    #[test]
    fn bars_are_fifty_wide() {
        let text = bar(&json!({"current": 500, "total": 1000}));
        assert_eq!(text, format!("[{}>{}]  500B/1kB", "=".repeat(25), " ".repeat(24)));
        assert_eq!(bar(&json!({})), "");
        assert_eq!(bar(&json!({"current": 10})), "10B");
    }
}
