//! What a client sent and received, for an error message that explains why there is no address.

mod ignored;

use std::collections::BTreeMap;
use std::fmt;

pub use ignored::{ExcludedServer, IgnoreReason, Ignored, PacketKind};

use crate::event::Nak;
use crate::lease::Assumption;
use crate::transmit::OutgoingKind;

/// How many servers are named that the configuration excludes.
const MAX_SERVERS: usize = 8;

/// What a client sent and received since it was made, or since [`Client::forget_report`].
///
/// Its `Display` is a sentence for an error message:
/// `sent 5 DISCOVER, received 4 frames; 4 offers ignored: wrong chaddr`.
///
/// [`Client::forget_report`]: crate::Client::forget_report
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many messages of each type the driver has sent.
    pub sent: BTreeMap<OutgoingKind, u64>,
    /// How many payloads the driver handed in.
    pub received: u64,
    /// How many of those the client ignored, by type and reason.
    pub ignored: BTreeMap<Ignored, u64>,
    /// The last NAK that the client acted upon.
    pub last_nak: Option<Nak>,
    /// What the server left out of the last lease.
    pub assumptions: Vec<Assumption>,
}

impl Report {
    /// Whether a server has answered this client, even if it could not use the answer.
    pub fn has_answer(&self) -> bool {
        let is_for_us = |ignored: &Ignored| {
            ignored.kind != PacketKind::Frame && ignored.reason != IgnoreReason::WrongChaddr
        };
        let accepted = self.received > self.ignored.values().sum();
        accepted || self.ignored.keys().any(is_for_us)
    }

    pub(crate) fn count_sent(&mut self, kind: OutgoingKind) {
        *self.sent.entry(kind).or_default() += 1;
    }

    /// Counts a payload that was ignored. A few servers are told apart: anybody on the LAN can make
    /// up more.
    pub(crate) fn count_ignored(&mut self, mut ignored: Ignored) {
        let names_server =
            |it: &Ignored| matches!(it.reason, IgnoreReason::ServerNotAllowed(Some(_)));
        if names_server(&ignored)
            && !self.ignored.contains_key(&ignored)
            && self.ignored.keys().filter(|it| names_server(it)).count() >= MAX_SERVERS
        {
            ignored.reason = IgnoreReason::ServerNotAllowed(None);
        }
        *self.ignored.entry(ignored).or_default() += 1;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sent.is_empty() {
            f.write_str("sent nothing")?;
        }
        for (index, (kind, count)) in self.sent.iter().enumerate() {
            let before = if index == 0 { "sent" } else { "," };
            write!(f, "{before} {count} {kind}")?;
        }
        match self.received {
            // The kernel passes on only what may be a reply to this client.
            0 => f.write_str(", received no reply")?,
            1 => f.write_str(", received 1 frame")?,
            many => write!(f, ", received {many} frames")?,
        }
        for (Ignored { kind, reason }, count) in &self.ignored {
            let s = if *count == 1 { "" } else { "s" };
            write!(f, "; {count} {kind}{s} ignored: {reason}")?;
        }
        if let Some(nak) = &self.last_nak {
            write!(f, "; {nak}")?;
        }
        self.assumptions
            .iter()
            .try_for_each(|assumption| write!(f, "; {assumption}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_name::StateName;

    #[test]
    fn the_report_of_a_client_without_answers_says_what_it_sent() {
        let mut report = Report::default();
        assert_eq!(report.to_string(), "sent nothing, received no reply");
        for _ in 0..5 {
            report.count_sent(OutgoingKind::Discover);
        }
        assert_eq!(report.to_string(), "sent 5 DISCOVER, received no reply");
    }

    #[test]
    fn a_server_that_is_not_allowed_is_named_unless_there_are_many() {
        let mut report = Report::default();
        for last in 1..=20 {
            let excluded = ExcludedServer {
                id: [10, 0, 0, last].into(),
                source: [10, 0, 0, 1].into(),
            };
            for _ in 0..2 {
                report.count_ignored(Ignored {
                    kind: PacketKind::Offer,
                    reason: IgnoreReason::ServerNotAllowed(Some(excluded)),
                });
            }
        }
        assert_eq!(report.ignored.len(), 9);
        let text = report.to_string();
        for words in [
            "; 24 offers ignored: server not allowed",
            "; 2 offers ignored: server 10.0.0.1 not allowed",
            "; 2 offers ignored: server 10.0.0.8 (at 10.0.0.1) not allowed",
        ] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn an_answer_for_this_client_counts_whether_or_not_it_was_used() {
        let after = |kind, reason| {
            let mut report = Report {
                received: 1,
                ..Report::default()
            };
            report.count_ignored(Ignored { kind, reason });
            report.has_answer()
        };
        assert!(!Report::default().has_answer());
        assert!(!after(PacketKind::Frame, IgnoreReason::NoCookie));
        assert!(!after(PacketKind::Offer, IgnoreReason::WrongChaddr));
        assert!(after(PacketKind::Offer, IgnoreReason::BadAddress));
        let used = Report {
            received: 1,
            ..Report::default()
        };
        assert!(used.has_answer());
    }

    #[test]
    fn ignored_packets_are_counted_by_type_and_reason() {
        let mut report = Report {
            received: 6,
            ..Report::default()
        };
        report.count_sent(OutgoingKind::Discover);
        report.count_sent(OutgoingKind::Request);
        for _ in 0..4 {
            report.count_ignored(Ignored {
                kind: PacketKind::Offer,
                reason: IgnoreReason::WrongChaddr,
            });
        }
        report.count_ignored(Ignored {
            kind: PacketKind::Nak,
            reason: IgnoreReason::NotAwaited(StateName::Bound),
        });
        report.last_nak = Some(Nak {
            server: "10.0.0.1".parse().unwrap(),
            message: Some("go away".into()),
        });
        assert_eq!(
            report.to_string(),
            "sent 1 DISCOVER, 1 REQUEST, received 6 frames; 4 offers ignored: wrong chaddr; \
             1 NAK ignored: not awaited in BOUND; NAK from 10.0.0.1: \"go away\""
        );
    }
}
