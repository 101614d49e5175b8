//! Values as they are stored: the resource's JSON object with `"v": SCHEMA` put first.
//!
//! Older schemas are translated by the kind's own [`Resource::upgrade`]; newer ones are refused, so that an old
//! Weft never drops fields it does not know.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::Deserialize;
use weft_model::Resource;

use crate::StoreError;

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// The stored form of `value`.
pub(crate) fn encode<R: Resource>(key: &str, value: &R) -> Result<Bytes, StoreError> {
    let fail = |reason: String| StoreError::Encode { key: key.to_owned(), reason };
    let json = serde_json::to_vec(value).map_err(|e| fail(e.to_string()))?;
    let Some((b'{', rest)) = json.split_first() else {
        return Err(fail("a resource must be a JSON object".to_owned()));
    };
    let comma = if rest.first() == Some(&b'}') { "" } else { "," };
    let mut out = format!("{{\"v\":{}{comma}", R::SCHEMA).into_bytes();
    out.extend_from_slice(rest);
    Ok(out.into())
}

/// Reads the stored form, translating older schemas.
pub(crate) fn decode<R: Resource>(key: &[u8], value: &[u8]) -> Result<R, StoreError> {
    let key = || String::from_utf8_lossy(key).into_owned();
    let broken = |source| StoreError::Decode { key: key(), source: Arc::new(source) };
    let Version { v } = serde_json::from_slice(value).map_err(broken)?;
    if v == R::SCHEMA {
        return serde_json::from_slice(value).map_err(broken);
    }
    if v > R::SCHEMA {
        return Err(StoreError::NewerValue { key: key(), found: v, known: R::SCHEMA });
    }
    let mut fields: BTreeMap<String, serde_json::Value> = serde_json::from_slice(value).map_err(broken)?;
    fields.remove("v");
    let mut json = serde_json::Value::Object(fields.into_iter().collect());
    R::upgrade(v, &mut json).map_err(|reason| StoreError::Upgrade { key: key(), from: v, reason })?;
    serde_json::from_value(json).map_err(broken)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use weft_model::Scope;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Loom {
        name: String,
        threads: u32,
    }
    impl Resource for Loom {
        const KIND: &'static str = "loom";
        const SCOPE: Scope = Scope::Host;
        const SCHEMA: u32 = 2;
        fn key(&self) -> String {
            self.name.clone()
        }
        fn upgrade(from: u32, value: &mut serde_json::Value) -> Result<(), String> {
            if from != 1 {
                return Err("too old".into());
            }
            let yarns = value.get("yarns").cloned().ok_or("no yarns")?;
            value["threads"] = yarns;
            Ok(())
        }
    }

    #[test]
    fn the_version_comes_first_and_reads_back() {
        let loom = Loom { name: "a".into(), threads: 3 };
        let bytes = encode("k", &loom).unwrap();
        assert_eq!(&bytes[..], br#"{"v":2,"name":"a","threads":3}"#);
        assert_eq!(decode::<Loom>(b"k", &bytes).unwrap(), loom);
    }

    #[test]
    fn older_is_upgraded_newer_and_broken_are_refused_with_the_key() {
        let old = decode::<Loom>(b"k", br#"{"v":1,"name":"a","yarns":4}"#).unwrap();
        assert_eq!(old, Loom { name: "a".into(), threads: 4 });
        let cases: [(&[u8], &str); 5] = [
            (br#"{"v":3,"name":"a"}"#, "/k has schema 3"),
            (br#"{"v":0,"name":"a"}"#, "cannot upgrade /k from schema 0: too old"),
            (br#"{"v":2,"name":"a"}"#, "cannot read /k"),
            (br#"{"name":"a"}"#, "cannot read /k"),
            (b"\xff", "cannot read /k"),
        ];
        for (value, expected) in cases {
            let error = decode::<Loom>(b"/k", value).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
