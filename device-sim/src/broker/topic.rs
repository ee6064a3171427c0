//! Topic filters as in section 4.7 of the MQTT 5 standard, shared subscriptions (4.8.2) included. Pure.

/// What a subscriber asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFilter {
    /// The group of a shared subscription: each message goes to one of its members.
    pub group: Option<String>,
    /// Levels, with `+` for any one and `#`, last only, for any rest.
    pub levels: String,
}

impl TopicFilter {
    /// Reads `levels` or `$share/group/levels`; `None` if it is no filter.
    pub fn parse(text: &str) -> Option<TopicFilter> {
        let (group, levels) = match text.strip_prefix("$share/") {
            Some(shared) => {
                let (group, levels) = shared.split_once('/')?;
                if group.is_empty() || group.contains(['+', '#']) {
                    return None;
                }
                (Some(group.to_owned()), levels)
            }
            None => (None, text),
        };
        let mut rest = levels.split('/').peekable();
        while let Some(level) = rest.next() {
            let wild = level.contains(['+', '#']);
            if wild && (level.len() != 1 || (level == "#" && rest.peek().is_some())) {
                return None;
            }
        }
        (!levels.is_empty()).then(|| TopicFilter {
            group,
            levels: levels.to_owned(),
        })
    }

    /// Whether a message on `topic` is meant.
    pub fn matches(&self, topic: &str) -> bool {
        // A leading wildcard does not reach the broker's own topics (4.7.2).
        if topic.starts_with('$') && self.levels.starts_with(['+', '#']) {
            return false;
        }
        let mut topic = topic.split('/');
        for level in self.levels.split('/') {
            match (level, topic.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (level, Some(name)) if level == name => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }
}

/// Whether a message may be published on `topic`.
pub fn is_name(topic: &str) -> bool {
    !topic.is_empty() && !topic.contains(['+', '#', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_in_the_examples_of_the_standard() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
                true,
            ),
            ("sport/#", "sport", true),
            ("#", "anything/at/all", true),
            ("sport/tennis/+", "sport/tennis/player2", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/monitor", false),
            ("+/monitor", "$SYS/monitor", false),
            ("$SYS/#", "$SYS/monitor", true),
            ("$share/g/sport/+", "sport/tennis", true),
        ] {
            let parsed = TopicFilter::parse(filter).unwrap();
            assert_eq!(parsed.matches(topic), expected, "{filter} against {topic}");
        }
    }

    #[test]
    fn malformed_filters_are_refused() {
        for filter in [
            "",
            "sport/tennis#",
            "sport/#/ranking",
            "sport+",
            "$share/g",
            "$share//a",
        ] {
            assert_eq!(TopicFilter::parse(filter), None, "{filter}");
        }
        assert!(is_name("ä/b") && !is_name("a/+") && !is_name(""));
    }
}
