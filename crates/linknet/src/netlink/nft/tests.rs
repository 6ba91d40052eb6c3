use super::attributes::Attributes;
use super::message::{self, Body};
use super::*;
use rtnetlink::packet_core::Emitable;

fn octets(attributes: &Attributes) -> Vec<u8> {
    attributes.as_octets().to_vec()
}

fn table() -> Table {
    Table {
        family: Family::Netdev,
        name: "t".to_owned(),
        comment: "hi".to_owned(),
        chains: Vec::new(),
    }
}

fn chain(hook: Option<Hook>, rules: Vec<Rule>) -> Chain {
    Chain {
        name: "out".to_owned(),
        hook,
        rules,
    }
}

#[test]
fn an_attribute_has_its_length_its_kind_and_padding() {
    let attributes = Attributes::default().text(3, "ab").number(2, 258);
    let [low, high] = 7_u16.to_ne_bytes();
    let kind = 3_u16.to_ne_bytes();
    let mut expected = vec![low, high, kind[0], kind[1], b'a', b'b', 0, 0];
    expected.extend(8_u16.to_ne_bytes());
    expected.extend(2_u16.to_ne_bytes());
    expected.extend([0, 0, 1, 2]);
    assert_eq!(octets(&attributes), expected);
}

#[test]
fn a_request_begins_with_its_family() {
    let body = |body: Body| {
        let mut octets = vec![0xff; body.buffer_len()];
        body.emit(&mut octets);
        octets
    };
    let none = Attributes::default();
    assert_eq!(body(Body::new(Family::Netdev, &none)), [5, 0, 0, 0]);
    assert_eq!(body(Body::new(Family::Inet, &none)), [1, 0, 0, 0]);
    assert_eq!(body(Body::of_batch()), [0, 0, 0, 10]);
}

#[test]
fn a_tables_comment_is_stored_as_nft_stores_it() {
    let attributes = message::new_table(&table());
    let expected = Attributes::default()
        .text(1, "t")
        .octets(6, b"\x00\x03hi\x00");
    assert_eq!(attributes, expected);
    assert_eq!(message::comment_text(b"\x00\x03hi\x00"), "hi");
    for other in [&b""[..], b"\x00", b"\x00\x09hi\x00", b"\x01\x03hi\x00"] {
        assert_eq!(message::comment_text(other), "", "{other:?}");
    }
}

#[test]
fn a_long_comment_is_cut_off_between_two_characters() {
    let comment = "\u{fc}".repeat(200);
    let attributes = message::new_table(&Table { comment, ..table() });
    let expected = "\u{fc}".repeat(126);
    let expected = Attributes::default()
        .text(1, "t")
        .octets(6, &[b"\0\xfd", expected.as_bytes(), b"\0"].concat());
    assert_eq!(attributes, expected);
}

#[test]
fn a_chain_has_the_hook_that_packets_come_in_by() {
    let egress = Hook {
        point: HookPoint::Egress {
            device: "eth0".to_owned(),
        },
        priority: -1,
        policy: Policy::Drop,
    };
    let named = Attributes::default().text(1, "t").text(3, "out");
    let hook = Attributes::default()
        .number(1, 1)
        .octets(2, &[0xff; 4])
        .text(3, "eth0");
    let expected = named
        .clone()
        .nested(4, &hook)
        .number(5, 0)
        .text(7, "filter");
    assert_eq!(
        message::new_chain(&table(), &chain(Some(egress), vec![])),
        expected
    );
    let prerouting = Hook {
        point: HookPoint::Prerouting,
        priority: 2,
        policy: Policy::Accept,
    };
    let hook = Attributes::default().number(1, 0).number(2, 2);
    let expected = named
        .clone()
        .nested(4, &hook)
        .number(5, 1)
        .text(7, "filter");
    assert_eq!(
        message::new_chain(&table(), &chain(Some(prerouting), vec![])),
        expected
    );
    assert_eq!(message::new_chain(&table(), &chain(None, vec![])), named);
}

/// The expressions of a rule, each as its name and its data.
fn expressions(rule: &Rule) -> Vec<(&'static str, Attributes)> {
    let attributes = message::new_rule(&table(), &chain(None, vec![]), rule);
    let names = [
        "payload",
        "meta",
        "ct",
        "bitwise",
        "cmp",
        "range",
        "counter",
        "immediate",
    ];
    let find = |kind: u16, octets: &[u8]| {
        let found = super::super::attribute::attributes(octets).find(|it| it.kind() == kind);
        found.map(|it| it.value().to_vec()).unwrap()
    };
    let list = find(4, attributes.as_octets());
    let list = super::super::attribute::attributes(&list);
    list.map(|element| {
        let name = find(1, element.value());
        let name = names
            .into_iter()
            .find(|it| [it.as_bytes(), b"\0"].concat() == name);
        let data = find(2, element.value());
        (name.unwrap(), Attributes::from_octets(data))
    })
    .collect()
}

fn data() -> Attributes {
    Attributes::default()
}

fn value(octets: &[u8]) -> Attributes {
    data().octets(1, octets)
}

fn compare(operator: u32, octets: &[u8]) -> (&'static str, Attributes) {
    (
        "cmp",
        data()
            .number(1, 1)
            .number(2, operator)
            .nested(3, &value(octets)),
    )
}

fn verdict(verdict: &Attributes) -> (&'static str, Attributes) {
    (
        "immediate",
        data().number(1, 0).nested(2, &data().nested(2, verdict)),
    )
}

#[test]
fn a_rule_loads_masks_and_compares_before_its_verdict() {
    let rule = Rule::new(Verdict::Drop, "fragments")
        .when(Match::frame(20, &[0, 0]).masked(&[0x1f, 0xff]).negated())
        .when(Match::transport(2, &[0, 80]).up_to(&[1, 187]))
        .counted();
    let load = |base, offset| {
        data()
            .number(1, 1)
            .number(2, base)
            .number(3, offset)
            .number(4, 2)
    };
    let mask = data().number(1, 1).number(2, 1).number(3, 2);
    let mask = mask
        .nested(4, &value(&[0x1f, 0xff]))
        .nested(5, &value(&[0, 0]));
    let expected = vec![
        ("payload", load(0, 20)),
        ("bitwise", mask),
        compare(1, &[0, 0]),
        ("payload", load(2, 2)),
        compare(5, &[0, 80]),
        compare(3, &[1, 187]),
        ("counter", data()),
        verdict(&data().number(1, 0)),
    ];
    assert_eq!(expressions(&rule), expected);
}

#[test]
fn conditions_on_one_field_in_a_row_load_it_once() {
    let protocol = Match::protocol(6).negated();
    let masked = Match::protocol(0).masked(&[0xf0]);
    let rule = Rule::new(Verdict::Drop, "")
        .when(protocol.clone())
        .when(Match::protocol(17).up_to(&[18]).negated())
        .when(masked.clone())
        .when(masked.negated())
        .when(Match::ip_version(2))
        .when(protocol);
    let names: Vec<_> = expressions(&rule).iter().map(|(name, _)| *name).collect();
    let expected = "meta cmp range meta bitwise cmp cmp meta cmp meta cmp immediate";
    assert_eq!(names.join(" "), expected);
}

#[test]
fn a_range_can_be_negated() {
    let range = Match::transport(2, &[0, 80]).up_to(&[1, 187]);
    let outside = Rule::new(Verdict::Accept, "").when(range.clone().negated());
    let data_of_range = data().number(1, 1).number(2, 1);
    let expected = (
        "range",
        data_of_range
            .nested(3, &value(&[0, 80]))
            .nested(4, &value(&[1, 187])),
    );
    assert_eq!(expressions(&outside)[1..2], [expected]);
    let one_value = Match::transport(2, &[0, 80]);
    assert_eq!(one_value.clone().up_to(&[0, 80]), one_value);
    let any_other = one_value.clone().negated();
    assert_eq!(any_other.clone().up_to(&[0, 80]), any_other);
    let other_order = any_other.up_to(&[1, 187]);
    assert_eq!(range.clone().negated(), other_order);
    assert_eq!(other_order.negated(), range);
}

#[test]
fn a_rule_can_ask_what_the_kernel_knows_of_a_packet() {
    let rule = Rule::new(Verdict::Accept, "")
        .when(Match::mark(0x2043))
        .when(Match::incoming_link(7))
        .when(Match::ip_version(10))
        .when(Match::protocol(6))
        .when(Match::known_connection());
    let meta = |key| ("meta", data().number(1, 1).number(2, key));
    let state = data().number(1, 1).number(2, 1).number(3, 4);
    let state = state
        .nested(4, &value(&6_u32.to_ne_bytes()))
        .nested(5, &value(&[0; 4]));
    let expected = vec![
        meta(3),
        compare(0, &0x2043_u32.to_ne_bytes()),
        meta(4),
        compare(0, &7_u32.to_ne_bytes()),
        meta(15),
        compare(0, &[10]),
        meta(16),
        compare(0, &[6]),
        ("ct", data().number(1, 1).number(2, 0)),
        ("bitwise", state),
        compare(1, &[0; 4]),
        verdict(&data().number(1, 1)),
    ];
    assert_eq!(expressions(&rule), expected);
}

#[test]
fn a_rule_can_lead_to_another_chain() {
    let rule = Rule::new(Verdict::Goto("udp".to_owned()), "");
    let goto = data().number(1, (-4_i32).cast_unsigned()).text(2, "udp");
    assert_eq!(expressions(&rule), [verdict(&goto)]);
    let rule = Rule::new(Verdict::Jump("udp".to_owned()), "");
    let jump = data().number(1, (-3_i32).cast_unsigned()).text(2, "udp");
    assert_eq!(expressions(&rule), [verdict(&jump)]);
    let network = Rule::new(Verdict::Accept, "").when(Match::network(12, &[10]));
    let load = data().number(1, 1).number(2, 1).number(3, 12).number(4, 1);
    assert_eq!(expressions(&network)[0], ("payload", load));
}

#[test]
fn what_the_kernel_adds_is_no_difference() {
    let list = |elements: &[u32]| {
        let append = |all: Attributes, one: &u32| all.nested(1, &data().number(5, *one));
        elements.iter().fold(data(), append)
    };
    let expected = data().text(1, "t").nested(4, &list(&[1, 2]));
    let is_in = |shown: Attributes| expected.are_in(shown.as_octets());
    assert!(is_in(expected.clone()));
    // In another order, with a handle, and without the flag for nested attributes.
    let unflagged = data().octets(4, list(&[1, 2]).as_octets());
    let with_handle = data().number(9, 77);
    let shown = [with_handle, unflagged, data().text(1, "t")];
    let shown: Vec<u8> = shown.iter().flat_map(octets).collect();
    assert!(expected.are_in(&shown));
    for other in [
        data().text(1, "u").nested(4, &list(&[1, 2])),
        data().text(1, "t"),
        data().text(1, "t").nested(4, &list(&[2, 1])),
        data().text(1, "t").nested(4, &list(&[1])),
        data().text(1, "t").nested(4, &list(&[1, 2, 3])),
    ] {
        assert!(!is_in(other.clone()), "{other:?}");
    }
}
