//! Reading JSON as Go's `encoding/json` does: a key fits a field whatever its case, an exact fit first.
//!
//! Clients rely on it without knowing (docker-py writes `detachKeys` and `CPURealtimePeriod`). Only the fields of structs are
//! fitted; keys of maps (labels, options) are people's data and stay as they are. `serde(flatten)` hides a struct's fields
//! from a deserializer, so types that are read here do not use it for reading.

use serde::{
    Deserialize,
    de::{
        DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor,
        value::StrDeserializer,
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Map, Value};

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
            Value::Object(map) => visitor.visit_map(Entries { rest: map.into_iter(), value: None }),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            plain => plain.deserialize_any(visitor),
        }
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
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => Folded(Value::Object(fit(map, fields))).deserialize_any(visitor),
            // serde would read a struct from a list as well, field by field; Go does not.
            Value::Array(_) => Err(Error::invalid_type(Unexpected::Seq, &visitor)),
            other => Folded(other).deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier ignored_any
    }
}

struct Entries {
    rest: serde_json::map::IntoIter,
    value: Option<Value>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(StrDeserializer::new(&key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(Folded(self.value.take().unwrap_or_default()))
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
        assert!(from_value::<Outer>(json!({"Count": "three"})).is_err());
        assert!(from_value::<Outer>(json!([])).is_err());
    }
}
