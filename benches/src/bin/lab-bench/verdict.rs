//! The targets, what was measured against them, and whether they are met.

/// One line for each target that this run measured.
#[derive(Default)]
pub struct Verdicts(Vec<(String, String, Option<bool>)>);

impl Verdicts {
    pub fn add(&mut self, target: impl Into<String>, figure: impl Into<String>, met: bool) {
        self.0.push((target.into(), figure.into(), Some(met)));
    }

    /// A target that this run says nothing about, and why in `figure`.
    pub fn open(&mut self, target: impl Into<String>, figure: impl Into<String>) {
        self.0.push((target.into(), figure.into(), None));
    }

    pub fn print(&self) {
        if self.0.is_empty() {
            return;
        }
        println!("\n### Verdict\n\n| target | measured | |\n|---|---|---|");
        for (target, figure, met) in &self.0 {
            let word = match met {
                Some(true) => "met",
                Some(false) => "**missed**",
                None => "not comparable",
            };
            println!("| {target} | {figure} | {word} |");
        }
    }
}
