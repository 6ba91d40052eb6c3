//! The messages of nf_tables (linux/netfilter/nf_tables.h): one for a table, for each chain and for
//! each rule.

use rtnetlink::packet_core::Emitable;

use super::attributes::Attributes;
use super::{
    Base, Chain, Family, Field, Hook, HookPoint, Match, Policy, Rule, Table, Test, Verdict,
};

/// The kinds of messages, in the subsystem of nf_tables (`NFNL_SUBSYS_NFTABLES << 8`).
pub(super) const NEW_TABLE: u16 = kind(0);
pub(super) const GET_TABLE: u16 = kind(1);
pub(super) const DELETE_TABLE: u16 = kind(2);
pub(super) const NEW_CHAIN: u16 = kind(3);
pub(super) const GET_CHAIN: u16 = kind(4);
pub(super) const NEW_RULE: u16 = kind(6);
pub(super) const GET_RULE: u16 = kind(7);
pub(super) const GET_GENERATION: u16 = kind(16);
/// The beginning and end of a transaction (linux/netfilter/nfnetlink.h).
pub(super) const BATCH_BEGIN: u16 = 0x10;
pub(super) const BATCH_END: u16 = 0x11;

const SUBSYSTEM: u16 = 10;

const fn kind(number: u16) -> u16 {
    SUBSYSTEM << 8 | number
}

/// `NFTA_TABLE_…`
pub(super) const TABLE_NAME: u16 = 1;
pub(super) const TABLE_USERDATA: u16 = 6;
pub(super) const TABLE_OWNER: u16 = 7;

/// `NFTA_GEN_ID`
pub(super) const GENERATION_ID: u16 = 1;

/// `NFTA_CHAIN_…`
pub(super) const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;

/// `NFTA_HOOK_…`
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;

/// `NFTA_RULE_…`
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
pub(super) const RULE_USERDATA: u16 = 7;

/// `NFTA_LIST_ELEM`
const LIST_ELEMENT: u16 = 1;

/// `NFTA_EXPR_…`
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;

/// `NFTA_DATA_…` and `NFTA_VERDICT_…`
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// The register that every field is loaded into (`NFT_REG_1`), and that of verdicts.
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;

/// The length of the header before the attributes (`struct nfgenmsg`).
pub(super) const HEADER_LEN: usize = 4;

/// What follows the header of every netlink message.
pub(super) struct Body(Vec<u8>);

impl Body {
    /// A request to a family of tables.
    pub(super) fn new(family: Family, attributes: &Attributes) -> Body {
        let header = header(family.number(), 0);
        Body([&header, attributes.as_octets()].concat())
    }

    /// That of [`BATCH_BEGIN`] and [`BATCH_END`].
    pub(super) fn of_batch() -> Body {
        Body(header(0, SUBSYSTEM).to_vec())
    }
}

fn header(family: u8, resource: u16) -> [u8; HEADER_LEN] {
    const NFNETLINK_V0: u8 = 0;
    let [high, low] = resource.to_be_bytes();
    [family, NFNETLINK_V0, high, low]
}

impl Emitable for Body {
    fn buffer_len(&self) -> usize {
        self.0.len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.0);
    }
}

impl Family {
    /// `NFPROTO_…`
    fn number(self) -> u8 {
        match self {
            Family::Inet => 1,
            Family::Netdev => 5,
        }
    }
}

pub(super) fn table_name(name: &str) -> Attributes {
    Attributes::default().text(TABLE_NAME, name)
}

pub(super) fn new_table(table: &Table) -> Attributes {
    table_name(&table.name).octets(TABLE_USERDATA, &comment(&table.comment))
}

pub(super) fn new_chain(table: &Table, chain: &Chain) -> Attributes {
    let attributes = Attributes::default()
        .text(CHAIN_TABLE, &table.name)
        .text(CHAIN_NAME, &chain.name);
    match &chain.hook {
        None => attributes,
        Some(hook) => attributes
            .nested(CHAIN_HOOK, &hook_attributes(hook))
            .number(CHAIN_POLICY, hook.policy.number())
            .text(CHAIN_TYPE, "filter"),
    }
}

fn hook_attributes(hook: &Hook) -> Attributes {
    let (number, device) = match &hook.point {
        HookPoint::Egress { device } => (1, Some(device)),
        HookPoint::Prerouting => (0, None),
    };
    let attributes = Attributes::default()
        .number(HOOK_NUMBER, number)
        .octets(HOOK_PRIORITY, &hook.priority.to_be_bytes());
    match device {
        Some(device) => attributes.text(HOOK_DEVICE, device),
        None => attributes,
    }
}

impl Policy {
    /// `NF_DROP` or `NF_ACCEPT`.
    fn number(self) -> u32 {
        match self {
            Policy::Drop => 0,
            Policy::Accept => 1,
        }
    }
}

pub(super) fn rules_of(table: &Table) -> Attributes {
    Attributes::default().text(RULE_TABLE, &table.name)
}

pub(super) fn rules_in(table: &Table, chain: &str) -> Attributes {
    rules_of(table).text(RULE_CHAIN, chain)
}

pub(super) fn new_rule(table: &Table, chain: &Chain, rule: &Rule) -> Attributes {
    rules_in(table, &chain.name)
        .nested(RULE_EXPRESSIONS, &expressions(rule))
        .octets(RULE_USERDATA, &comment(&rule.comment))
}

fn expressions(rule: &Rule) -> Attributes {
    let mut list = Vec::new();
    let mut loaded = None;
    for condition in &rule.matches {
        let operand = Some((condition.field, &condition.mask));
        // The register still has what the condition before was about.
        if loaded != operand {
            list.push(condition.load());
            list.extend(condition.apply_mask());
            loaded = operand;
        }
        list.extend(condition.comparisons());
    }
    if rule.is_counted {
        list.push(expression("counter", &Attributes::default()));
    }
    list.push(verdict(&rule.verdict));
    let append = |all: Attributes, one| all.nested(LIST_ELEMENT, one);
    list.iter().fold(Attributes::default(), append)
}

fn expression(name: &str, data: &Attributes) -> Attributes {
    Attributes::default()
        .text(EXPRESSION_NAME, name)
        .nested(EXPRESSION_DATA, data)
}

impl Match {
    /// The expression that loads the field into the register.
    fn load(&self) -> Attributes {
        let into_register = Attributes::default().number(1, REGISTER); // NFTA_…_DREG
        match self.field {
            Field::Payload {
                base,
                offset,
                length,
            } => {
                let data = into_register.number(2, base.number()); // NFTA_PAYLOAD_BASE
                let data = data.number(3, offset).number(4, length); // …_OFFSET, …_LEN
                expression("payload", &data)
            }
            Field::Meta { key } => expression("meta", &into_register.number(2, key)),
            Field::ConnectionState => {
                const STATE: u32 = 0;
                expression("ct", &into_register.number(2, STATE))
            }
        }
    }

    /// The expression that clears the bits outside the mask, if there is one.
    fn apply_mask(&self) -> Option<Attributes> {
        let mask = self.mask.as_ref()?;
        let data = Attributes::default()
            .number(1, REGISTER) // NFTA_BITWISE_SREG
            .number(2, REGISTER) // …_DREG
            .number(3, mask.len() as u32) // …_LEN
            .nested(4, &value(mask)) // …_MASK
            .nested(5, &value(&vec![0; mask.len()])); // …_XOR
        Some(expression("bitwise", &data))
    }

    /// The expressions that go on only if the register has the value.
    fn comparisons(&self) -> Vec<Attributes> {
        const EQUAL: u32 = 0;
        const NOT_EQUAL: u32 = 1;
        const AT_MOST: u32 = 3;
        const AT_LEAST: u32 = 5;
        let compare = |operator, octets: &[u8]| {
            let data = Attributes::default()
                .number(1, REGISTER) // NFTA_CMP_SREG
                .number(2, operator) // …_OP
                .nested(3, &value(octets)); // …_DATA
            expression("cmp", &data)
        };
        match &self.test {
            Test::Is(value) => vec![compare(EQUAL, value)],
            Test::IsNot(value) => vec![compare(NOT_EQUAL, value)],
            Test::IsWithin(first, last) => {
                vec![compare(AT_LEAST, first), compare(AT_MOST, last)]
            }
            Test::IsNotWithin(first, last) => {
                let data = Attributes::default()
                    .number(1, REGISTER) // NFTA_RANGE_SREG
                    .number(2, NOT_EQUAL) // …_OP
                    .nested(3, &value(first)) // …_FROM_DATA
                    .nested(4, &value(last)); // …_TO_DATA
                vec![expression("range", &data)]
            }
        }
    }
}

impl Base {
    /// `NFT_PAYLOAD_…_HEADER`
    fn number(self) -> u32 {
        match self {
            Base::LinkLayer => 0,
            Base::Network => 1,
            Base::Transport => 2,
        }
    }
}

fn verdict(verdict: &Verdict) -> Attributes {
    const DROP: u32 = 0;
    const ACCEPT: u32 = 1;
    const JUMP: i32 = -3;
    const GOTO: i32 = -4;
    let code = |code| Attributes::default().number(VERDICT_CODE, code);
    let verdict = match verdict {
        Verdict::Drop => code(DROP),
        Verdict::Accept => code(ACCEPT),
        Verdict::Goto(chain) => code(GOTO.cast_unsigned()).text(VERDICT_CHAIN, chain),
        Verdict::Jump(chain) => code(JUMP.cast_unsigned()).text(VERDICT_CHAIN, chain),
    };
    let data = Attributes::default()
        .number(1, VERDICT_REGISTER) // NFTA_IMMEDIATE_DREG
        .nested(2, &Attributes::default().nested(DATA_VERDICT, &verdict)); // …_DATA
    expression("immediate", &data)
}

fn value(octets: &[u8]) -> Attributes {
    Attributes::default().octets(DATA_VALUE, octets)
}

/// The longest comment that the kernel takes (`NFT_USERDATA_MAXLEN`), without what is around it.
const MAX_COMMENT_LEN: usize = 253;

/// A comment as nft stores it: type 0, length, text, NUL.
fn comment(text: &str) -> Vec<u8> {
    let text = &text[..text.floor_char_boundary(MAX_COMMENT_LEN)];
    let mut octets = vec![0, text.len() as u8 + 1];
    octets.extend(text.as_bytes());
    octets.push(0);
    octets
}

/// The text of a comment that is stored like this; empty if it is something else.
pub(super) fn comment_text(octets: &[u8]) -> String {
    match octets {
        [0, length, rest @ ..] if rest.len() >= usize::from(*length) => {
            super::super::attribute::text(&rest[..usize::from(*length)])
        }
        _ => String::new(),
    }
}
