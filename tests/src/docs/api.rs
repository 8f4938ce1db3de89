//! The parameters and fields of docs/api.md: a table for each query and answer, from their types and the comments of
//! these.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde_json::Value;
use tracker_model::{
    api::{AlertKind, Alerts, ApiError, Ports, States, Status},
    explain::{BindAnswer, BindQuery, ConnectAnswer, ConnectQuery, ListenAnswer, ListenQuery},
    listener::Listeners,
};

use super::tables::table;

/// Types that have a table of their own, by their reference, with the link to it.
const APART: [(&str, &str); 1] = [("#/$defs/AlertKind", "[kinds of alert](#kinds-of-alert)")];

/// The table of each answer, with its name.
pub(super) fn tables() -> Vec<(String, String)> {
    let answers = [
        ("errors", fields::<ApiError>()),
        ("status", fields::<Status>()),
        ("listeners", fields::<Listeners>()),
        ("states", fields::<States>()),
        ("alerts", fields::<Alerts>()),
        ("ports", fields::<Ports>()),
        ("explain/connect", fields::<ConnectAnswer>()),
        ("explain/bind", fields::<BindAnswer>()),
        ("explain/listen", fields::<ListenAnswer>()),
    ];
    let queries = [
        ("explain/connect", parameters::<ConnectQuery>()),
        ("explain/bind", parameters::<BindQuery>()),
        ("explain/listen", parameters::<ListenQuery>()),
    ];
    let fields = answers.into_iter().map(|(name, fields)| (format!("fields of {name}"), fields));
    let fields = fields.chain([("kinds of alert".to_owned(), values::<AlertKind>("kind"))]);
    fields.chain(queries.into_iter().map(|(name, rows)| (format!("parameters of {name}"), rows))).collect()
}

/// The parameters of one query.
fn parameters<T: JsonSchema>() -> String {
    let schema = schemars::schema_for!(T);
    let rows = schema.as_value()["properties"].as_object().into_iter().flatten();
    table(["parameter", "meaning"], rows.map(|(name, of)| [format!("`?{name}`"), meaning(of)]))
}

/// The values of an enumeration.
fn values<T: JsonSchema>(name: &str) -> String {
    let schema = schemars::schema_for!(T);
    let values = schema.as_value()["oneOf"].as_array().into_iter().flatten();
    let row = |of: &Value| Some([format!("`{}`", of["const"].as_str()?), meaning(of)]);
    table([name, "meaning"], values.filter_map(row))
}

/// The fields of one answer.
fn fields<T: JsonSchema>() -> String {
    let schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    let described = APART.map(|(name, link)| (name, link.to_owned())).into();
    let mut answer = Answer { schema: &schema, described, rows: Vec::new() };
    answer.add_fields("", schema.as_value());
    table(["field", "type", "meaning"], answer.rows.into_iter())
}

/// An answer while its rows are made.
struct Answer<'a> {
    schema: &'a Schema,
    /// Where each type was described first: it is not described again.
    described: BTreeMap<&'a str, String>,
    rows: Vec<[String; 3]>,
}

impl<'a> Answer<'a> {
    fn add_fields(&mut self, path: &str, object: &'a Value) {
        let required = object["required"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (name, field) in object["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let row = self.rows.len();
            self.add(&path, field, &meaning(field));
            // A field that may be missing is one of a structure that is not known as a whole: then it is null.
            let kinds = &mut self.rows[row][1];
            if !required.contains(&name.as_str().into()) && !kinds.ends_with("null") {
                *kinds += " or null";
            }
        }
    }

    /// Adds the row of a field, and those of the fields in it.
    fn add(&mut self, path: &str, field: &'a Value, meaning: &str) {
        if let Some(items) = field.get("items") {
            return self.add(&format!("{path}[]"), items, meaning);
        }
        if let Some(values) = map(field) {
            return self.add(&format!("{path}.*"), values, meaning);
        }
        let any = field["anyOf"].as_array().map_or(vec![field], |any| any.iter().collect());
        let row = self.rows.len();
        self.rows.push([format!("`{path}`"), self.kinds(&any).join(" or "), meaning.to_owned()]);
        for part in any {
            let name = part["$ref"].as_str();
            let note = if let Some(first) = name.and_then(|name| self.described.get(name)) {
                format!("; see {first}")
            } else {
                self.described.extend(name.map(|name| (name, format!("`{path}`"))));
                self.describe(path, self.resolve(part))
            };
            self.rows[row][2] += &note;
        }
    }

    /// Adds the fields of a type; or says which values it has.
    fn describe(&mut self, path: &str, part: &'a Value) -> String {
        self.add_fields(path, part);
        // One of several structures: each has rows for its fields.
        for part in part["anyOf"].as_array().into_iter().flatten() {
            self.add_fields(path, self.resolve(part));
        }
        if let Some(values) = map(part) {
            self.add(&format!("{path}.*"), values, &meaning(part));
        }
        let values: Vec<_> = part["oneOf"].as_array().into_iter().flatten().filter_map(value).collect();
        if values.is_empty() { String::new() } else { format!(". {}", values.join("; ")) }
    }

    fn resolve(&self, part: &'a Value) -> &'a Value {
        let pointer = part["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        pointer.and_then(|pointer| self.schema.pointer(pointer)).unwrap_or(part)
    }

    /// Types as they are in JSON; null last.
    fn kinds(&self, parts: &[&'a Value]) -> Vec<&'a str> {
        let mut kinds = Vec::new();
        for part in parts {
            let part = self.resolve(part);
            if let Some(any) = part["anyOf"].as_array() {
                kinds.extend(self.kinds(&any.iter().collect::<Vec<_>>()));
                continue;
            }
            kinds.extend(match part["format"].as_str() {
                Some("ip") => Some("address"),
                Some("date-time") => Some("time"),
                _ if part.get("oneOf").is_some() => Some("string"),
                _ => None,
            });
            let types = part["type"].as_array().map_or(vec![&part["type"]], |types| types.iter().collect());
            let types = types.into_iter().filter_map(Value::as_str);
            kinds.extend(types.filter(|kind| *kind != "string" || part.get("format").is_none()));
        }
        kinds.sort_by_key(|kind| *kind == "null");
        kinds.dedup();
        kinds
    }
}

/// What the values of a map are like.
fn map(of: &Value) -> Option<&Value> {
    let keys_are_numbers = of["patternProperties"].as_object().and_then(|patterns| patterns.values().next());
    of.get("additionalProperties").filter(|values| values.is_object()).or(keys_are_numbers)
}

/// A comment in one line.
fn meaning(of: &Value) -> String {
    let text = of["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

/// A value of an enumeration, and what it means.
fn value(of: &Value) -> Option<String> {
    let meaning = meaning(of);
    let mut letters = meaning.chars();
    let first = letters.next()?;
    // A name in capitals stays as it is.
    let is_name = letters.clone().next().is_some_and(char::is_uppercase);
    let first = if is_name { first } else { first.to_ascii_lowercase() };
    Some(format!("`{}`: {first}{}", of["const"].as_str()?, letters.as_str()))
}
