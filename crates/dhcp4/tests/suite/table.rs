//! The transition table: what each input does in each state.

use std::net::Ipv4Addr;

use dhcp4::{Client, Config, Event, Instant};

use crate::support::message::{ACK, NAK, OFFER, Reply, Request};
use crate::support::{START, after, config, past_lease};

/// The state after each input. After a `+` follow the events (g: Granted, b: Bound, r: Renewed,
/// l: Lost) and the messages (D: DISCOVER, Q: REQUEST, X: DECLINE, R: RELEASE) that came with it. A
/// `-` means that the input had no effect. "other" is a server that was not asked, "rapid" an ACK
/// with Rapid Commit. "early" calls `handle_timeout` before the timer is due, "end" after any lease
/// has expired.
///
/// Four rows are variants of a state: FALLBACK is SELECTING with an offer from an unreliable
/// server, TWO-OFFERS is REQUESTING with another server's offer at hand, LAST-TRY is REQUESTING
/// after the last REQUEST, and CONFIRMING is REBOOTING with a lease.
const TABLE: &str = "
state       early  timer         end           offer         offer/other   ack          ack/other    rapid        nak           nak/other     junk  accept   decline  link          release
INIT        -      SELECTING+D   SELECTING+D   -             -             -            -            -            -             -             -     -        -        SELECTING+D   STOPPED
SELECTING   -      SELECTING+D   SELECTING+D   REQUESTING+Q  REQUESTING+Q  -            -            BOUND+b      -             -             -     -        -        SELECTING+D   STOPPED
FALLBACK    -      REQUESTING+Q  REQUESTING+Q  SELECTING     REQUESTING+Q  -            -            BOUND+b      -             -             -     -        -        SELECTING+D   STOPPED
REQUESTING  -      REQUESTING+Q  REQUESTING+Q  -             REQUESTING    BOUND+b      -            BOUND+b      SELECTING+D   -             -     -        -        SELECTING+D   STOPPED+R
TWO-OFFERS  -      REQUESTING+Q  REQUESTING+Q  -             -             BOUND+b      -            BOUND+b      REQUESTING+Q  -             -     -        -        SELECTING+D   STOPPED+R
LAST-TRY    -      SELECTING+D   SELECTING+D   -             REQUESTING    BOUND+b      -            BOUND+b      SELECTING+D   -             -     -        -        SELECTING+D   STOPPED+R
REBOOTING   -      SELECTING+D   SELECTING+D   -             -             BOUND+b      BOUND+b      BOUND+b      SELECTING+D   SELECTING+D   -     -        -        REBOOTING+Q   STOPPED+R
CONFIRMING  -      REBOOTING+Q   SELECTING+lD  -             -             BOUND+r      BOUND+r      BOUND+r      SELECTING+lD  SELECTING+lD  -     -        INIT+lX  REBOOTING+Q   STOPPED+R
GRANTED     -      SELECTING+D   SELECTING+D   -             -             -            -            -            -             -             -     BOUND+b  INIT+X   -             STOPPED+R
BOUND       -      RENEWING+Q    SELECTING+lD  -             -             -            -            -            -             -             -     -        INIT+lX  REBOOTING+Q   STOPPED+R
RENEWING    -      RENEWING+Q    SELECTING+lD  -             -             BOUND+r      BOUND+r      BOUND+r      SELECTING+lD  -             -     -        INIT+lX  REBOOTING+Q   STOPPED+R
REBINDING   -      REBINDING+Q   SELECTING+lD  -             -             BOUND+r      BOUND+r      BOUND+r      SELECTING+lD  SELECTING+lD  -     -        INIT+lX  REBOOTING+Q   STOPPED+R
STOPPED     -      -             -             -             -             -            -            -            -             -             -     -        -        -             -
";

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

#[test]
fn every_input_in_every_state_has_the_effect_in_the_table() {
    let mut lines = TABLE.lines().filter(|line| !line.is_empty());
    let inputs: Vec<&str> = lines.next().unwrap().split_whitespace().skip(1).collect();
    let mut wrong = Vec::new();
    let mut states = 0;
    for line in lines {
        let mut cells = line.split_whitespace();
        let state = cells.next().unwrap();
        states += 1;
        let cells: Vec<&str> = cells.collect();
        assert_eq!(cells.len(), inputs.len(), "{line}");
        for (input, expected) in inputs.iter().zip(cells) {
            let found = Case::in_state(state).after_input(input);
            if found != expected {
                wrong.push(format!("{state} × {input}: {found}, not {expected}"));
            }
        }
    }
    assert_eq!(states, 13);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A client in one of the states, with its events and messages from the way there discarded.
struct Case {
    client: Client,
    now: Instant,
    xid: u32,
}

impl Case {
    fn in_state(state: &str) -> Case {
        let config = Config {
            rapid_commit: true,
            ..config()
        };
        let reboot = || Client::reboot(config.clone(), 1, past_lease(), START);
        let mut case = match state {
            "GRANTED" => Case::new(Client::new(
                Config {
                    probe_before_bind: true,
                    ..config
                },
                1,
                START,
            )),
            "REBOOTING" => Case::new(reboot()),
            _ => Case::new(Client::new(config, 1, START)),
        };
        match state {
            "SELECTING" | "REBOOTING" => {}
            "FALLBACK" => {
                for kind in [OFFER, NAK, OFFER] {
                    case.receive(kind, SERVER, false);
                }
            }
            "REQUESTING" => case.receive(OFFER, SERVER, false),
            "TWO-OFFERS" => {
                case.receive(OFFER, SERVER, false);
                case.receive(OFFER, OTHER, false);
            }
            "LAST-TRY" => {
                case.receive(OFFER, SERVER, false);
                (0..3).for_each(|_| case.let_timer_run());
            }
            "INIT" => {
                case.bind();
                assert!(case.client.decline(case.now));
            }
            "STOPPED" => case.client.release(case.now),
            "CONFIRMING" => {
                case.bind();
                case.client.link_restored(case.now);
            }
            "GRANTED" | "BOUND" => case.bind(),
            "RENEWING" => {
                case.bind();
                case.let_timer_run();
            }
            "REBINDING" => {
                case.bind();
                while case.client.state().to_string() != "REBINDING" {
                    case.let_timer_run();
                }
            }
            _ => panic!("no such state: {state}"),
        }
        case.outputs();
        // The table's own names for variants of a state.
        let name = match state {
            "FALLBACK" => "SELECTING",
            "LAST-TRY" | "TWO-OFFERS" => "REQUESTING",
            "CONFIRMING" => "REBOOTING",
            name => name,
        };
        assert_eq!(case.client.state().to_string(), name);
        case
    }

    fn new(client: Client) -> Case {
        let mut case = Case {
            client,
            now: START,
            xid: 0,
        };
        case.outputs();
        case
    }

    fn after_input(mut self, input: &str) -> String {
        let before = format!("{:?}", self.client.state());
        let mut nothing = false;
        match input {
            "early" => self.client.handle_timeout(self.now),
            "timer" => self.let_timer_run(),
            "end" => self.client.handle_timeout(after(1e6)),
            "offer" => nothing = !self.try_receive(OFFER, SERVER, false),
            "offer/other" => nothing = !self.try_receive(OFFER, OTHER, false),
            "ack" => nothing = !self.try_receive(ACK, SERVER, false),
            "ack/other" => nothing = !self.try_receive(ACK, OTHER, false),
            "rapid" => nothing = !self.try_receive(ACK, SERVER, true),
            "nak" => nothing = !self.try_receive(NAK, SERVER, false),
            "nak/other" => nothing = !self.try_receive(NAK, OTHER, false),
            "junk" => {
                nothing = self
                    .client
                    .handle_packet(self.now, b"junk", SERVER)
                    .is_err();
            }
            "accept" => nothing = !self.client.accept(self.now),
            "decline" => nothing = !self.client.decline(self.now),
            "link" => self.client.link_restored(self.now),
            "release" => self.client.release(self.now),
            _ => panic!("no such input: {input}"),
        }
        let outputs = self.outputs();
        let unchanged = before == format!("{:?}", self.client.state());
        // An offer that is kept has no visible effect, but it was not ignored either.
        if unchanged && outputs.is_empty() && (nothing || !input.starts_with("offer")) {
            return "-".to_owned();
        }
        assert!(
            !nothing,
            "{input} was reported as ignored, but had an effect"
        );
        let plus = if outputs.is_empty() { "" } else { "+" };
        format!("{}{plus}{outputs}", self.client.state())
    }

    /// To BOUND, or GRANTED, by rapid commit.
    fn bind(&mut self) {
        self.receive(ACK, SERVER, true);
    }

    fn receive(&mut self, kind: u8, server: Ipv4Addr, rapid: bool) {
        assert!(self.try_receive(kind, server, rapid));
        self.outputs();
    }

    fn try_receive(&mut self, kind: u8, server: Ipv4Addr, rapid: bool) -> bool {
        let mut reply = Reply::lease(kind, self.xid, ADDRESS, server, 1000);
        if rapid {
            reply = reply.option(80, []);
        }
        self.client
            .handle_packet(self.now, &reply.encode(), server)
            .is_ok()
    }

    fn let_timer_run(&mut self) {
        if let Some(due) = self.client.poll_timeout() {
            self.now = due;
        }
        self.client.handle_timeout(self.now);
        if self.client.state().to_string() != "STOPPED" {
            // Read at once, to know the id of the next transaction.
            self.peek_xid();
        }
    }

    fn peek_xid(&mut self) {
        if let Some(transmit) = self.client.clone().poll_transmit() {
            self.xid = Request::read(transmit).xid();
        }
    }

    fn outputs(&mut self) -> String {
        let mut outputs = String::new();
        while let Some(event) = self.client.poll_event() {
            outputs.push(match event {
                Event::Granted(_) => 'g',
                Event::Bound(_) => 'b',
                Event::Renewed { .. } => 'r',
                Event::Lost { .. } => 'l',
                Event::OtherOffered { .. } => 'o',
            });
        }
        while let Some(transmit) = self.client.poll_transmit() {
            let request = Request::read(transmit);
            self.xid = request.xid();
            outputs.push(match request.payload[242] {
                1 => 'D',
                3 => 'Q',
                4 => 'X',
                7 => 'R',
                other => panic!("message type {other}"),
            });
        }
        outputs
    }
}
