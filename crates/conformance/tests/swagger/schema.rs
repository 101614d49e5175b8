//! A validator for the part of Swagger 2.0 that Docker's document uses, as lenient as the document's reader, Go, is.
//!
//! - A null is taken where Go has a nil slice, map or pointer (arrays, objects, references) and where `x-nullable` says so.
//! - A field that the document does not have is reported unless its object is open (`additionalProperties`).
//! - Only what is `required` must be there: the document says so of few fields.

use serde_json::{Map, Value};

/// One version of the document.
pub struct Document(pub Value);

impl Document {
    /// The schema of an answer; `Err` where the document has no such operation or status.
    pub fn answer(&self, method: &str, path: &str, status: u16) -> Result<Option<&Value>, String> {
        let operation = &self.0["paths"][path][method.to_lowercase()];
        let answers =
            operation["responses"].as_object().ok_or_else(|| format!("no operation {method} {path}"))?;
        let answer = answers.get(&status.to_string()).ok_or_else(|| format!("no answer {status}"))?;
        Ok(answer.get("schema"))
    }

    /// What is wrong with `value`, each with the path to it.
    pub fn check(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        self.value(schema, value, "", &mut wrong);
        wrong
    }

    fn follow<'a>(&'a self, mut schema: &'a Value) -> &'a Value {
        while let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap_or_default();
            schema = &self.0["definitions"][name];
        }
        schema
    }

    /// The properties of an object schema with all its parts, and whether others may be there.
    fn properties<'a>(
        &'a self,
        schema: &'a Value,
        all: &mut Map<String, Value>,
        required: &mut Vec<String>,
    ) -> bool {
        let schema = self.follow(schema);
        let mut open = false;
        for part in schema["allOf"].as_array().into_iter().flatten() {
            open |= self.properties(part, all, required);
        }
        all.extend(schema["properties"].as_object().cloned().unwrap_or_default());
        required.extend(
            schema["required"].as_array().into_iter().flatten().filter_map(|r| Some(r.as_str()?.to_owned())),
        );
        open || (schema["properties"].is_null() && schema["allOf"].is_null())
    }

    fn value(&self, raw: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
        let schema = self.follow(raw);
        // `allOf` is also the document's way to describe a reference.
        if let (Some(only), true) = (schema["allOf"].get(0), schema["properties"].is_null())
            && schema["allOf"].as_array().is_some_and(|parts| parts.len() == 1)
            && !value.is_null()
        {
            return self.value(only, value, at, wrong);
        }
        let kind = schema["type"].as_str().unwrap_or(if schema["allOf"].is_null() { "" } else { "object" });
        if value.is_null() {
            let nullable = raw["x-nullable"] == true || schema["x-nullable"] == true;
            if !nullable && !matches!(kind, "" | "array" | "object") {
                wrong.push(format!("{at}: null where the document has {kind}"));
            }
            return;
        }
        let fits = match kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            _ => true,
        };
        if !fits {
            wrong.push(format!("{at}: {value} where the document has {kind}"));
            return;
        }
        if let Some(words) = schema["enum"].as_array()
            && !words.contains(value)
            && *value != ""
        {
            wrong.push(format!("{at}: {value} is not among {}", schema["enum"]));
        }
        match value {
            Value::String(text)
                if (schema["format"] == "dateTime" || schema["format"] == "date-time")
                    && !text.is_empty()
                    && !is_date(text) =>
            {
                wrong.push(format!("{at}: {text:?} is no date"));
            }
            Value::Number(number)
                if schema["format"] == "int32"
                    && number.as_i64().is_none_or(|n| i32::try_from(n).is_err()) =>
            {
                wrong.push(format!("{at}: {number} does not fit 32 bits"));
            }
            Value::Array(items) if !schema["items"].is_null() => {
                items.iter().for_each(|item| self.value(&schema["items"], item, &format!("{at}[]"), wrong));
            }
            Value::Object(map) => self.object(schema, map, at, wrong),
            _ => {}
        }
    }

    fn object(&self, schema: &Value, map: &Map<String, Value>, at: &str, wrong: &mut Vec<String>) {
        let (mut all, mut required) = (Map::new(), Vec::new());
        let open = self.properties(schema, &mut all, &mut required);
        for name in required.iter().filter(|name| !map.contains_key(*name)) {
            wrong.push(format!("{at}.{name}: missing"));
        }
        let others = &schema["additionalProperties"];
        for (key, value) in map {
            match all.get(key) {
                Some(schema) => self.value(schema, value, &format!("{at}.{key}"), wrong),
                None if others.is_object() => self.value(others, value, &format!("{at}.*"), wrong),
                None if open || *others == true => {}
                None => wrong.push(format!("{at}.{key}: not in the document")),
            }
        }
    }
}

/// `2026-01-02T03:04:05`, a fraction, `Z` or an offset.
fn is_date(text: &str) -> bool {
    let shape = "0000-00-00T00:00:00";
    let same = |(a, b): (u8, u8)| if b == b'0' { a.is_ascii_digit() } else { a == b };
    text.len() > shape.len()
        && text.bytes().zip(shape.bytes()).all(same)
        && (text.ends_with('Z') || text[shape.len()..].contains(['+', '-']))
}

#[test]
fn the_validator_sees_what_is_wrong() {
    let document = Document(serde_json::json!({"definitions": {
        "Base": {"type": "object", "required": ["Id"], "properties": {"Id": {"type": "string"}}},
        "Thing": {"allOf": [{"$ref": "#/definitions/Base"}, {"type": "object", "properties": {
            "Size": {"type": "integer", "format": "int32"}, "State": {"type": "string", "enum": ["on", "off"]},
            "At": {"type": "string", "format": "dateTime"}, "Names": {"type": "array", "items": {"type": "string"}},
            "Labels": {"type": "object", "additionalProperties": {"type": "string"}}
        }}]}
    }}));
    let schema = serde_json::json!({"$ref": "#/definitions/Thing"});
    for (value, expected) in [
        (
            serde_json::json!({"Id": "a", "Names": null, "Labels": {"x": "y"}, "At": "2026-01-02T03:04:05.6Z"}),
            "",
        ),
        (serde_json::json!({"Size": 1}), ".Id: missing"),
        (serde_json::json!({"Id": null}), ".Id: null where the document has string"),
        (serde_json::json!({"Id": "a", "Size": 1_u64 << 40}), ".Size: 1099511627776 does not fit 32 bits"),
        (serde_json::json!({"Id": "a", "Size": "1"}), ".Size: \"1\" where the document has integer"),
        (serde_json::json!({"Id": "a", "State": "dim"}), ".State: \"dim\" is not among [\"on\",\"off\"]"),
        (serde_json::json!({"Id": "a", "At": "yesterday"}), ".At: \"yesterday\" is no date"),
        (serde_json::json!({"Id": "a", "Names": [1]}), ".Names[]: 1 where the document has string"),
        (serde_json::json!({"Id": "a", "Labels": {"x": 1}}), ".Labels.*: 1 where the document has string"),
        (serde_json::json!({"Id": "a", "New": 1}), ".New: not in the document"),
    ] {
        assert_eq!(document.check(&schema, &value).join("; "), expected, "{value}");
    }
}
