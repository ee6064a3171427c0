//! Numbers with units, as an operator writes them: `90km/h`, `10s`, `500m`, `64MiB`. A number without its unit is an
//! error, because a guess would be wrong by a factor of 3.6, 60 or 1000 and nobody would see it.

use serde::Deserialize;

macro_rules! quantity {
    ($name:ident, $inner:ty, $doc:literal, $what:literal, [$($unit:literal => $factor:expr),+ $(,)?]) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub $inner);

        impl $name {
            /// Reads a number with its unit.
            ///
            /// # Errors
            /// What was expected, in words.
            pub fn parse(text: &str) -> Result<$name, String> {
                let units: &[(&str, f64)] = &[$(($unit, $factor)),+];
                scaled(text, units)
                    .filter(|value| *value <= <$inner>::MAX as f64)
                    .map(|value| $name(value as $inner))
                    .ok_or_else(|| format!(
                        "expected {} such as {:?}, got {text:?} (units: {})",
                        $what, concat!("5", quantity!(@first $($unit),+)), units.iter().map(|u| u.0).collect::<Vec<_>>().join(", "),
                    ))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                $name::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
    (@first $first:literal $(, $rest:literal)*) => { $first };
}

quantity!(Millis, u64, "A duration, milliseconds.", "a duration",
    ["s" => 1e3, "ms" => 1.0, "min" => 60e3, "h" => 3600e3, "d" => 86_400e3]);
quantity!(MillimetresPerSecond, u32, "A speed, mm/s.", "a speed",
    ["km/h" => 1e6 / 3600.0, "m/s" => 1e3, "mph" => 447.04, "kn" => 1_852_000.0 / 3600.0]);
quantity!(Millimetres, u64, "A length, millimetres.", "a length",
    ["m" => 1e3, "km" => 1e6, "mm" => 1.0]);
quantity!(Bytes, u64, "A size, bytes.", "a size",
    ["MiB" => 1_048_576.0, "KiB" => 1024.0, "GiB" => 1_073_741_824.0, "B" => 1.0]);

/// The number of `text` in base units, rounded; `None` unless it is a finite number, not negative, with a known unit.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (number, unit) = (&text[..digits], text[digits..].trim());
    let number: f64 = number.parse().ok()?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    Some((number * factor).round())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_into_base_units() {
        assert_eq!(Millis::parse("1.5s"), Ok(Millis(1500)));
        assert_eq!(Millis::parse("10 min"), Ok(Millis(600_000)));
        assert_eq!(
            MillimetresPerSecond::parse("90km/h"),
            Ok(MillimetresPerSecond(25_000))
        );
        assert_eq!(Millimetres::parse("500m"), Ok(Millimetres(500_000)));
        assert_eq!(Bytes::parse("64MiB"), Ok(Bytes(64 << 20)));
    }

    #[test]
    fn a_number_without_or_with_a_wrong_unit_says_what_is_expected() {
        for bad in ["90", "90 kmh", "", "-5s", "s", "1e999d"] {
            assert!(
                Millis::parse(bad)
                    .unwrap_err()
                    .contains("expected a duration such as \"5s\""),
                "{bad}"
            );
        }
    }
}
