//! What the tests of the program share: running it, and holding its JSON against the schema.

use std::process::{Command, Output};

use serde_json::Value;

/// The program, with these arguments.
pub(crate) fn gpurx(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpurx"));
    command.args(line.split_whitespace()).env("RUST_BACKTRACE", "0");
    command
}

/// Exit code, stdout and stderr of a run.
pub(crate) fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Runs it; it must end with `code`.
pub(crate) fn run(line: &str, code: i32) -> (String, String) {
    let (got, stdout, stderr) = outcome(&gpurx(line).output().unwrap());
    assert_eq!(got, code, "gpurx {line}\n{stdout}\n{stderr}");
    (stdout, stderr)
}

/// Runs it with `--json`; it must end well, with JSON that fits the schema and adds up.
pub(crate) fn json(line: &str) -> Value {
    let (stdout, _) = run(&format!("{line} --json"), 0);
    let summary: Value = serde_json::from_str(&stdout).unwrap();
    check_summary(&summary);
    summary
}

pub(crate) fn schema() -> Value {
    serde_json::from_str(include_str!("../../../../docs/schema/gpurx.json")).unwrap()
}

/// Schema, and the laws that a schema cannot state.
pub(crate) fn check_summary(summary: &Value) {
    let mut wrong = Vec::new();
    check(&schema(), summary, "$", &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let sum = |part: &str| -> u64 {
        summary[part].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum()
    };
    let number = |field: &str| summary[field].as_u64().unwrap();
    assert_eq!(number("offered"), number("rx_packets") + sum("drops"), "{summary}");
    assert_eq!(number("rx_packets"), sum("frames"), "{summary}");
    for pool in summary["pool"].as_array().unwrap() {
        for away in ["in_flight", "held", "leaked"] {
            assert_eq!(pool[away], 0, "{pool}");
        }
    }
}

/// As much of JSON Schema as the file uses.
pub(crate) fn check(schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    if let Some(types) = schema.get("type") {
        let is = |name: &Value| match name.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            other => panic!("{at}: type {other} is not checked here"),
        };
        let fits = types.as_array().map_or_else(|| is(types), |types| types.iter().any(is));
        if !fits {
            wrong.push(format!("{at}: {value} is no {types}"));
        }
    }
    if schema.get("const").is_some_and(|only| only != value) {
        wrong.push(format!("{at}: {value} is not {}", schema["const"]));
    }
    if schema.get("enum").is_some_and(|all| !all.as_array().unwrap().contains(value)) {
        wrong.push(format!("{at}: {value} is none of {}", schema["enum"]));
    }
    if let (Some(least), Some(value)) = (schema.get("minimum"), value.as_f64())
        && value < least.as_f64().unwrap()
    {
        wrong.push(format!("{at}: {value} is less than {least}"));
    }
    if let Some(any) = schema.get("anyOf") {
        let fits = any.as_array().unwrap().iter().any(|schema| {
            let mut wrong = Vec::new();
            check(schema, value, at, &mut wrong);
            wrong.is_empty()
        });
        if !fits {
            wrong.push(format!("{at}: {value} fits nothing of anyOf"));
        }
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        for (index, value) in values.iter().enumerate() {
            check(items, value, &format!("{at}[{index}]"), wrong);
        }
    }
    let Some(fields) = value.as_object() else { return };
    let Some(properties) = schema.get("properties") else { return };
    for name in schema["required"].as_array().unwrap() {
        if !fields.contains_key(name.as_str().unwrap()) {
            wrong.push(format!("{at}: {name} is missing"));
        }
    }
    for (name, value) in fields {
        let at = format!("{at}.{name}");
        match (properties.get(name), &schema["additionalProperties"]) {
            (Some(schema), _) => check(schema, value, &at, wrong),
            (None, Value::Bool(false)) => wrong.push(format!("{at}: not in the schema")),
            (None, others) => check(others, value, &at, wrong),
        }
    }
}
