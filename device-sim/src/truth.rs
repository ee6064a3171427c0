//! Which alarms must be raised and cleared, found from the reports alone by the rules as an operator reads them.
//!
//! This is the second, independent implementation that the runtime is held against. It sees each device's reports
//! once, in the order of their times, and works on the whole numbers that were sent. It knows nothing of delivery:
//! what must have arrived is for [`crate::checker`] to say.

use crate::alarm::{BITS, MOMENTARY};
use crate::report::Report;

/// Radius of the earth by which distances are measured, metres.
const EARTH_M: f64 = 6_371_008.8;
/// Metres of a degree of latitude, rounded down: for passing over what is far.
const DEGREE_M_MIN: f64 = 110_000.0;

/// The rules that the runtime is told as well.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Too fast, if looked for.
    pub overspeed: Option<Overspeed>,
    /// Circles to enter and leave.
    pub fences: Vec<Fence>,
}

/// The speed rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overspeed {
    /// Raised above this, 0.1 km/h.
    pub limit_dkmh: u16,
    /// ... in every report over at least this long, ms.
    pub for_ms: i64,
    /// Cleared below the limit less this, 0.1 km/h.
    pub hysteresis_dkmh: u16,
}

/// A circular fence.
#[derive(Clone, Debug, PartialEq)]
pub struct Fence {
    /// Its name, which is the rule's name.
    pub name: String,
    /// Latitude of the middle, 1e-6 degree.
    pub lat_e6: i32,
    /// Longitude of the middle, 1e-6 degree.
    pub lon_e6: i32,
    /// Metres.
    pub radius_m: f64,
    /// One is out when this many metres beyond the radius.
    pub margin_m: f64,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// A bit of the alarm word.
    Device(u8),
    /// Too fast.
    Overspeed,
    /// Inside a fence, by its index in [`Rules::fences`].
    Fence(u16),
}

impl What {
    /// Kind of the event.
    pub fn kind(self) -> &'static str {
        match self {
            What::Device(bit) => BITS[usize::from(bit)].0,
            What::Overspeed => "overspeed",
            What::Fence(_) => "geofence",
        }
    }

    /// Rule of the event.
    pub fn rule(self, rules: &Rules) -> &str {
        match self {
            What::Device(_) => "device",
            What::Overspeed => "overspeed",
            What::Fence(index) => &rules.fences[usize::from(index)].name,
        }
    }

    /// What an event with this kind and rule is about, if the rules know it.
    pub fn find(kind: &str, rule: &str, rules: &Rules) -> Option<What> {
        match rule {
            "device" => {
                let bit = BITS.iter().position(|&(name, _)| name == kind)?;
                Some(What::Device(bit as u8))
            }
            "overspeed" if kind == "overspeed" => rules.overspeed.map(|_| What::Overspeed),
            name if kind == "geofence" => {
                let index = rules.fences.iter().position(|fence| fence.name == name)?;
                Some(What::Fence(index as u16))
            }
            _ => None,
        }
    }
}

/// The report at which something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Number of the report among the device's, from 0.
    pub number: u32,
    /// Its time, UTC ms.
    pub time_ms: i64,
}

/// One alarm from its raise to its clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Episode {
    /// Index of the device.
    pub device: u32,
    /// What happened.
    pub what: What,
    /// Time of the first report that met the condition, UTC ms.
    pub start_ms: i64,
    /// Time of the last report so far that met it, UTC ms.
    pub last_ms: i64,
    /// Where it must be raised.
    pub raised: Mark,
    /// Where it must be cleared, if it ended and if its kind is ever cleared.
    pub cleared: Option<Mark>,
}

/// What one device's reports have led to so far. Episodes are named by their index in the caller's list.
#[derive(Clone, Debug)]
pub struct Judge {
    /// Bits that are stated for as long as they last; the others are never cleared.
    lasting: u32,
    word: u32,
    /// Open episodes of set bits.
    bits: Vec<(u8, usize)>,
    speed: Speed,
    /// Open episode of each fence.
    inside: Vec<Option<usize>>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Speed {
    #[default]
    Fair,
    /// Above the limit since this time, not yet long enough.
    Fast(i64),
    Raised(usize),
}

impl Default for Judge {
    /// By the lives of JT/T 808.
    fn default() -> Judge {
        Judge::new(!MOMENTARY)
    }
}

impl Judge {
    /// Of a device that states these bits for as long as they last.
    pub fn new(lasting: u32) -> Judge {
        Judge {
            lasting,
            word: 0,
            bits: Vec::new(),
            speed: Speed::default(),
            inside: Vec::new(),
        }
    }

    /// Takes a device's next report; what begins is added to `episodes`, what ends is changed there. Returns how many
    /// ended so that a clear is due.
    pub fn feed(
        &mut self,
        rules: &Rules,
        device: u32,
        number: u32,
        report: &Report,
        episodes: &mut Vec<Episode>,
    ) -> usize {
        let time_ms = report.time_ms();
        let mark = Mark { number, time_ms };
        let mut open = |what, start_ms| {
            episodes.push(Episode {
                device,
                what,
                start_ms,
                last_ms: time_ms,
                raised: mark,
                cleared: None,
            });
            episodes.len() - 1
        };
        let appeared = report.alarms & !self.word;
        let begun = (0..32).filter(|bit| appeared & 1 << bit != 0);
        let begun: Vec<_> = begun
            .map(|bit| (bit, open(What::Device(bit), time_ms)))
            .collect();
        if let Some(rule) = &rules.overspeed {
            self.speed = match self.speed {
                Speed::Fair if report.speed_dkmh > rule.limit_dkmh => Speed::Fast(time_ms),
                Speed::Fast(_) if report.speed_dkmh <= rule.limit_dkmh => Speed::Fair,
                other => other,
            };
            if let Speed::Fast(start_ms) = self.speed
                && time_ms - start_ms >= rule.for_ms
            {
                self.speed = Speed::Raised(open(What::Overspeed, start_ms));
            }
        }
        self.inside.resize(rules.fences.len(), None);
        for (index, fence) in rules.fences.iter().enumerate() {
            if self.inside[index].is_none() && fence.distance_below(report, fence.radius_m) {
                self.inside[index] = Some(open(What::Fence(index as u16), time_ms));
            }
        }
        let ended = self.end(rules, report, mark, episodes);
        self.bits.extend(begun);
        self.word = report.alarms;
        ended
    }

    /// Ends or prolongs what was open.
    fn end(
        &mut self,
        rules: &Rules,
        report: &Report,
        mark: Mark,
        episodes: &mut [Episode],
    ) -> usize {
        let lasting = self.lasting;
        let mut ended = 0;
        let mut clear = |episode: &mut Episode| {
            episode.cleared = Some(mark);
            ended += 1;
        };
        self.bits.retain(|&(bit, index)| {
            let set = report.alarms & 1 << bit != 0;
            if set {
                episodes[index].last_ms = mark.time_ms;
            } else if lasting & 1 << bit != 0 {
                clear(&mut episodes[index]);
            }
            set
        });
        if let (Some(rule), Speed::Raised(index)) = (&rules.overspeed, self.speed) {
            if report.speed_dkmh < rule.limit_dkmh - rule.hysteresis_dkmh {
                clear(&mut episodes[index]);
                self.speed = Speed::Fair;
            } else {
                episodes[index].last_ms = mark.time_ms;
            }
        }
        for (open, fence) in self.inside.iter_mut().zip(&rules.fences) {
            let Some(index) = *open else { continue };
            if fence.distance_below(report, fence.radius_m + fence.margin_m) {
                episodes[index].last_ms = mark.time_ms;
            } else {
                clear(&mut episodes[index]);
                *open = None;
            }
        }
        ended
    }
}

impl Fence {
    /// Whether a report is at most `metres` from the middle.
    fn distance_below(&self, report: &Report, metres: f64) -> bool {
        let north = f64::from(report.lat_e6 - self.lat_e6) / 1e6;
        north.abs() * DEGREE_M_MIN <= metres && self.distance_m(report) <= metres
    }

    /// Great-circle distance of a report from the middle, metres (haversine).
    pub fn distance_m(&self, report: &Report) -> f64 {
        let radians = |e6: i32| (f64::from(e6) / 1e6).to_radians();
        let (lat1, lat2) = (radians(self.lat_e6), radians(report.lat_e6));
        let lon = radians(report.lon_e6) - radians(self.lon_e6);
        let half = ((lat2 - lat1) / 2.0).sin().powi(2)
            + lat1.cos() * lat2.cos() * (lon / 2.0).sin().powi(2);
        2.0 * EARTH_M * half.sqrt().min(1.0).asin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarm::{POWER_CUT, SOS};

    fn rules() -> Rules {
        Rules {
            overspeed: Some(Overspeed {
                limit_dkmh: 900,
                for_ms: 3000,
                hysteresis_dkmh: 50,
            }),
            fences: vec![Fence {
                name: "yard".into(),
                lat_e6: 0,
                lon_e6: 10_000_000,
                radius_m: 300.0,
                margin_m: 20.0,
            }],
        }
    }

    /// Judges reports one second apart, from second 100 on.
    fn judge(reports: impl IntoIterator<Item = Report>) -> Vec<Episode> {
        let (mut judge, mut episodes) = (Judge::default(), Vec::new());
        for (n, report) in reports.into_iter().enumerate() {
            let report = Report {
                time_s: 100 + n as u32,
                ..report
            };
            judge.feed(&rules(), 5, n as u32, &report, &mut episodes);
        }
        episodes
    }

    /// What, start, raised and cleared second of each.
    fn seconds(episodes: &[Episode]) -> Vec<(What, i64, i64, Option<i64>)> {
        let line = |e: &Episode| {
            let cleared = e.cleared.map(|mark| mark.time_ms / 1000);
            (e.what, e.start_ms / 1000, e.raised.time_ms / 1000, cleared)
        };
        episodes.iter().map(line).collect()
    }

    #[test]
    fn momentary_bit_raises_once_and_never_clears() {
        let words = [0, 1, 1, 0, 1];
        let found = judge(words.map(|alarms| Report {
            alarms,
            ..Report::default()
        }));
        let sos = What::Device(SOS);
        assert_eq!(
            seconds(&found),
            [(sos, 101, 101, None), (sos, 104, 104, None)]
        );
        assert_eq!(found[0].last_ms, 102_000);
        assert_eq!((sos.kind(), sos.rule(&rules())), ("sos", "device"));
    }

    #[test]
    fn held_bit_clears_when_it_is_gone() {
        let words = [1 << POWER_CUT, 1 << POWER_CUT | 1, 0];
        let found = judge(words.map(|alarms| Report {
            alarms,
            ..Report::default()
        }));
        let expected = [
            (What::Device(POWER_CUT), 100, 100, Some(102)),
            (What::Device(SOS), 101, 101, None),
        ];
        assert_eq!(seconds(&found), expected);
    }

    #[test]
    fn bit_that_a_device_states_as_an_event_never_clears() {
        let (mut judge, mut episodes) = (Judge::new(0), Vec::new());
        for (n, alarms) in [1 << POWER_CUT, 0].into_iter().enumerate() {
            let report = Report {
                alarms,
                ..Report::default()
            };
            let ended = judge.feed(&rules(), 0, n as u32, &report, &mut episodes);
            assert_eq!(ended, 0);
        }
        assert_eq!(episodes[0].cleared, None);
    }

    #[test]
    fn overspeed_needs_its_duration_and_ends_below_the_hysteresis() {
        let speeds = [901, 900, 901, 950, 950, 901, 900, 850, 849, 950];
        let found = judge(speeds.map(|speed_dkmh| Report {
            speed_dkmh,
            ..Report::default()
        }));
        assert_eq!(seconds(&found), [(What::Overspeed, 102, 105, Some(108))]);
    }

    #[test]
    fn distance_is_that_of_the_sphere() {
        let fence = &rules().fences[0];
        // One degree along the equator on a sphere of 6,371,008.8 m: 2 pi R / 360.
        let away = Report {
            lon_e6: 11_000_000,
            ..Report::default()
        };
        assert!((fence.distance_m(&away) - 111_195.079_7).abs() < 1e-3);
    }

    #[test]
    fn fence_is_entered_at_its_radius_and_left_past_its_margin() {
        // Metres east of the middle, on the equator.
        let metres = [310.0, 299.0, 310.0, 319.0, 321.0, 310.0, 299.0];
        let place = |m: f64| Report {
            lon_e6: 10_000_000 + (m / 0.111_195_08) as i32,
            ..Report::default()
        };
        let yard = What::Fence(0);
        assert_eq!(
            seconds(&judge(metres.map(place))),
            [(yard, 101, 101, Some(104)), (yard, 106, 106, None)]
        );
        assert_eq!(seconds(&judge([place(0.0)])), [(yard, 100, 100, None)]);
    }

    #[test]
    fn events_are_found_by_kind_and_rule() {
        let rules = rules();
        assert_eq!(What::find("geofence", "yard", &rules), Some(What::Fence(0)));
        assert_eq!(
            What::find("overspeed", "overspeed", &rules),
            Some(What::Overspeed)
        );
        assert_eq!(
            What::find("overspeed", "device", &rules),
            Some(What::Device(1))
        );
        assert_eq!(What::find("geofence", "moon", &rules), None);
        assert_eq!(What::find("sos", "yard", &rules), None);
    }
}
