//! JSON values that borrow their parts, so that a line takes no allocation but its own.

/// A value. Fields keep their order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Json<'a> {
    Text(&'a str),
    Bool(bool),
    Integer(u64),
    /// JSON has no infinity; serde_json writes `null` for it.
    Float(f64),
    Object(&'a [Field<'a>]),
}

pub(crate) type Field<'a> = (&'a str, Json<'a>);

/// An object with the fields of all parts, on one line.
///
/// Only numbers and texts with escapes are left to serde_json: it takes three times as long for an
/// object, and a trace has several for each message.
pub(crate) fn object(parts: &[&[Field<'_>]]) -> String {
    let mut line = Vec::with_capacity(256);
    write_object(&mut line, parts);
    // It is UTF-8, because its parts are.
    String::from_utf8(line).unwrap_or_default()
}

fn write_object(line: &mut Vec<u8>, parts: &[&[Field<'_>]]) {
    line.push(b'{');
    for (at, (name, value)) in parts.iter().copied().flatten().enumerate() {
        if at > 0 {
            line.push(b',');
        }
        write_text(line, name);
        line.push(b':');
        value.write(line);
    }
    line.push(b'}');
}

fn write_text(line: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        line.push(b'"');
        line.extend_from_slice(text.as_bytes());
        line.push(b'"');
    } else {
        write_value(line, text);
    }
}

/// Every value of these types can be written, and writing to memory does not fail.
fn write_value(line: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    let _ = serde_json::to_writer(line, value);
}

impl Json<'_> {
    fn write(&self, line: &mut Vec<u8>) {
        match self {
            Json::Text(text) => write_text(line, text),
            Json::Bool(value) => write_value(line, value),
            Json::Integer(number) => write_value(line, number),
            Json::Float(number) => write_value(line, number),
            Json::Object(fields) => write_object(line, &[fields]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Json::{Bool, Float, Integer, Object, Text};
    use super::object;

    #[test]
    fn a_line_has_its_fields_in_order_and_escapes_text() {
        let inner = [("n", Integer(7)), ("x", Float(0.25))];
        let fields = [("text", Text("a\"\n\u{1b}")), ("args", Object(&inner))];
        assert_eq!(
            object(&[&fields, &[], &[("é", Bool(true))]]),
            r#"{"text":"a\"\n\u001b","args":{"n":7,"x":0.25},"é":true}"#
        );
        assert_eq!(object(&[]), "{}");
    }

    /// The parser of serde_json gives back what was written.
    #[test]
    fn every_character_is_written_as_json() {
        for code in (0..0x2100).chain([0xfffd, 0x1f600]) {
            let Some(character) = char::from_u32(code) else {
                continue;
            };
            let text = format!("a{character}b");
            let line = object(&[&[(&text, Text(&text)), ("none", Float(f64::INFINITY))]]);
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value[&text], text, "{line}");
            assert!(value["none"].is_null(), "{line}");
        }
    }
}
