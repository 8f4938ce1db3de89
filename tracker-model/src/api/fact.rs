//! The figures of an alert, as any view can print them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A figure that an alert rests on. Any view can print it without knowing the kind of the alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fact {
    /// Its name; that in `evidence` where it is one of its values.
    pub name: String,
    /// What to print before the value.
    pub label: String,
    /// A number or text.
    pub value: FactValue,
    /// Unit of the value.
    pub unit: Unit,
    /// What it says, for docs/api.md; empty for lines of text.
    #[serde(skip)]
    pub help: &'static str,
}

impl Fact {
    /// A figure.
    #[must_use]
    pub fn new(name: &str, label: &str, value: impl Into<FactValue>, unit: Unit) -> Self {
        Self { name: name.to_owned(), label: label.to_owned(), value: value.into(), unit, help: "" }
    }

    /// Says what it is.
    #[must_use]
    pub fn about(self, help: &'static str) -> Self {
        Self { help, ..self }
    }
}

/// The value of a fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FactValue {
    /// A count.
    Count(u64),
    /// A measure.
    Number(f64),
    /// A name, a reason, a line.
    Text(String),
}

impl From<u64> for FactValue {
    fn from(value: u64) -> Self {
        Self::Count(value)
    }
}

impl From<f64> for FactValue {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<String> for FactValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

/// Unit of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A number or text without a unit.
    None,
    /// Seconds, a lower bound.
    SecondsAtLeast,
}
