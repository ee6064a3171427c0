//! Percentiles of a run, and the median of several runs with its spread.

use serde::Serialize;

use crate::clock::Nanos;

/// A distribution of times, microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

impl Times {
    /// Of single times; `None` of none.
    pub fn of(mut times: Vec<Nanos>) -> Option<Times> {
        times.sort_unstable();
        let micros = |nanos: &Nanos| *nanos as f64 / 1_000.0;
        // Nearest rank: the smallest time that is not below the given share.
        let rank = |share: f64| (times.len() as f64 * share).ceil() as usize - 1;
        Some(Times {
            max: micros(times.last()?),
            p50: micros(&times[rank(0.50)]),
            p99: micros(&times[rank(0.99)]),
        })
    }
}

/// A figure over the repetitions of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Median.
    pub median: f64,
    /// Lowest.
    pub min: f64,
    /// Highest.
    pub max: f64,
}

impl Figure {
    /// Of the values of each repetition; `None` of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Figure> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            (values[middle - 1] + values[middle]) / 2.0
        } else {
            values[middle]
        };
        Some(Figure { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times = Times::of((1..=200).rev().map(|n| n * 1_000).collect()).unwrap();
        assert_eq!((times.p50, times.p99, times.max), (100.0, 198.0, 200.0));
        let one = Times::of(vec![5_000]).unwrap();
        assert_eq!((one.p50, one.p99, one.max), (5.0, 5.0, 5.0));
        assert_eq!(Times::of(Vec::new()), None);
    }

    #[test]
    fn a_median_of_an_even_count_is_between_the_middle_two() {
        let figure = Figure::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((figure.median, figure.min, figure.max), (2.5, 1.0, 4.0));
        assert_eq!(Figure::of([]), None);
    }
}
