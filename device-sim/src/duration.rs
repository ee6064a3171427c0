//! Durations as the command line has them: a number with its unit.

use std::time::Duration;

/// A number with its unit: ms, s, min or h.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let milliseconds = match &text[digits.len()..] {
        "ms" => 1.0,
        "s" => 1e3,
        "min" => 60e3,
        "h" => 3600e3,
        _ => return Err("expected a number and a unit, such as 20s".into()),
    };
    let number: f64 = digits
        .parse()
        .map_err(|_| format!("{digits:?} is no number"))?;
    Duration::try_from_secs_f64(number * milliseconds / 1e3).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(parse("2min"), Ok(Duration::from_secs(120)));
        for bad in ["20", "s", "-1s", "1d", "1 s s"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
