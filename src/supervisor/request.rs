//! What the control socket is asked (pure): one line, a verb and then words `key=value`, such as `record
//! sensor=trackers for_ms=600000`. A verb has further words only where its own version of the program knows them: an
//! unknown word is an error that names it.

use std::fmt::Write;
use std::time::Duration;

/// Most bytes of a request with the end of its line.
pub const REQUEST_BYTES_MAX: usize = 256;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// How does the node do?
    Status,
    /// Read certificates and lists of devices again.
    Reload,
    /// Record a sensor, or no more.
    Record {
        /// Which.
        sensor: String,
        /// Whether to begin.
        on: bool,
        /// How long; none: until told otherwise.
        lasts: Option<Duration>,
    },
}

impl Request {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(line: &str) -> Result<Request, String> {
        let line = line
            .strip_suffix('\n')
            .ok_or("the request is too long, or cut")?;
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let verb = words.next().unwrap_or_default();
        let mut keys = Vec::new();
        for word in words {
            let pair = word.split_once('=');
            keys.push(pair.ok_or_else(|| format!("{word:?} is not key=value"))?);
        }
        let mut take = |key: &str| {
            let at = keys.iter().position(|(name, _)| *name == key)?;
            Some(keys.remove(at).1)
        };
        let request = match verb {
            "status" => Request::Status,
            "reload" => Request::Reload,
            "record" => {
                let sensor = take("sensor").ok_or("sensor=NAME is missing")?.into();
                let on = match take("on").unwrap_or("1") {
                    "0" => false,
                    "1" => true,
                    other => return Err(format!("on={other} is neither 0 nor 1")),
                };
                let wrong = |text: &str| format!("for_ms={text} is no number of milliseconds");
                let lasts = take("for_ms").map(|text| text.parse().map_err(|_| wrong(text)));
                Request::Record {
                    sensor,
                    on,
                    lasts: lasts.transpose()?.map(Duration::from_millis),
                }
            }
            other => return Err(format!("unknown request {other:?}")),
        };
        match keys.first() {
            Some((key, _)) => Err(format!("unknown key {key:?}")),
            None => Ok(request),
        }
    }

    /// The line.
    pub fn line(&self) -> String {
        match self {
            Request::Status => "status\n".into(),
            Request::Reload => "reload\n".into(),
            Request::Record { sensor, on, lasts } => {
                let mut line = format!("record sensor={sensor} on={}", u8::from(*on));
                if let Some(lasts) = lasts {
                    write!(line, " for_ms={}", lasts.as_millis()).expect("text takes all");
                }
                line + "\n"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let record = |on, lasts| Request::Record {
            sensor: "gate-1".into(),
            on,
            lasts,
        };
        let requests = [
            Request::Status,
            Request::Reload,
            record(true, None),
            record(true, Some(Duration::from_secs(600))),
            record(false, None),
        ];
        for request in requests {
            assert_eq!(Request::parse(&request.line()), Ok(request));
        }
        let short = Request::parse("record sensor=gate-1\n");
        assert_eq!(short, Ok(record(true, None)));
    }

    #[test]
    fn what_is_wrong_with_a_request_is_named() {
        let wrong = |line: &str| Request::parse(line).unwrap_err();
        assert_eq!(wrong("reboot\n"), "unknown request \"reboot\"");
        assert_eq!(wrong("\n"), "unknown request \"\"");
        assert_eq!(wrong("status now\n"), "\"now\" is not key=value");
        assert_eq!(wrong("status a=b\n"), "unknown key \"a\"");
        assert_eq!(wrong("record\n"), "sensor=NAME is missing");
        assert_eq!(wrong("record sensor=a on=2\n"), "on=2 is neither 0 nor 1");
        assert!(wrong("record sensor=a for_ms=x\n").contains("milliseconds"));
        assert!(wrong("status").contains("too long"));
    }
}
