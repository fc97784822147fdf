//! Lines for people and programs.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;

/// Prints a line. A reader that went away, as in `orfeas … | head`, is no error.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a line for a person where something is amiss.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A number of a table, a dash where there is none.
#[must_use]
pub fn number(value: &Value, digits: usize) -> String {
    value
        .as_f64()
        .map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

/// One progress bar a conversion on a terminal, plain lines elsewhere.
#[derive(Debug)]
pub struct Bars {
    bars: Vec<ProgressBar>,
    names: Vec<String>,
    told: Vec<String>,
    plain: bool,
    // Keeps the bars together on the screen.
    _group: MultiProgress,
}

impl Bars {
    /// Bars with these names.
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        let plain = !std::io::stderr().is_terminal();
        let group = MultiProgress::new();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        let style =
            ProgressStyle::with_template("  {prefix} {bar:32.cyan/dim} {percent:>3}%  {msg}")
                .expect("the template is a constant")
                .progress_chars("━━─");
        let bars = names
            .iter()
            .map(|name| {
                let bar = if plain {
                    ProgressBar::hidden()
                } else {
                    group.add(ProgressBar::new(100))
                };
                bar.set_style(style.clone());
                bar.set_prefix(format!("{name:<width$}"));
                bar.set_message("queued");
                bar.enable_steady_tick(Duration::from_millis(200));
                bar
            })
            .collect();
        Self {
            bars,
            names: names.to_vec(),
            told: vec![String::new(); names.len()],
            plain,
            _group: group,
        }
    }

    /// Shows how far one is, 0..=1, and what it does.
    pub fn set(&mut self, index: usize, progress: f64, what: &str) {
        if self.plain {
            if self.told[index] != what {
                self.told[index] = what.to_owned();
                line(&format!("  {}: {what}", self.names[index]));
            }
            return;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 100"
        )]
        self.bars[index].set_position((progress.clamp(0.0, 1.0) * 100.0) as u64);
        self.bars[index].set_message(what.to_owned());
    }

    /// Leaves the bars as they are.
    pub fn finish(&self) {
        self.bars.iter().for_each(ProgressBar::abandon);
    }
}
