//! Results, as a table and as JSON.

use serde::Serialize;

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub struct Result {
    /// What was measured.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it must not exceed; none where it is only a reference.
    pub budget: Option<f64>,
    /// Whether it does not.
    pub within_budget: Option<bool>,
}

impl Result {
    /// A figure with a budget.
    #[must_use]
    pub fn budgeted(name: impl Into<String>, value: f64, unit: &'static str, budget: f64) -> Self {
        Self { name: name.into(), value, unit, budget: Some(budget), within_budget: Some(value <= budget) }
    }

    /// A figure that others are compared with.
    #[must_use]
    pub fn reference(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, budget: None, within_budget: None }
    }

    /// The figure as a line of a table.
    #[must_use]
    pub fn line(&self) -> String {
        let verdict = match (self.budget, self.within_budget) {
            (Some(budget), Some(true)) => format!("budget {budget:>6.1}  ok"),
            (Some(budget), _) => format!("budget {budget:>6.1}  OVER"),
            _ => String::new(),
        };
        format!("{:<66} {:>8.1} {:<4} {verdict}", self.name, self.value, self.unit)
    }
}

/// All results of a run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// In the order measured.
    pub results: Vec<Result>,
}

/// The middle one; the upper of the two middle ones of an even number.
///
/// # Panics
/// No budget.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
