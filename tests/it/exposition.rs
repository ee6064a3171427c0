//! A strict reader of the Prometheus text format 0.0.4: what it takes, every scraper takes.

use std::collections::{BTreeMap, BTreeSet};

/// All samples of a name, with what is said about them.
#[derive(Debug)]
pub struct Family {
    pub name: String,
    pub help: String,
    pub kind: String,
    pub samples: Vec<Sample>,
}

/// One line.
#[derive(Debug)]
pub struct Sample {
    /// The family's name, with a suffix in a histogram.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    /// Whether it has all of these labels.
    pub fn has(&self, labels: &[(&str, &str)]) -> bool {
        let label = |name: &str| self.labels.get(name).map(String::as_str);
        labels
            .iter()
            .all(|(name, value)| label(name) == Some(value))
    }
}

/// Reads an exposition.
///
/// # Panics
/// Where it is not sound: this is a test.
pub fn read(text: &str) -> Vec<Family> {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut families: Vec<Family> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect(line);
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE "));
            let kind = kind.and_then(|rest| rest.strip_prefix(name));
            let kind = kind
                .unwrap_or_else(|| panic!("no TYPE after HELP of {name}"))
                .trim();
            assert!(is_name(name), "{name}");
            assert!(
                ["counter", "gauge", "histogram"].contains(&kind),
                "{name}: {kind}"
            );
            assert!(
                families.iter().all(|family| family.name != name),
                "{name} comes twice"
            );
            families.push(Family {
                name: name.into(),
                help: help.into(),
                kind: kind.into(),
                samples: Vec::new(),
            });
            continue;
        }
        let family = families
            .last_mut()
            .unwrap_or_else(|| panic!("{line} comes before any TYPE"));
        family.samples.push(sample(line));
    }
    families.iter().for_each(check);
    families
}

fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    text.bytes().next().is_some_and(letter)
        && text
            .bytes()
            .all(|byte| letter(byte) || byte.is_ascii_digit())
}

fn sample(line: &str) -> Sample {
    let open = line.find(['{', ' ']).expect(line);
    let name = &line[..open];
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    let mut rest = &line[open..];
    if let Some(mut inside) = rest.strip_prefix('{') {
        while !inside.starts_with('}') {
            let (key, after) = inside.split_once("=\"").expect(line);
            let (value, after) = quoted(after).expect(line);
            assert!(is_name(key) && !key.starts_with("__"), "{line}");
            assert!(labels.insert(key.into(), value).is_none(), "{line}");
            inside = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &inside[1..];
    }
    let value = rest.strip_prefix(' ').expect(line);
    Sample {
        name: name.into(),
        labels,
        value: value.parse().expect(line),
    }
}

/// A label's value up to its closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match chars.next()?.1 {
                'n' => '\n',
                other @ ('\\' | '"') => other,
                _ => return None,
            }),
            (_, other) => value.push(other),
        }
    }
}

/// What must hold for a whole family.
fn check(family: &Family) {
    let name = &family.name;
    let mut seen = BTreeSet::new();
    for sample in &family.samples {
        let once = seen.insert((&sample.name, &sample.labels));
        assert!(once, "{sample:?} comes twice");
        let suffix = sample.name.strip_prefix(&name[..]);
        let suffix = suffix.unwrap_or_else(|| panic!("{sample:?} stands below {name}"));
        let suffixes: &[&str] = match &family.kind[..] {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert!(suffixes.contains(&suffix), "{sample:?} stands below {name}");
        assert_eq!(
            sample.labels.contains_key("le"),
            suffix == "_bucket",
            "{sample:?}"
        );
        assert!(family.kind == "gauge" || sample.value >= 0.0, "{sample:?}");
    }
    assert!(
        family.kind != "counter" || name.ends_with("_total"),
        "{name} is a counter"
    );
    let counts = family
        .samples
        .iter()
        .filter(|sample| sample.name.ends_with("_count"));
    for count in counts.filter(|_| family.kind == "histogram") {
        histogram(family, count);
    }
}

fn histogram(family: &Family, count: &Sample) {
    let bucket = format!("{}_bucket", family.name);
    let of_this = |sample: &&Sample| {
        let mut labels = sample.labels.clone();
        sample.name == bucket && labels.remove("le").is_some() && labels == count.labels
    };
    let (mut bound, mut sum) = (f64::NEG_INFINITY, 0.0);
    for sample in family.samples.iter().filter(of_this) {
        let le: f64 = sample.labels["le"].parse().unwrap();
        assert!(
            le > bound && sample.value >= sum,
            "{sample:?} after {bound}, {sum}"
        );
        (bound, sum) = (le, sample.value);
    }
    assert_eq!(
        (bound, sum),
        (f64::INFINITY, count.value),
        "{}",
        family.name
    );
}

#[test]
fn the_reader_reads_the_example_of_the_format() {
    let text = "# HELP http_requests_total The total number of \"requests\".\n\
        # TYPE http_requests_total counter\n\
        http_requests_total{method=\"post\",code=\"200\"} 1027\n\
        # HELP rpc_seconds A histogram.\n# TYPE rpc_seconds histogram\n\
        rpc_seconds_bucket{le=\"0.05\"} 24054\nrpc_seconds_bucket{le=\"+Inf\"} 144320\n\
        rpc_seconds_sum 53423\nrpc_seconds_count 144320\n\
        # HELP msdos_file_access_seconds Escapes.\n# TYPE msdos_file_access_seconds gauge\n\
        msdos_file_access_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"a\\n\\\"b\\\"\"} 1.458e9\n";
    let families = read(text);
    assert_eq!(families.len(), 3);
    assert!(families[0].samples[0].has(&[("method", "post"), ("code", "200")]));
    let odd = &families[2].samples[0].labels;
    assert_eq!(
        (&odd["path"][..], &odd["error"][..]),
        ("C:\\DIR\\FILE.TXT", "a\n\"b\"")
    );
}
