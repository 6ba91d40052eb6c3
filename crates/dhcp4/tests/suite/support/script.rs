//! A client driven by a script that reads like a packet capture.
//!
//! Each line has a time in seconds, a sign and an action:
//!
//! ```text
//! 0     > DISCOVER to=all                           the client sends exactly this
//! 0.1   < OFFER 10.0.0.5 from=10.0.0.1 lease=60     the client receives this
//! 0.1   ! release                                   the driver calls this method
//! 0.1   = BOUND 10.0.0.5 until=60.1                 an event that begins like this
//! 0.1   . BOUND                                     the client is in this state
//! 0.1   x ACK 10.0.0.5 from=10.0.0.9 ... / reason   the client ignores this for this reason
//! ```
//!
//! A time with a `~` may be off by a quarter, because of jitter. The test fails if the client sends
//! or reports anything that is not in the script.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use dhcp4::{Client, Event, Instant, Lease};

use super::message::{ACK, NAK, OFFER, Reply, Request};
use super::{CLIENT_ID, MAC, OTHER_MAC, START, after};

/// Plays a script that begins at [`START`], and returns the client.
#[track_caller]
pub(crate) fn play(client: Client, script: &str) -> Client {
    play_from(0.0, client, script)
}

/// Plays a script with a client that was made this many seconds after [`START`].
#[track_caller]
pub(crate) fn play_from(begin: f64, client: Client, script: &str) -> Client {
    let mut stage = Stage::new(client, after(begin));
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        stage.line(line);
    }
    assert_eq!(
        stage.output,
        VecDeque::<(Instant, String)>::new(),
        "the client does only what is in the script"
    );
    stage.client
}

struct Stage {
    client: Client,
    now: Instant,
    /// The transaction id and the client's MAC in the last message.
    xid: u32,
    mac: [u8; 6],
    /// What the client did that no line has matched yet.
    output: VecDeque<(Instant, String)>,
}

impl Stage {
    fn new(client: Client, now: Instant) -> Stage {
        let mut stage = Stage {
            client,
            now,
            xid: 0,
            mac: MAC,
            output: VecDeque::new(),
        };
        stage.collect();
        stage
    }

    #[track_caller]
    fn line(&mut self, line: &str) {
        let mut words = line.splitn(3, char::is_whitespace).map(str::trim);
        let time = words.next().unwrap_or_default();
        let rest = line[time.len()..].trim();
        let (sign, what) = rest
            .split_at_checked(1)
            .unwrap_or_else(|| panic!("not a line of a script: {line}"));
        let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
        match sign {
            ">" | "=" => self.expect(line, time, &format!("{sign} {what}")),
            "<" => {
                self.run_to(line, time);
                let reply = self.reply(&what);
                let answer = self
                    .client
                    .handle_packet(self.now, &reply.encode(), from(&what));
                assert_eq!(answer, Ok(()), "{line}");
                self.collect();
            }
            "x" => {
                self.run_to(line, time);
                let (reply, reason) = what.split_once(" / ").expect("a reason after a slash");
                let reply = self.reply(reply).encode();
                let answer = self.client.handle_packet(self.now, &reply, from(&what));
                assert_eq!(
                    answer.map_err(|ignored| ignored.reason.to_string()),
                    Err(reason.to_owned()),
                    "{line}"
                );
                self.collect();
            }
            "!" => {
                self.run_to(line, time);
                self.call(&what);
                self.collect();
            }
            "." => {
                self.run_to(line, time);
                assert_eq!(self.client.state().to_string(), what, "{line}");
            }
            _ => panic!("not a line of a script: {line}"),
        }
    }

    /// Lets time pass until the client does something, and checks it.
    #[track_caller]
    fn expect(&mut self, line: &str, time: &str, what: &str) {
        while self.output.is_empty() {
            let due = self
                .client
                .poll_timeout()
                .unwrap_or_else(|| panic!("the client has no timer: {line}"));
            assert!(due < after(1e9), "the next timer is decades away: {line}");
            self.now = self.now.max(due);
            self.client.handle_timeout(self.now);
            self.collect();
        }
        let (at, output) = self.output.pop_front().expect("not empty");
        let matches = if what.starts_with('=') {
            output.starts_with(what)
        } else {
            output == what
        };
        assert!(matches, "{output} at {}: {line}", seconds(at));
        let (nominal, tolerance) = parse_time(time);
        let off = (seconds(at) - nominal).abs();
        assert!(off <= tolerance, "at {}, not {time}: {line}", seconds(at));
    }

    /// Lets time pass up to this point, and checks that the client does nothing before it.
    #[track_caller]
    fn run_to(&mut self, line: &str, time: &str) {
        let until = after(parse_time(time).0);
        while let Some(due) = self.client.poll_timeout().filter(|&due| due < until) {
            self.now = self.now.max(due);
            self.client.handle_timeout(self.now);
            self.collect();
            assert_eq!(self.output.front(), None, "before: {line}");
        }
        assert_eq!(self.output.front(), None, "before: {line}");
        self.now = self.now.max(until);
    }

    fn collect(&mut self) {
        while let Some(event) = self.client.poll_event() {
            self.output
                .push_back((self.now, format!("= {}", describe(&event))));
        }
        while let Some(transmit) = self.client.poll_transmit() {
            self.client.note_sent(transmit.kind);
            let request = Request::read(transmit);
            self.xid = request.xid();
            self.mac = request.mac();
            self.output.push_back((self.now, format!("> {request}")));
        }
    }

    fn call(&mut self, what: &str) {
        match what {
            "release" => self.client.release(self.now),
            "accept" => assert!(self.client.accept(self.now)),
            "decline" => assert!(self.client.decline(self.now)),
            "link" => self.client.link_restored(self.now),
            "require" => self.client.require_address([10, 0, 0, 5].into()),
            "mac" => {
                let id = Some(CLIENT_ID.into());
                self.client.adopt_mac(self.now, OTHER_MAC, id);
            }
            "mac without identifier" => self.client.adopt_mac(self.now, OTHER_MAC, None),
            _ => panic!("no such call: {what}"),
        }
    }

    fn reply(&self, what: &str) -> Reply {
        let mut words = what.split(' ');
        let kind = match words.next() {
            Some("OFFER") => OFFER,
            Some("ACK") => ACK,
            Some("NAK") => NAK,
            other => panic!("no such message: {other:?}"),
        };
        let mut reply = Reply::new(kind, self.xid).chaddr(self.mac);
        for word in words {
            reply = match word.split_once('=').unwrap_or((word, "")) {
                ("from", server) => reply.option(54, parse::<Ipv4Addr>(server).octets()),
                ("source", _) => reply,
                ("mask", mask) => reply.option(1, parse::<Ipv4Addr>(mask).octets()),
                ("router", router) => reply.option(3, parse::<Ipv4Addr>(router).octets()),
                ("mtu", mtu) => reply.option(26, parse::<u16>(mtu).to_be_bytes()),
                ("lease", seconds) => reply.option(51, parse::<u32>(seconds).to_be_bytes()),
                ("t1", seconds) => reply.option(58, parse::<u32>(seconds).to_be_bytes()),
                ("t2", seconds) => reply.option(59, parse::<u32>(seconds).to_be_bytes()),
                ("text", text) => reply.option(56, text),
                ("rapid", _) => reply.option(80, []),
                ("id", id) => reply.option(61, id),
                ("xid", offset) => Reply {
                    xid: reply.xid.wrapping_add(parse(offset)),
                    ..reply
                },
                (address, "") => reply.yiaddr(parse(address)),
                _ => panic!("no such field: {word}"),
            };
        }
        reply
    }
}

/// The source address of a reply: that of its server, unless the line has a `source`.
fn from(what: &str) -> Ipv4Addr {
    let address = |key| what.split(' ').find_map(|word| word.strip_prefix(key));
    let source = address("source=").or_else(|| address("from="));
    source.map_or(Ipv4Addr::UNSPECIFIED, parse)
}

fn describe(event: &Event) -> String {
    match event {
        Event::Granted(lease) => format!("GRANTED {}", term(lease)),
        Event::Bound(lease) => format!("BOUND {}", term(lease)),
        Event::Renewed { old, new } => {
            assert_eq!(old.address, new.address);
            format!("RENEWED {}", term(new))
        }
        Event::Lost { lease, reason } => format!("LOST {} {reason}", lease.address),
        Event::OtherOffered { address, server } => format!("OFFERED {address} by {server}"),
    }
}

fn term(lease: &Lease) -> String {
    match lease.expires_at() {
        Some(end) => format!("{} until={:.1}", lease.address, seconds(end)),
        None => format!("{} until=never", lease.address),
    }
}

fn seconds(at: Instant) -> f64 {
    at.since_boot().as_secs_f64() - START.since_boot().as_secs_f64()
}

/// A time and its tolerance, in seconds.
fn parse_time(time: &str) -> (f64, f64) {
    match time.strip_prefix('~') {
        Some(nominal) => (parse(nominal), parse::<f64>(nominal) / 4.0),
        None => (parse(time), 0.001),
    }
}

fn parse<T: std::str::FromStr>(text: &str) -> T {
    text.parse()
        .unwrap_or_else(|_| panic!("cannot parse {text:?}"))
}
