//! The schema that is published against the decoder that is built: neither knows a key, a kind or a limit that the other
//! does not.

use serde_json::{Value as Json, json};

use super::super::object::{KEYS, NAME_CHARS_MAX};
use super::super::value::{ID_CHARS_MAX, TIME_MS_MAX, TIME_MS_MIN};
use super::super::{ATTRIBUTES_MAX, REPORTS_MAX};
use super::{decode, text};
use crate::frame::{AlarmKind, AttributeKey};

fn schema() -> Json {
    serde_json::from_str(include_str!("../../../../docs/schema/frame.schema.json")).unwrap()
}

fn names(object: &Json) -> Vec<&str> {
    let mut names: Vec<_> = object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

fn sorted<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_unstable();
    names
}

#[test]
fn the_schema_has_the_keys_kinds_attributes_and_limits_of_the_decoder() {
    let schema = schema();
    let defs = &schema["$defs"];
    let properties = &defs["report"]["properties"];
    assert_eq!(names(properties), sorted(KEYS.iter().copied()));
    let kinds: Vec<_> = AlarmKind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(defs["kind"]["enum"], json!(kinds));
    let attributes = &defs["attributes"];
    assert_eq!(
        names(&attributes["properties"]),
        sorted(AttributeKey::STANDARD.iter().map(|(name, _)| *name))
    );
    for (name, meaning) in AttributeKey::STANDARD {
        assert_eq!(attributes["properties"][name]["description"], *meaning);
    }
    assert_eq!(attributes["maxProperties"], ATTRIBUTES_MAX);
    assert_eq!(schema["oneOf"][1]["maxItems"], REPORTS_MAX);
    assert_eq!(properties["id"]["maxLength"], ID_CHARS_MAX);
    assert_eq!(properties["time"]["minimum"], TIME_MS_MIN);
    assert_eq!(properties["time"]["maximum"], TIME_MS_MAX);
    let pattern = "^[A-Za-z0-9._:-]{1,31}$";
    assert_eq!(properties["device"]["pattern"], pattern);
    let pattern = format!("^[A-Za-z0-9_.-]{{1,{NAME_CHARS_MAX}}}$");
    assert_eq!(attributes["propertyNames"]["pattern"], pattern);
}

#[test]
fn the_examples_of_the_schema_are_read_and_are_what_it_asks_for() {
    let schema = schema();
    let examples = schema["examples"].as_array().unwrap();
    assert!(examples.len() >= 3);
    for example in examples {
        assert_eq!(complaint(&schema, &schema, example), None, "{example}");
        let message = decode(&example.to_string()).unwrap();
        assert!(
            !message.reports.is_empty() && message.refused.is_none(),
            "{example}"
        );
    }
}

/// Each key with values at and beyond its edges: the decoder takes what the schema allows and refuses what it does not.
#[test]
fn decoder_and_schema_are_of_one_mind_about_every_key() {
    let schema = schema();
    let long = "x".repeat(65);
    let mut seen = Vec::new();
    for (key, values) in [
        (
            "device",
            json!([
                "b",
                "A.b_c:d-9",
                "",
                "a b",
                "a/b",
                7,
                null,
                true,
                "x".repeat(31),
                "x".repeat(32)
            ]),
        ),
        (
            "id",
            json!([
                0,
                -5,
                "a",
                "",
                &long[1..],
                long,
                true,
                [],
                null,
                1.5,
                u64::MAX,
                i64::MIN
            ]),
        ),
        (
            "time",
            json!([
                TIME_MS_MIN,
                TIME_MS_MIN - 1,
                TIME_MS_MAX,
                TIME_MS_MAX + 1,
                1781524800000.5,
                true,
                null
            ]),
        ),
        (
            "time",
            json!([
                "2026-06-15T12:00:00Z",
                "2026-06-15T12:00:00.123456+05:30",
                "yesterday",
                "2026-06-15"
            ]),
        ),
        ("lat", json!([-90, 90, 90.001, "1", true])),
        ("lon", json!([-180, 180, 180.001, "1", []])),
        ("valid", json!([true, false, null, 1, "true"])),
        (
            "altitude_m",
            json!([-400.5, 9000, null, 2147483.647, 2147484, "1"]),
        ),
        (
            "speed_m_s",
            json!([0, 11.5, null, -0.1, 4294967.295, 4294968, "1"]),
        ),
        ("course_deg", json!([0, 360, 360.1, -1, null, "N"])),
        ("satellites", json!([0, 255, 256, -1, null, "9", 1.5])),
        ("accuracy_m", json!([0, 2.5, -1, null, 4294968, []])),
        ("hdop", json!([0, 0.9, 99, -0.1, null, "1"])),
        (
            "alarms",
            json!([[], ["sos"], ["sos", "fall"], ["soss"], "sos", null, [1], {"sos": true}]),
        ),
        (
            "held",
            json!([[], ["power_cut"], ["Power_cut"], null, true]),
        ),
        (
            "attributes",
            json!([{}, null, {"a": 1}, {"a": null}, {"a": [1]}, {"a": {}}, [], {"a b": 1}, {"": 1}, 1]),
        ),
        (
            "attributes",
            json!([{"x".repeat(32): "t"}, {"x".repeat(33): "t"}, {"ignition": true, "own": -1.5}]),
        ),
        ("backlog", json!([true, false, null, 0])),
        ("speed", json!([1])),
    ] {
        seen.push(key);
        for value in values.as_array().unwrap() {
            let mut object = json!({"device": "a", "lat": 1, "lon": 2});
            object[key] = value.clone();
            if key == "device" && value.is_null() {
                // Whether it has to be there depends on the sensor.
                continue;
            }
            let allowed = complaint(&schema, &schema, &object);
            let read = decode(&object.to_string());
            let taken = read.is_ok_and(|message| message.refused.is_none());
            assert_eq!(
                taken,
                allowed.is_none(),
                "{object}: the schema says {allowed:?}"
            );
        }
    }
    for key in KEYS {
        assert!(seen.contains(key), "{key} is not tried");
    }
    let lonely = json!({"device": "a", "lat": 1});
    assert!(complaint(&schema, &schema, &lonely).is_some());
}

/// The lines of the documents' blocks are what they are shown for.
#[test]
fn the_lines_in_the_documents_are_read() {
    let document = include_str!("../../../../docs/protocols.md");
    let section = document.split("\n## JSON\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut blocks = section.split("```json\n").skip(1);
    let lines = blocks.next().unwrap().split("```").next().unwrap();
    let mut answers = String::new();
    for line in lines.lines() {
        let message = decode(line).unwrap();
        assert!(
            message.refused.is_none() || line.contains("speed_kmh"),
            "{line}"
        );
        answers += text(&message.answer_now);
        answers += text(&message.answer_when_safe);
    }
    assert_eq!(blocks.next().unwrap().split("```").next(), Some(&*answers));
}

/// What the schema has against a value, if anything. Only the words that our schema uses are known here; another one is a
/// reason to fail, so that no rule goes unheard.
fn complaint(root: &Json, schema: &Json, value: &Json) -> Option<String> {
    let fits = |schema: &Json, value: &Json| complaint(root, schema, value).is_none();
    for (word, rule) in schema.as_object().unwrap() {
        let number = value.as_f64();
        let holds = match word.as_str() {
            "$schema" | "$defs" | "title" | "description" | "examples" => true,
            "$ref" => {
                let path = rule.as_str().unwrap().trim_start_matches('#');
                fits(root.pointer(path).unwrap(), value)
            }
            "oneOf" => {
                rule.as_array()
                    .unwrap()
                    .iter()
                    .filter(|one| fits(one, value))
                    .count()
                    == 1
            }
            "type" => match rule {
                Json::Array(types) => types.iter().any(|name| is_a(name, value)),
                name => is_a(name, value),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => number.is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => number.is_none_or(|number| number <= rule.as_f64().unwrap()),
            "minLength" => chars(value).is_none_or(|count| count >= rule.as_u64().unwrap()),
            "maxLength" => chars(value).is_none_or(|count| count <= rule.as_u64().unwrap()),
            "maxItems" => value
                .as_array()
                .is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
            "items" => value
                .as_array()
                .is_none_or(|items| items.iter().all(|item| fits(rule, item))),
            "pattern" => value
                .as_str()
                .is_none_or(|text| matches(rule.as_str().unwrap(), text)),
            "format" => value
                .as_str()
                .is_none_or(|text| text.len() >= 20 && text.contains('T')),
            "maxProperties" => value
                .as_object()
                .is_none_or(|all| all.len() as u64 <= rule.as_u64().unwrap()),
            "propertyNames" => value
                .as_object()
                .is_none_or(|all| all.keys().all(|name| fits(rule, &json!(name)))),
            "properties" => value.as_object().is_none_or(|all| {
                all.iter()
                    .all(|(name, value)| rule.get(name).is_none_or(|rule| fits(rule, value)))
            }),
            "additionalProperties" => value.as_object().is_none_or(|all| {
                let others = all
                    .iter()
                    .filter(|(name, _)| schema["properties"].get(name).is_none());
                others
                    .into_iter()
                    .all(|(_, value)| rule != &json!(false) && fits(rule, value))
            }),
            "dependentRequired" => value.as_object().is_none_or(|all| {
                let needed = rule
                    .as_object()
                    .unwrap()
                    .iter()
                    .filter(|(name, _)| all.contains_key(*name));
                needed
                    .flat_map(|(_, names)| names.as_array().unwrap())
                    .all(|name| all.contains_key(name.as_str().unwrap()))
            }),
            word => panic!("the schema has a word that is not checked: {word}"),
        };
        if !holds {
            return Some(format!("{word} {rule} of {value}"));
        }
    }
    None
}

fn is_a(name: &Json, value: &Json) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        name => panic!("{name} is no type"),
    }
}

fn chars(value: &Json) -> Option<u64> {
    value.as_str().map(|text| text.chars().count() as u64)
}

/// A pattern of the form `^[letters]{1,n}$`.
fn matches(pattern: &str, text: &str) -> bool {
    let (letters, count) = pattern
        .strip_prefix("^[")
        .and_then(|rest| rest.strip_suffix("}$"))
        .and_then(|rest| rest.split_once("]{1,"))
        .unwrap();
    let letters = letters.replacen("A-Za-z0-9", "", 1);
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letters.contains(letter);
    !text.is_empty() && text.len() <= count.parse().unwrap() && text.chars().all(allowed)
}
