//! How the broker misbehaves: a list of rules, and the pure engine that says for each publish of a connection what to
//! do about it. It knows no socket and no clock.
//!
//! A rule counts the QoS 1 publishes of one connection, from 1. It fires at each publish `n` with `n > after` and
//! `(n - after) % every == 0`, at most `times` over the broker's life, on connections whose client id contains
//! `client`. Rules are tried in order; several may fire at one publish.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;

/// One way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The acknowledgement comes this much later; later publishes may be acknowledged before.
    DelayAck {
        /// Milliseconds.
        ms: u64,
    },
    /// The message is delivered, its acknowledgement never comes.
    DropAck,
    /// The acknowledgement names a packet that was not sent.
    WrongPacketId,
    /// From here on acknowledgements are gathered and sent backwards: `depth` at a time, or what is there after 50 ms.
    ReorderAcks {
        /// Acknowledgements turned round together.
        depth: u16,
    },
    /// The message is not delivered and answered with this reason code.
    Reason {
        /// One that PUBACK may carry and that is no success: 16, 128, 131, 135, 144, 145, 151 or 153.
        code: u8,
    },
    /// The connection is closed without a word, this publish neither delivered nor acknowledged.
    Close,
    /// From here on the connection stays open, reads nothing and says nothing.
    Freeze,
    /// CONNACK carries this Receive Maximum. A client that exceeds it is disconnected with reason 0x93. Counts no
    /// publishes.
    ReceiveMaximum {
        /// At least 1.
        value: u16,
    },
}

/// When to misbehave, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// How.
    pub fault: Fault,
    /// Each this many publishes.
    #[serde(default = "one")]
    pub every: u64,
    /// Publishes of a connection that are spared.
    #[serde(default)]
    pub after: u64,
    /// Times in the broker's life; no limit if absent.
    pub times: Option<u64>,
    /// Part of the client ids that this is for; all if absent.
    pub client: Option<String>,
}

fn one() -> u64 {
    1
}

impl Rule {
    /// A rule for each publish of each client.
    pub fn always(fault: Fault) -> Rule {
        Rule {
            fault,
            every: 1,
            after: 0,
            times: None,
            client: None,
        }
    }
}

/// A script that cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// Not a JSON list of rules.
    #[error("cannot read script: {0}")]
    Json(#[from] serde_json::Error),
    /// A number that makes no sense.
    #[error("cannot use rule {rule}: {reason}")]
    Rule {
        /// Its place in the list, from 1.
        rule: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Reads a JSON list of rules, such as `[{"fault": {"reason": {"code": 135}}, "every": 10}, {"fault": "drop_ack",
/// "after": 100, "times": 1}]`.
///
/// # Errors
/// [`ScriptError`] for what is no such list and for numbers out of range.
pub fn parse(json: &str) -> Result<Vec<Rule>, ScriptError> {
    let rules: Vec<Rule> = serde_json::from_str(json)?;
    for (at, rule) in rules.iter().enumerate() {
        if let Some(reason) = complaint(rule) {
            let rule = at + 1;
            return Err(ScriptError::Rule { rule, reason });
        }
    }
    Ok(rules)
}

fn complaint(rule: &Rule) -> Option<&'static str> {
    match rule.fault {
        _ if rule.every == 0 => Some("every must be at least 1"),
        Fault::ReceiveMaximum { value: 0 } => Some("a receive maximum must be at least 1"),
        Fault::ReorderAcks { depth: 0 | 1 } => Some("a depth must be at least 2"),
        Fault::Reason { code } if super::ack_reason(code).is_none() => {
            Some("this is no reason code of a refusing PUBACK")
        }
        _ => None,
    }
}

/// The rules and how often each was used; one for a broker, shared by its connections.
#[derive(Debug, Default)]
pub struct Script {
    rules: Vec<(Rule, AtomicU64)>,
}

impl Script {
    /// A script that was not used yet.
    pub fn new(rules: Vec<Rule>) -> Script {
        let rules = rules
            .into_iter()
            .map(|rule| (rule, AtomicU64::new(0)))
            .collect();
        Script { rules }
    }

    /// The part that a connection of this client plays.
    pub fn part(&self, client_id: &str) -> Part {
        let rules = (0..self.rules.len())
            .filter(|&at| {
                let client = self.rules[at].0.client.as_deref();
                client.is_none_or(|part| client_id.contains(part))
            })
            .collect();
        Part {
            rules,
            publishes: 0,
            reorder: None,
        }
    }

    /// Takes one use of a rule, unless they are used up.
    fn spend(&self, at: usize) -> bool {
        let (rule, used) = &self.rules[at];
        let times = rule.times.unwrap_or(u64::MAX);
        // Relaxed: the count guards nothing but itself.
        used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            (used < times).then_some(used + 1)
        })
        .is_ok()
    }

    /// How often each rule fired, in the script's order.
    pub fn fired(&self) -> Vec<u64> {
        let used = |(_, used): &(Rule, AtomicU64)| used.load(Ordering::Relaxed);
        self.rules.iter().map(used).collect()
    }
}

/// What to do about one publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Deliver it, and acknowledge as told.
    Take(Ack),
    /// Answer it with this code, deliver nothing.
    Refuse(u8, Ack),
    /// Close the connection.
    Close,
    /// Say and read nothing more.
    Freeze,
}

/// How to acknowledge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// Not at all.
    pub dropped: bool,
    /// With a packet id that is not in use.
    pub wrong_id: bool,
    /// This much later.
    pub delay: Duration,
    /// Backwards, this many together; 0: as they come.
    pub reorder: u16,
}

/// A connection's place in the script.
#[derive(Debug)]
pub struct Part {
    rules: Vec<usize>,
    publishes: u64,
    reorder: Option<u16>,
}

impl Part {
    /// The Receive Maximum that CONNACK states, if the script has one.
    pub fn receive_maximum(&self, script: &Script) -> Option<u16> {
        self.rules
            .iter()
            .find_map(|&at| match script.rules[at].0.fault {
                Fault::ReceiveMaximum { value } if script.spend(at) => Some(value),
                _ => None,
            })
    }

    /// Judges the next QoS 1 publish.
    pub fn judge(&mut self, script: &Script) -> Verdict {
        self.publishes += 1;
        let mut ack = Ack::default();
        let mut refusal = None;
        for &at in &self.rules {
            let rule = &script.rules[at].0;
            let counted = self.publishes.saturating_sub(rule.after);
            let turned = matches!(rule.fault, Fault::ReorderAcks { .. }) && self.reorder.is_some();
            let silent = matches!(rule.fault, Fault::ReceiveMaximum { .. }) || turned;
            if silent || counted == 0 || !counted.is_multiple_of(rule.every) || !script.spend(at) {
                continue;
            }
            match rule.fault {
                Fault::DelayAck { ms } => ack.delay = Duration::from_millis(ms),
                Fault::DropAck => ack.dropped = true,
                Fault::WrongPacketId => ack.wrong_id = true,
                Fault::ReorderAcks { depth } => self.reorder = Some(depth),
                Fault::Reason { code } => refusal = Some(code),
                Fault::Close => return Verdict::Close,
                Fault::Freeze => return Verdict::Freeze,
                Fault::ReceiveMaximum { .. } => {}
            }
        }
        ack.reorder = self.reorder.unwrap_or(0);
        match refusal {
            Some(code) => Verdict::Refuse(code, ack),
            None => Verdict::Take(ack),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(rules: &str, publishes: usize) -> (Vec<Verdict>, Script) {
        let script = Script::new(parse(rules).unwrap());
        let mut part = script.part("uplink-1");
        let verdicts = (0..publishes).map(|_| part.judge(&script)).collect();
        (verdicts, script)
    }

    const PLAIN: Ack = Ack {
        dropped: false,
        wrong_id: false,
        delay: Duration::ZERO,
        reorder: 0,
    };

    #[test]
    fn every_after_and_times_count_as_stated() {
        let rules = r#"[{"fault": "drop_ack", "every": 2, "after": 1, "times": 2}]"#;
        let (verdicts, script) = verdicts(rules, 8);
        let dropped: Vec<usize> = (1..=8)
            .filter(|n| matches!(verdicts[n - 1], Verdict::Take(ack) if ack.dropped))
            .collect();
        assert_eq!(dropped, [3, 5]);
        assert_eq!(script.fired(), [2]);
    }

    #[test]
    fn a_rule_for_another_client_never_fires() {
        let rules = r#"[{"fault": "close", "client": "somebody"}]"#;
        assert_eq!(verdicts(rules, 2).0, [Verdict::Take(PLAIN); 2]);
    }

    #[test]
    fn rules_combine_and_reordering_stays_on() {
        let rules = r#"[{"fault": {"reason": {"code": 135}}, "every": 3},
                        {"fault": {"delay_ack": {"ms": 7}}, "every": 3},
                        {"fault": {"reorder_acks": {"depth": 4}}, "after": 1}]"#;
        let reordered = Ack {
            reorder: 4,
            ..PLAIN
        };
        let late = Ack {
            delay: Duration::from_millis(7),
            ..reordered
        };
        let (verdicts, script) = verdicts(rules, 3);
        assert_eq!(
            verdicts,
            [
                Verdict::Take(PLAIN),
                Verdict::Take(reordered),
                Verdict::Refuse(135, late)
            ]
        );
        assert_eq!(script.fired(), [1, 1, 1]);
    }

    #[test]
    fn a_script_that_makes_no_sense_is_refused_with_its_rule() {
        for (rules, part) in [
            (r#"[{"fault": "drop_ack", "every": 0}]"#, "rule 1"),
            (
                r#"[{"fault": "close"}, {"fault": {"reason": {"code": 0}}}]"#,
                "rule 2",
            ),
            (r#"[{"fault": "drop_ack", "evry": 3}]"#, "evry"),
            (r#"[{"fault": "explode"}]"#, "explode"),
        ] {
            let error = parse(rules).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
