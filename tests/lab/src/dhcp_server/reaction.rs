//! What real servers will not do.

use std::{fmt, sync::Arc, time::Duration};

use dhcproto::v4::{Message, MessageType, OptionCode};

use super::packet::{self, Packet};
use crate::Result;

/// What a server does on a message. Made by [`Reaction::answer`], [`Reaction::silence`] or
/// [`Reaction::nak`], then spoilt.
#[derive(Clone, Default)]
pub struct Reaction {
    answers: Answers,
    delay: Duration,
    further_copies: usize,
    edits: Vec<Change<Message>>,
    mangles: Vec<Change<Vec<u8>>>,
    frame_mangles: Vec<Change<Vec<u8>>>,
}

type Change<T> = Arc<dyn Fn(&mut T) + Send + Sync>;

#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Answers {
    #[default]
    AsUsual,
    Nothing,
    Nak,
}

/// A reaction and when it is due.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) kind: MessageType,
    /// How many times more; `None` is for ever.
    pub(super) times: Option<usize>,
    pub(super) from: Option<[u8; 6]>,
    pub(super) reaction: Reaction,
}

impl Rule {
    pub(super) fn applies_to(&self, packet: &Packet) -> bool {
        packet.kind() == Some(self.kind)
            && self.times != Some(0)
            && self.from.is_none_or(|mac| packet.ethernet_source == mac)
    }
}

impl Reaction {
    /// The usual answer, to be spoilt by what follows.
    pub fn answer() -> Reaction {
        Reaction::default()
    }

    /// No answer, and no notice taken of the message: it is recorded, that is all.
    pub fn silence() -> Reaction {
        Reaction {
            answers: Answers::Nothing,
            ..Reaction::default()
        }
    }

    /// DHCPNAK, whatever was asked.
    pub fn nak() -> Reaction {
        Reaction {
            answers: Answers::Nak,
            ..Reaction::default()
        }
    }

    /// Not at once.
    #[must_use]
    pub fn late(self, delay: Duration) -> Reaction {
        Reaction { delay, ..self }
    }

    /// The answer `copies` times, at least once.
    #[must_use]
    pub fn copies(self, copies: usize) -> Reaction {
        Reaction {
            further_copies: copies.saturating_sub(1),
            ..self
        }
    }

    /// Changes the answer before it is encoded.
    #[must_use]
    pub fn edit(mut self, edit: impl Fn(&mut Message) + Send + Sync + 'static) -> Reaction {
        self.edits.push(Arc::new(edit));
        self
    }

    /// Changes the octets of the answer, the UDP payload.
    #[must_use]
    pub fn mangle(mut self, mangle: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> Reaction {
        self.mangles.push(Arc::new(mangle));
        self
    }

    /// Changes the octets of the frame that carries the answer, behind its checksums' back.
    #[must_use]
    pub fn mangle_frame(
        mut self,
        mangle: impl Fn(&mut Vec<u8>) + Send + Sync + 'static,
    ) -> Reaction {
        self.frame_mangles.push(Arc::new(mangle));
        self
    }

    /// A transaction ID that the client has not used.
    #[must_use]
    pub fn wrong_xid(self) -> Reaction {
        self.edit(|message| {
            message.set_xid(!message.xid());
        })
    }

    /// Another client's hardware address in the message; the frame still comes to this one.
    #[must_use]
    pub fn wrong_chaddr(self) -> Reaction {
        self.edit(|message| {
            message.set_chaddr(&[0x02, 0xba, 0xdb, 0xad, 0xba, 0xd0]);
        })
    }

    /// Without an option, such as the server identifier or the lease time.
    #[must_use]
    pub fn without(self, code: OptionCode) -> Reaction {
        self.edit(move |message| {
            message.opts_mut().remove(code);
        })
    }

    /// The value of an option (if it is there) one octet too short, its length right for what is
    /// left.
    #[must_use]
    pub fn bad_length(self, code: OptionCode) -> Reaction {
        self.mangle(move |payload| {
            rewrite_options(payload, |options| {
                for (_, value) in options
                    .iter_mut()
                    .filter(|(candidate, _)| *candidate == u8::from(code))
                {
                    value.pop();
                }
            });
        })
    }

    /// All options but the message type in the fields `file` and `sname` (option overload, RFC
    /// 2132, section 9.3).
    #[must_use]
    pub fn overloaded(self) -> Reaction {
        self.mangle(overload)
    }

    pub(super) fn answers(&self) -> Answers {
        self.answers
    }

    pub(super) fn delay(&self) -> Duration {
        self.delay
    }

    pub(super) fn copy_count(&self) -> usize {
        self.further_copies + 1
    }

    /// The frame to be sent instead of this one.
    pub(super) fn frame(&self, mut frame: Vec<u8>) -> Vec<u8> {
        for mangle in &self.frame_mangles {
            mangle(&mut frame);
        }
        frame
    }

    /// The octets to be sent for an answer.
    pub(super) fn payload(&self, mut message: Message) -> Result<Vec<u8>> {
        for edit in &self.edits {
            edit(&mut message);
        }
        let mut payload = packet::encode(&message)?;
        for mangle in &self.mangles {
            mangle(&mut payload);
        }
        Ok(payload)
    }
}

impl fmt::Debug for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reaction")
            .field("answers", &self.answers)
            .field("delay", &self.delay)
            .field("copies", &(self.further_copies + 1))
            .field("edits", &self.edits.len())
            .field("mangles", &self.mangles.len())
            .field("frame_mangles", &self.frame_mangles.len())
            .finish()
    }
}

/// Where in a message the fields are (RFC 2131, section 2, and its magic cookie).
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const OPTIONS: usize = 240;

const PAD: u8 = 0;
const OVERLOAD: u8 = 52;
const MESSAGE_TYPE: u8 = 53;
const END: u8 = 255;

type Options = Vec<(u8, Vec<u8>)>;

fn overload(payload: &mut Vec<u8>) {
    let mut fields = [(FILE, Vec::new()), (SNAME, Vec::new())];
    rewrite_options(payload, |options| {
        for (code, value) in std::mem::take(options) {
            let field = fields
                .iter_mut()
                .find(|(range, field)| field.len() + value.len() + 3 <= range.len());
            match field {
                Some((_, field)) if code != MESSAGE_TYPE => push_option(field, code, &value),
                _ => options.push((code, value)),
            }
        }
        options.push((OVERLOAD, vec![3])); // both fields
    });
    for (range, mut field) in fields {
        field.push(END);
        field.resize(range.len(), PAD);
        payload[range].copy_from_slice(&field);
    }
}

/// Takes the options field apart, lets `change` have its way, and puts it together again, as long
/// as before or longer.
fn rewrite_options(payload: &mut Vec<u8>, change: impl FnOnce(&mut Options)) {
    let length = payload.len();
    let mut options = split_options(&payload[OPTIONS..]);
    change(&mut options);
    payload.truncate(OPTIONS);
    for (code, value) in &options {
        push_option(payload, *code, value);
    }
    payload.push(END);
    payload.resize(payload.len().max(length), PAD);
}

/// The options of a message that we have encoded ourselves, so that it can only be well-formed.
fn split_options(mut field: &[u8]) -> Options {
    let mut options = Vec::new();
    while let [code, rest @ ..] = field {
        match *code {
            PAD => field = rest,
            END => break,
            code => {
                let (value, rest) = rest[1..].split_at(usize::from(rest[0]));
                options.push((code, value.to_vec()));
                field = rest;
            }
        }
    }
    options
}

fn push_option(field: &mut Vec<u8>, code: u8, value: &[u8]) {
    field.push(code);
    field.push(u8::try_from(value.len()).expect("an option's value has at most 255 octets"));
    field.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use dhcproto::v4::DhcpOption;

    use super::*;

    fn offer() -> Message {
        let mut message = Message::default();
        message
            .opts_mut()
            .insert(DhcpOption::MessageType(MessageType::Offer));
        message.opts_mut().insert(DhcpOption::AddressLeaseTime(60));
        message
            .opts_mut()
            .insert(DhcpOption::ServerIdentifier([10, 99, 0, 1].into()));
        message
    }

    #[test]
    fn an_overloaded_answer_has_its_options_in_the_file_field() {
        let payload = Reaction::answer().overloaded().payload(offer()).unwrap();
        assert_eq!(
            split_options(&payload[OPTIONS..]),
            [(MESSAGE_TYPE, vec![2]), (OVERLOAD, vec![3])]
        );
        assert_eq!(
            split_options(&payload[FILE]),
            [(51, vec![0, 0, 0, 60]), (54, vec![10, 99, 0, 1])]
        );
        assert_eq!(payload.len(), 300);
    }

    #[test]
    fn a_bad_length_is_one_short() {
        let payload = Reaction::answer()
            .bad_length(OptionCode::AddressLeaseTime)
            .payload(offer())
            .unwrap();
        assert!(split_options(&payload[OPTIONS..]).contains(&(51, vec![0, 0, 0])));
    }
}
