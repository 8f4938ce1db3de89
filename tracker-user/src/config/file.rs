//! The configuration file, in TOML. Its keys are the names of the flags.

use std::path::Path;

use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

use super::{error::ConfigError, raw::RawSettings, value};

/// What a key can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
    /// A string, or a list of them.
    List,
}

type Set = fn(&mut RawSettings, &[String]) -> Result<(), String>;

/// A key of the file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name; a dot stands for a table.
    pub name: &'static str,
    /// What it can hold.
    pub kind: Kind,
    set: Set,
}

/// All keys.
pub const KEYS: [Key; 15] = [
    key("interface", Kind::List, |raw, values| list(&mut raw.interface, values, value::interface)),
    key("hook", Kind::Text, |raw, values| one(&mut raw.hook, values, value::hook)),
    key("socket-events", Kind::Text, |raw, values| one(&mut raw.socket_events, values, value::socket_events)),
    key("btf", Kind::Text, |raw, values| one(&mut raw.btf, values, path)),
    key("lifetime-sample", Kind::Number, |raw, values| one(&mut raw.lifetime_sample, values, value::lifetime_sample)),
    key("census-interval", Kind::Text, |raw, values| one(&mut raw.census_interval, values, value::census_interval)),
    key("all-netns", Kind::Switch, |raw, values| one(&mut raw.all_netns, values, switch)),
    key("trace-bind", Kind::Switch, |raw, values| one(&mut raw.trace_bind, values, switch)),
    key("sensitivity", Kind::Text, |raw, values| one(&mut raw.sensitivity, values, value::sensitivity)),
    key("detector.record", Kind::Text, |raw, values| one(&mut raw.detector_record, values, path)),
    key("web.listen-address", Kind::List, |raw, values| {
        list(&mut raw.web_listen_address, values, value::listen_address)
    }),
    key("web.telemetry-path", Kind::Text, |raw, values| {
        one(&mut raw.web_telemetry_path, values, value::telemetry_path)
    }),
    key("api.socket", Kind::Text, |raw, values| one(&mut raw.api_socket, values, path)),
    key("log-level", Kind::Text, |raw, values| one(&mut raw.log_level, values, value::log_level)),
    key("log-format", Kind::Text, |raw, values| one(&mut raw.log_format, values, value::log_format)),
];

const fn key(name: &'static str, kind: Kind, set: Set) -> Key {
    Key { name, kind, set }
}

type Parse<T> = fn(&str) -> Result<T, String>;

fn one<T>(field: &mut Option<T>, values: &[String], parse: Parse<T>) -> Result<(), String> {
    for value in values {
        *field = Some(parse(value)?);
    }
    Ok(())
}

fn list<T>(field: &mut Option<Vec<T>>, values: &[String], parse: Parse<T>) -> Result<(), String> {
    *field = Some(values.iter().map(|value| parse(value)).collect::<Result<_, _>>()?);
    Ok(())
}

fn switch(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| "must be true or false".to_owned())
}

fn path(value: &str) -> Result<std::path::PathBuf, String> {
    if value.is_empty() { Err("must be a path".to_owned()) } else { Ok(value.into()) }
}

/// Reads the text of the file at `path`.
pub(super) fn parse(text: &str, path: &Path) -> Result<RawSettings, ConfigError> {
    let file = File { text, path };
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: file.line(error.span().map_or(0, |span| span.start)),
        message: error.message().replace('\n', ", "),
    })?;
    let mut raw = RawSettings::default();
    file.read(table.get_ref(), "", &mut raw)?;
    Ok(raw)
}

struct File<'a> {
    text: &'a str,
    path: &'a Path,
}

impl File<'_> {
    fn read(&self, table: &DeTable<'_>, prefix: &str, raw: &mut RawSettings) -> Result<(), ConfigError> {
        for (name, value) in table {
            let name = format!("{prefix}{}", name.get_ref());
            match KEYS.iter().find(|key| key.name == name) {
                Some(key) => self.set(key, value, raw)?,
                None => match value.get_ref() {
                    DeValue::Table(inner) if is_table(&name) => self.read(inner, &format!("{name}."), raw)?,
                    _ => return Err(self.unknown(name, value)),
                },
            }
        }
        Ok(())
    }

    fn set(&self, key: &Key, value: &Spanned<DeValue<'_>>, raw: &mut RawSettings) -> Result<(), ConfigError> {
        texts(value.get_ref(), key.kind).and_then(|values| (key.set)(raw, &values)).map_err(|expected| {
            ConfigError::BadValue {
                path: self.path.to_owned(),
                line: self.line(value.span().start),
                key: key.name,
                value: self.written(value),
                expected,
            }
        })
    }

    fn unknown(&self, key: String, value: &Spanned<DeValue<'_>>) -> ConfigError {
        ConfigError::UnknownKey {
            path: self.path.to_owned(),
            line: self.line(value.span().start),
            value: self.written(value),
            hint: hint(&key),
            key,
        }
    }

    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }

    /// The value as it stands in the file, on one line.
    fn written(&self, value: &Spanned<DeValue<'_>>) -> String {
        let text = self.text.get(value.span()).unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

fn is_table(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// The texts of a value of this kind.
fn texts(value: &DeValue<'_>, kind: Kind) -> Result<Vec<String>, String> {
    match (kind, value) {
        (Kind::Text | Kind::List, DeValue::String(text)) => Ok(vec![text.to_string()]),
        (Kind::Number, DeValue::Integer(number)) => Ok(vec![decimal(number)]),
        (Kind::Switch, DeValue::Boolean(on)) => Ok(vec![on.to_string()]),
        (Kind::List, DeValue::Array(values)) => {
            let texts: Option<Vec<_>> =
                values.iter().map(|value| value.get_ref().as_str().map(str::to_owned)).collect();
            texts.ok_or_else(|| "must be a list of strings".to_owned())
        }
        (Kind::Text, _) => Err("must be a string in quotes".to_owned()),
        (Kind::Switch, _) => Err("must be true or false, without quotes".to_owned()),
        (Kind::Number, _) => Err("must be a whole number without quotes".to_owned()),
        (Kind::List, _) => Err("must be a string or a list of strings".to_owned()),
    }
}

fn decimal(number: &DeInteger<'_>) -> String {
    i64::from_str_radix(number.as_str(), number.radix())
        .map_or_else(|_| number.as_str().to_owned(), |number| number.to_string())
}

/// The key that was meant, or all there are.
fn hint(key: &str) -> String {
    let near = KEYS
        .iter()
        .map(|known| (strsim::jaro_winkler(known.name, key), known.name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity > 0.85);
    match near {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("the keys are {}", KEYS.map(|key| key.name).join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracker_detect::syn::Sensitivity;

    use super::*;
    use crate::kernel::{Hook, SocketEvents};

    fn read(text: &str) -> Result<RawSettings, String> {
        parse(text, Path::new("t.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_sets_its_setting() {
        let raw = read(
            r#"
            interface = ["eth0", "veth*"]
            hook = "tc"
            socket-events = "raw_tp"
            btf = "/boot/btf"
            lifetime-sample = 0x10
            census-interval = "2s"
            all-netns = true
            trace-bind = false
            sensitivity = "high"
            detector.record = "/tmp/r"
            log-level = "debug"
            log-format = "json"
            api.socket = "/tmp/s"
            [web]
            listen-address = "[::1]:1"
            telemetry-path = "/m"
            "#,
        )
        .unwrap();
        assert_eq!(raw.interface.unwrap(), ["eth0", "veth*"]);
        assert_eq!((raw.hook, raw.socket_events), (Some(Hook::Tc), Some(SocketEvents::RawTp)));
        assert_eq!((raw.btf.unwrap(), raw.api_socket.unwrap()), ("/boot/btf".into(), "/tmp/s".into()));
        assert_eq!((raw.all_netns, raw.trace_bind), (Some(true), Some(false)));
        assert_eq!((raw.lifetime_sample, raw.census_interval), (Some(16), Some(Duration::from_secs(2))));
        assert_eq!((raw.sensitivity, raw.detector_record), (Some(Sensitivity::High), Some("/tmp/r".into())));
        assert_eq!(raw.web_listen_address.unwrap(), ["[::1]:1".parse().unwrap()]);
        assert_eq!(raw.web_telemetry_path.as_deref(), Some("/m"));
        assert!(raw.log_level.is_some() && raw.log_format.is_some());
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_the_key_that_was_meant() {
        assert_eq!(
            read("hook = 'tc'\nweb.listen-adress = 'x'").unwrap_err(),
            "t.toml:2: unknown key `web.listen-adress` (= 'x'); did you mean `web.listen-address`?"
        );
        let error = read("[zzz]\na = 1").unwrap_err();
        assert!(error.starts_with("t.toml:1: unknown key `zzz`") && error.contains("the keys are interface, hook,"));
    }

    #[test]
    fn a_bad_value_is_refused_with_key_value_place_and_what_would_be_right() {
        assert_eq!(read("\n\nhook = 'foo'").unwrap_err(), "t.toml:3: hook = 'foo': must be one of auto, xdp, tc");
        assert_eq!(
            read("[web]\ntelemetry-path = 1").unwrap_err(),
            "t.toml:2: web.telemetry-path = 1: must be a string in quotes"
        );
        assert_eq!(
            read("interface = [\n'a', 1]").unwrap_err(),
            "t.toml:1: interface = [ 'a', 1]: must be a list of strings"
        );
        assert_eq!(
            read("lifetime-sample = 3").unwrap_err(),
            "t.toml:1: lifetime-sample = 3: must be a power of two from 1 to 65536"
        );
        assert_eq!(
            read("lifetime-sample = '8'").unwrap_err(),
            "t.toml:1: lifetime-sample = '8': must be a whole number without quotes"
        );
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_place() {
        let error = read("hook = 'tc'\nhook = 'xdp'").unwrap_err();
        assert!(error.starts_with("t.toml:2: ") && !error.contains('\n'), "{error}");
        assert!(read("hook").unwrap_err().starts_with("t.toml:1: "));
    }
}
