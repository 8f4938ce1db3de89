//! Structures in JSON that may be missing: their fields are there all the same, as null.

use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeMap as _},
};

/// A structure's fields, each null when there is none.
#[expect(clippy::ref_option, reason = "serde passes the field itself")]
pub(crate) fn fields_or_nulls<T: Serialize + Default, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if let Some(value) = value {
        return value.serialize(serializer);
    }
    let fields = serde_json::to_value(T::default()).map_err(S::Error::custom)?;
    let names = fields.as_object().map(|fields| fields.keys()).into_iter().flatten();
    let mut nulls = serializer.serialize_map(None)?;
    for name in names {
        nulls.serialize_entry(name, &())?;
    }
    nulls.end()
}
