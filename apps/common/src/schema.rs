//! Holds JSON output against a JSON Schema file: the part of the language that this project's
//! schemas use, for tests. An unknown keyword is an error, never a silent yes.

use serde_json::{Map, Value};

/// Keywords that describe and demand nothing.
const NOTES: [&str; 5] = ["$schema", "$id", "$defs", "title", "description"];

/// Checks `value` against `schema`.
///
/// # Errors
/// The path of the first value that does not fit, and why; or a keyword that is not understood.
pub fn check(schema: &Value, value: &Value) -> Result<(), String> {
    Checker { root: schema }.check(schema, value, "$")
}

struct Checker<'a> {
    root: &'a Value,
}

impl Checker<'_> {
    fn check(&self, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
        let Value::Object(rules) = schema else {
            return match schema {
                Value::Bool(true) => Ok(()),
                _ => Err(format!("{path}: not allowed")),
            };
        };
        for (keyword, rule) in rules {
            self.keyword(keyword, rule, rules, value, path)?;
        }
        Ok(())
    }

    fn keyword(
        &self,
        keyword: &str,
        rule: &Value,
        rules: &Map<String, Value>,
        value: &Value,
        path: &str,
    ) -> Result<(), String> {
        let fits = |fits: bool| {
            if fits {
                Ok(())
            } else {
                Err(format!("{path}: {value} does not fit {keyword} {rule}"))
            }
        };
        match keyword {
            "$ref" => {
                let pointer = rule.as_str().and_then(|text| text.strip_prefix('#'));
                let target = pointer.and_then(|pointer| self.root.pointer(pointer));
                let target = target.ok_or_else(|| format!("{path}: no such $ref {rule}"))?;
                self.check(target, value, path)
            }
            "type" => fits(match rule {
                Value::Array(types) => types.iter().any(|name| is_type(name, value)),
                name => is_type(name, value),
            }),
            "const" => fits(rule == value),
            "enum" => fits(rule.as_array().is_some_and(|values| values.contains(value))),
            "minimum" => fits(value.as_f64() >= rule.as_f64()),
            "maximum" => fits(value.as_f64() <= rule.as_f64()),
            // Of objects alone: what else a value may be, `type` says.
            "required" if !value.is_object() => Ok(()),
            "required" => {
                let names = rule.as_array().into_iter().flatten().filter_map(Value::as_str);
                names.map(|name| (name, value.get(name))).try_for_each(|(name, found)| {
                    found.map(drop).ok_or_else(|| format!("{path}: '{name}' is missing"))
                })
            }
            "properties" => {
                let known = rule.as_object().into_iter().flatten();
                for (name, schema) in known {
                    if let Some(value) = value.get(name) {
                        self.check(schema, value, &format!("{path}.{name}"))?;
                    }
                }
                Ok(())
            }
            "additionalProperties" => {
                let known = rules.get("properties");
                for (name, value) in value.as_object().into_iter().flatten() {
                    if known.and_then(|known| known.get(name)).is_none() {
                        self.check(rule, value, &format!("{path}.{name}"))?;
                    }
                }
                Ok(())
            }
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                for (at, item) in items {
                    self.check(rule, item, &format!("{path}[{at}]"))?;
                }
                Ok(())
            }
            _ if NOTES.contains(&keyword) => Ok(()),
            _ => Err(format!("{path}: keyword {keyword} is not understood")),
        }
    }
}

fn is_type(name: &Value, value: &Value) -> bool {
    match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_u64() || value.is_i64(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_that_fits_passes_and_one_that_does_not_is_named() {
        let schema = json!({
            "type": "object", "required": ["n"], "additionalProperties": false,
            "properties": {
                "n": {"$ref": "#/$defs/count"},
                "kind": {"enum": ["a", "b"]},
                "rows": {"type": "array", "items": {"type": ["string", "null"]}},
                "part": {"type": ["object", "null"], "required": ["m"]}
            },
            "$defs": {"count": {"type": "integer", "minimum": 0}}
        });
        let says = |value| check(&schema, &value).err().unwrap_or_default();
        assert_eq!(says(json!({"n": 1, "kind": "a", "rows": ["x", null]})), "");
        assert_eq!(says(json!({})), "$: 'n' is missing");
        assert_eq!(says(json!({"n": 1, "part": null})), "");
        assert_eq!(says(json!({"n": 1, "part": {}})), "$.part: 'm' is missing");
        assert_eq!(says(json!({"n": -1})), "$.n: -1 does not fit minimum 0");
        assert_eq!(says(json!({"n": 1.5})), "$.n: 1.5 does not fit type \"integer\"");
        assert_eq!(says(json!({"n": 1, "m": 1})), "$.m: not allowed");
        assert!(says(json!({"n": 1, "kind": "c"})).contains("does not fit enum"));
        assert_eq!(
            says(json!({"n": 1, "rows": [1]})),
            "$.rows[0]: 1 does not fit type [\"string\",\"null\"]"
        );
    }

    #[test]
    fn a_keyword_that_is_not_understood_is_an_error() {
        let error = check(&json!({"pattern": "x"}), &json!("x")).unwrap_err();
        assert_eq!(error, "$: keyword pattern is not understood");
    }
}
