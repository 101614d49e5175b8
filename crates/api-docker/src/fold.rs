//! Reading JSON as Go's `encoding/json` does: a key fits a field whatever its case, an exact fit first.
//!
//! Clients rely on it without knowing (docker-py writes `detachKeys` and `CPURealtimePeriod`). Only the fields of structs are
//! fitted; keys of maps (labels, options) are people's data and stay as they are. `serde(flatten)` hides a struct's fields
//! from a deserializer, so types that are read here do not use it for reading.

mod error;
mod syntax;

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor, value::StrDeserializer},
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};

pub(crate) use error::Error;
use error::{Probe, kind};
pub(crate) use syntax::explain;

/// `value` as a `T`.
pub(crate) fn from_value<T: for<'de> Deserialize<'de>>(value: Value) -> Result<T, Error> {
    T::deserialize(Folded(value))
}

/// The value of a field in an object.
pub(crate) fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let map = value.as_object()?;
    map.get(name).or_else(|| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v))
}

struct Folded(Value);

macro_rules! numbers {
    ($($method:ident $name:literal,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0 {
                // What is no whole number, or too large, is named with its digits.
                Value::Number(number) => Value::Number(number.clone())
                    .$method(visitor)
                    .map_err(|_| Error::mismatch(format!("number {number}"), $name)),
                other => Err(Error::mismatch(kind(&other), $name)),
            }
        }
    )*};
}

/// Keys become the names of the fields they fit; what fits none is ignored later, as in dockerd.
fn fit(map: Map<String, Value>, fields: &[&str]) -> Map<String, Value> {
    let mut fitted = Map::with_capacity(map.len());
    let mut loose = Vec::new();
    for (key, value) in map {
        if fields.contains(&key.as_str()) {
            fitted.insert(key, value);
        } else {
            loose.push((key, value));
        }
    }
    for (key, value) in loose {
        if let Some(name) = fields.iter().find(|name| name.eq_ignore_ascii_case(&key)) {
            fitted.entry(*name).or_insert(value);
        }
    }
    fitted
}

impl<'de> Deserializer<'de> for Folded {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => visitor.visit_map(Entries::of(map, None)),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            plain => plain.deserialize_any(visitor).map_err(Error::from),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            other => Err(Error::mismatch(kind(&other), "string")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Bool(value) => visitor.visit_bool(value),
            other => Err(Error::mismatch(kind(&other), "bool")),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            other => Err(Error::mismatch(kind(&other), format!("[]{}", Probe::of_items(visitor)))),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => visitor.visit_map(Entries::of(map, None)),
            other => Err(Error::mismatch(kind(&other), format!("map[string]{}", Probe::of_entries(visitor)))),
        }
    }

    numbers! {
        deserialize_i32 "int", deserialize_i64 "int64", deserialize_u8 "int", deserialize_u16 "uint16",
        deserialize_u32 "uint32", deserialize_u64 "uint64", deserialize_f64 "float64",
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => visitor.visit_map(Entries::of(fit(map, fields), Some(name))),
            // serde would read a struct from a list as well, field by field; Go does not.
            other => Err(Error::mismatch(kind(&other), error::go_type(name))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor).map_err(Error::from)
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u128 f32 char bytes byte_buf unit unit_struct tuple_struct identifier ignored_any
    }
}

/// The entries of an object; of a struct's, where its name is known.
struct Entries {
    rest: serde_json::map::IntoIter,
    value: Option<(String, Value)>,
    of: Option<&'static str>,
}

impl Entries {
    fn of(map: Map<String, Value>, of: Option<&'static str>) -> Self {
        Self { rest: map.into_iter(), value: None, of }
    }
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        let read = seed.deserialize(StrDeserializer::new(&key)).map(Some);
        self.value = Some((key, value));
        read
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let (key, value) = self.value.take().unwrap_or_default();
        seed.deserialize(Folded(value)).map_err(|error| match self.of {
            Some(name) => error.within(name, &key),
            None => error,
        })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Items {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        self.0.next().map(|value| seed.deserialize(Folded(value))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        detach_keys: String,
        labels: BTreeMap<String, String>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        count: i64,
        list: Vec<Inner>,
        one: Option<Inner>,
    }

    #[test]
    fn keys_fit_in_any_case_at_every_depth_and_people_keep_theirs() {
        let value = json!({
            "COUNT": 3, "unknown": {}, "list": [{"detachKeys": "a", "Labels": {"count": "x", "COUNT": "y"}}],
            "One": {"DetachKeys": "exact", "detachkeys": "loose"},
        });
        let outer: Outer = from_value(value).unwrap();
        assert_eq!(outer.count, 3);
        assert_eq!(outer.list[0].detach_keys, "a");
        assert_eq!(outer.list[0].labels.len(), 2);
        assert_eq!(outer.one.map(|o| o.detach_keys).as_deref(), Some("exact"));
        for (value, text) in [
            (json!([]), "array into Go value of type container.Outer"),
            (json!({"Count": "three"}), "string into Go struct field Outer.Count of type int64"),
            (json!({"Count": 1.5}), "number 1.5 into Go struct field Outer.Count of type int64"),
            (json!({"List": {}}), "object into Go struct field Outer.List of type []container.Inner"),
            (
                json!({"one": {"labels": 1}}),
                "number into Go struct field Inner.One.Labels of type map[string]string",
            ),
            (
                json!({"One": {"Labels": {"a": true}}}),
                "bool into Go struct field Inner.One.Labels of type string",
            ),
            (json!({"List": [{}, "x"]}), "string into Go struct field Outer.List of type container.Inner"),
        ] {
            let error = from_value::<Outer>(value.clone()).unwrap_err().to_string();
            assert_eq!(error, format!("json: cannot unmarshal {text}"), "{value}");
        }
    }
}
