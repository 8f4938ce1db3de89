//! The configuration file, in TOML. Its keys are the names of the flags, and a value is read as that of its flag.

use std::{any::TypeId, fs, io, path::Path};

use clap::{Arg, ArgAction, Command};
use toml::{
    Spanned, Value,
    de::{DeInteger, DeTable, DeValue},
};

use super::error::{ConfigError, expected, shortened};

/// What a key can hold, by the type of its field: `u32`, `bool`, a `Vec`, or anything that a string is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// True or false.
    Switch,
    /// A string, or a list of them.
    List,
}

impl Kind {
    /// What the key of this flag can hold.
    #[must_use]
    pub fn of_flag(flag: &Arg) -> Self {
        let value = flag.get_value_parser().type_id();
        match flag.get_action() {
            ArgAction::Append => Self::List,
            _ if value == TypeId::of::<bool>() => Self::Switch,
            _ if value == TypeId::of::<u32>() => Self::Number,
            _ => Self::Text,
        }
    }

    /// As the documentation names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Number => "number",
            Self::Switch => "true or false",
            Self::List => "string or list of strings",
        }
    }

    /// The words of a flag as a value of the file.
    pub(super) fn value(self, words: Vec<String>) -> Option<Value> {
        let mut strings = words.into_iter().map(Value::String);
        match self {
            Self::List => Some(Value::Array(strings.collect())),
            Self::Text => strings.next_back(),
            // Such a word is written as its value is.
            Self::Number => strings.next_back()?.as_str()?.parse().ok().map(Value::Integer),
            Self::Switch => strings.next_back()?.as_str()?.parse().ok().map(Value::Boolean),
        }
    }

    /// The words that a flag would have for a value of the file.
    fn words(self, value: &DeValue<'_>) -> Result<Vec<String>, &'static str> {
        match (self, value) {
            (Self::Text | Self::List, DeValue::String(text)) => Ok(vec![text.to_string()]),
            (Self::Number, DeValue::Integer(number)) => Ok(vec![decimal(number)]),
            (Self::Switch, DeValue::Boolean(on)) => Ok(vec![on.to_string()]),
            (Self::List, DeValue::Array(values)) => {
                let texts = values.iter().map(|value| value.get_ref().as_str().map(str::to_owned));
                texts.collect::<Option<_>>().ok_or("must be a list of strings")
            }
            (Self::Text, _) => Err("must be a string in quotes"),
            (Self::Switch, _) => Err("must be true or false, without quotes"),
            (Self::Number, _) => Err("must be a whole number without quotes"),
            (Self::List, _) => Err("must be a string or a list of strings"),
        }
    }
}

fn decimal(number: &DeInteger<'_>) -> String {
    i64::from_str_radix(number.as_str(), number.radix())
        .map_or_else(|_| number.as_str().to_owned(), |number| number.to_string())
}

/// Reads the file as text. A pipe is refused: it would keep the daemon waiting for a writer without a word.
pub(super) fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.is_file() {
        return fs::read_to_string(path);
    }
    Err(io::Error::other("it is a directory, a pipe or a device, not a regular file"))
}

/// A key of the file and one value of it; a list has one for each of its elements.
pub(super) type Word = (String, String);

/// What the text of the file at `path` says, as flags of `settings` would say it.
pub(super) fn words(text: &str, path: &Path, settings: &Command) -> Result<Vec<Word>, ConfigError> {
    let file = File { text, path, settings };
    let table = DeTable::parse(text)
        .map_err(|error| file.wrong(error.span().map_or(0, |span| span.start), error.message().replace('\n', ", ")))?;
    let mut words = Vec::new();
    file.read(table.get_ref(), "", &mut words)?;
    Ok(words)
}

struct File<'a> {
    text: &'a str,
    path: &'a Path,
    settings: &'a Command,
}

impl File<'_> {
    fn read(&self, table: &DeTable<'_>, prefix: &str, words: &mut Vec<Word>) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let flag = self.settings.get_arguments().find(|flag| flag.get_long() == Some(&key));
            match (flag, value.get_ref()) {
                (Some(flag), found) => {
                    let values = checked(flag, &key, found).map_err(|expected| {
                        let written = self.written(value);
                        self.wrong(value.span().start, format!("{key} = {written}: {expected}"))
                    })?;
                    words.extend(values.into_iter().map(|value| (key.clone(), value)));
                }
                (None, DeValue::Table(inner)) if self.is_table(&key) => self.read(inner, &format!("{key}."), words)?,
                (None, _) => {
                    let (hint, written) = (self.hint(&key), self.written(value));
                    let what = format!("unknown key `{}` (= {written}); {hint}", shortened(&key));
                    return Err(self.wrong(value.span().start, what));
                }
            }
        }
        Ok(())
    }

    fn wrong(&self, offset: usize, what: String) -> ConfigError {
        let line = self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        ConfigError::Wrong { path: self.path.to_owned(), line, what }
    }

    /// The value as it stands in the file.
    fn written(&self, value: &Spanned<DeValue<'_>>) -> String {
        shortened(self.text.get(value.span()).unwrap_or_default())
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.settings.get_arguments().filter_map(Arg::get_long)
    }

    fn is_table(&self, name: &str) -> bool {
        self.keys().any(|key| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }

    /// The key that was meant, or all there are.
    fn hint(&self, wrong: &str) -> String {
        let near = self
            .keys()
            .map(|key| (strsim::jaro_winkler(key, wrong), key))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(similarity, _)| *similarity > 0.85);
        match near {
            Some((_, key)) => format!("did you mean `{key}`?"),
            None => format!("the keys are {}", self.keys().collect::<Vec<_>>().join(", ")),
        }
    }
}

/// The words of a value, when its flag takes each of them; else what would be right.
fn checked(flag: &Arg, key: &str, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let words = Kind::of_flag(flag).words(value)?;
    if words.is_empty() && !flag.get_default_values().is_empty() {
        return Err("must name one at least; leave the key out for the default".to_owned());
    }
    // A comma separates values of a flag only.
    let flag = flag.clone().value_delimiter(None);
    for word in &words {
        let command = Command::new("value").no_binary_name(true).arg(flag.clone());
        if let Err(error) = command.try_get_matches_from([format!("--{key}={word}")]) {
            return Err(expected(&error).unwrap_or_else(|| error.kind().to_string()));
        }
    }
    Ok(words)
}
