//! JSON values that borrow their parts, so that a line takes no allocation but its own.

use serde::{Serialize, Serializer};

/// A value. Fields keep their order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Json<'a> {
    Text(&'a str),
    Bool(bool),
    Integer(u64),
    /// JSON has no infinity; serde_json writes `null` for it.
    Float(f64),
    Object(&'a [(&'a str, Json<'a>)]),
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Text(text) => serializer.serialize_str(text),
            Json::Bool(value) => serializer.serialize_bool(*value),
            Json::Integer(number) => serializer.serialize_u64(*number),
            Json::Float(number) => serializer.serialize_f64(*number),
            Json::Object(fields) => {
                serializer.collect_map(fields.iter().map(|(name, value)| (name, value)))
            }
        }
    }
}

impl Json<'_> {
    /// The value on one line.
    pub(crate) fn to_line(self) -> String {
        // Every value of this type can be written.
        serde_json::to_string(&self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Json::{Float, Integer, Object, Text};

    #[test]
    fn a_line_has_its_fields_in_order_and_escapes_text() {
        let inner = [("n", Integer(7)), ("x", Float(0.25))];
        let fields = [("text", Text("a\"\n\u{1b}")), ("args", Object(&inner))];
        assert_eq!(
            Object(&fields).to_line(),
            r#"{"text":"a\"\n\u001b","args":{"n":7,"x":0.25}}"#
        );
    }
}
