//! The socket of nf_tables: transactions and dumps.

use std::io;

use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use super::super::attribute::{attributes, text};
use super::super::delete_nowait::close_nowait;
use super::super::socket::{Netlink, Request, connect};
use super::attributes::Attributes;
use super::message::{self, Body};
use super::{Chain, Family, Rule, Table};
use crate::error::{Error, Result};
use crate::netns::Netns;

/// A socket that sees and changes the tables of the network namespace that it was opened in.
#[derive(Debug)]
pub struct Nft(Netlink);

impl Nft {
    /// Opens a socket in `netns`.
    ///
    /// # Errors
    /// If the namespace cannot be entered, the process is out of file descriptors, or the kernel
    /// has no netfilter netlink (`is_unsupported`).
    pub fn open_in(netns: &Netns) -> Result<Nft> {
        let open = || connect(NETLINK_NETFILTER).map(|socket| Nft(Netlink::over(socket)));
        let what = "open a socket for nf_tables";
        let opened = netns.run(open).and_then(|opened| opened);
        opened.map_err(|error: io::Error| match error.raw_os_error() {
            Some(libc::EPROTONOSUPPORT) => {
                Error::kernel(what, Errno::EOPNOTSUPP, Some(NO_NF_TABLES.to_owned()))
            }
            _ => Error::io(what, &error),
        })
    }

    /// Creates these tables in one transaction.
    ///
    /// # Errors
    /// `is_exists` if there is a table of one of these names, and as for [`Nft::replace`]. Then
    /// everything is as it was.
    pub fn create(&self, tables: &[Table]) -> Result<()> {
        self.transact(names(tables), tables.iter().flat_map(creation).collect())
    }

    /// Inserts the rules of these tables' chains into the chains of the same names, which exist,
    /// before all others.
    ///
    /// # Errors
    /// `is_absent` if there is no such chain. Then everything is as it was.
    pub fn insert(&self, tables: &[Table]) -> Result<()> {
        let insertion = |table| rules(table).map(move |rule| rule_request(table, rule, 0));
        let mut requests: Vec<_> = tables.iter().flat_map(insertion).collect();
        // Each one becomes the first.
        requests.reverse();
        self.transact(names(tables), requests)
    }

    /// The number of the rules' generation in this namespace. Every transaction changes it.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn generation(&self) -> Result<u32> {
        let what = || "ask for the generation of the rules".to_owned();
        let body = Body::new(Family::Inet, &Attributes::default());
        let decode = |payload: &[u8]| {
            let attributes = attributes(payload.get(message::HEADER_LEN..).unwrap_or_default());
            let mut ids = attributes.filter(|it| it.kind() == message::GENERATION_ID);
            Ok(ids.next().and_then(|id| id.value().first_chunk().copied()))
        };
        let generation = self.0.get(&what, message::GET_GENERATION, &body, decode)?;
        let generation = generation.flatten().map(u32::from_be_bytes);
        generation.ok_or_else(|| Error::answer(what(), "it has no number"))
    }

    /// Closes the socket without waiting. After a table was deleted or replaced, the kernel closes
    /// it only when nothing can use the old rules any more (an RCU grace period), which takes some
    /// ten milliseconds; here a child process waits for that. As for
    /// [`Netlink::delete_link_nowait`](crate::Netlink::delete_link_nowait), this is for programs
    /// that exit soon after.
    pub fn close_nowait(self) {
        close_nowait(self.0);
    }

    /// Puts these tables in the place of those of the same names, or creates them, in one
    /// transaction. Dropping this socket takes an RCU grace period afterwards.
    ///
    /// # Errors
    /// `is_unsupported` if this kernel lacks something, which the error names; `is_absent` if a
    /// hook's link does not exist; `is_denied` if another program owns a table of such a name, and
    /// the error says which. Then everything is as it was.
    pub fn replace(&self, tables: &[Table]) -> Result<()> {
        let requests = tables.iter().flat_map(replacement).collect();
        self.transact(names(tables), requests)
    }

    /// Deletes a table, with everything in it. Dropping this socket takes an RCU grace period
    /// afterwards.
    ///
    /// # Errors
    /// `is_absent` if there is no such table, `is_denied` if another program owns it.
    pub fn delete(&self, family: Family, name: &str) -> Result<()> {
        let attributes = message::table_name(name);
        let request = of_table("delete", message::DELETE_TABLE, family, name, &attributes);
        self.transact([(family, name)], vec![request])
    }

    /// The first part of the table that the kernel does not have, or has otherwise; `None` if the
    /// table is as it was created.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn difference(&self, table: &Table) -> Result<Option<String>> {
        let (family, name) = (table.family, &table.name);
        let tables = self.dump("tables", message::GET_TABLE, family, &Attributes::default())?;
        let expected = message::new_table(table);
        if !tables.iter().any(|shown| expected.are_in(shown)) {
            return Ok(Some(format!("table {family} {name} is missing")));
        }
        let chains = self.dump("chains", message::GET_CHAIN, family, &Attributes::default())?;
        let missing_chain = table.chains.iter().find(|chain| {
            let expected = message::new_chain(table, chain);
            !chains.iter().any(|shown| expected.are_in(shown))
        });
        if let Some(chain) = missing_chain {
            return Ok(Some(format!(
                "{} is missing or changed",
                in_table(chain, table)
            )));
        }
        let mut shown = self
            .dump(
                "rules",
                message::GET_RULE,
                family,
                &message::rules_of(table),
            )?
            .into_iter();
        for (chain, rule) in rules(table) {
            let expected = message::new_rule(table, chain, rule);
            if !shown.next().is_some_and(|shown| expected.are_in(&shown)) {
                let chain = in_table(chain, table);
                return Ok(Some(format!(
                    "{chain} has no rule {:?} where it was",
                    rule.comment
                )));
            }
        }
        Ok(shown
            .next()
            .map(|_| format!("table {family} {name} has rules of others")))
    }

    /// The names and comments of all tables of a family: none if this kernel has no nf_tables.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn tables(&self, family: Family) -> Result<Vec<(String, String)>> {
        let all = Attributes::default();
        let tables = match self.dump("tables", message::GET_TABLE, family, &all) {
            // Netfilter's answer for a part that the kernel does not have.
            Err(error) if error.is_invalid() => Vec::new(),
            tables => tables?,
        };
        let named = tables.iter().map(|table| {
            let value = |kind| {
                let attribute = attributes(table).find(|it| it.kind() == kind);
                attribute.map(|it| it.value().to_vec()).unwrap_or_default()
            };
            let comment = message::comment_text(&value(message::TABLE_USERDATA));
            (text(&value(message::TABLE_NAME)), comment)
        });
        Ok(named.collect())
    }

    /// The comments of the rules in a chain of this table, in their order: none if there is no such
    /// chain.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn comments(&self, table: &Table, chain: &str) -> Result<Vec<String>> {
        let selection = message::rules_of(table);
        let rules = self.dump("rules", message::GET_RULE, table.family, &selection)?;
        let in_chain = message::rules_in(table, chain);
        let rules = rules.iter().filter(|shown| in_chain.are_in(shown));
        let comments = rules.map(|rule| {
            let mut comments = attributes(rule).filter(|it| it.kind() == message::RULE_USERDATA);
            let comment = comments.next().map(|it| message::comment_text(it.value()));
            comment.unwrap_or_default()
        });
        Ok(comments.collect())
    }

    /// The netlink port of the socket that alone may change a table (flag `owner` of nft(8)): usually
    /// its process's number, in the process's own PID namespace. `None` if every program may, or if
    /// there is no such table.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn owner(&self, family: Family, name: &str) -> Result<Option<u32>> {
        let all = Attributes::default();
        let tables = self.dump("tables", message::GET_TABLE, family, &all)?;
        let wanted = message::table_name(name);
        let table = tables.iter().find(|shown| wanted.are_in(shown));
        Ok(table.and_then(|table| {
            let mut owners = attributes(table).filter(|it| it.kind() == message::TABLE_OWNER);
            let port = owners.next()?.value().first_chunk().copied()?;
            Some(u32::from_be_bytes(port))
        }))
    }

    /// The attributes of all objects of a kind.
    fn dump(
        &self,
        what: &str,
        kind: u16,
        family: Family,
        selection: &Attributes,
    ) -> Result<Vec<Vec<u8>>> {
        let what = || format!("list the {what} of family {family}");
        let body = Body::new(family, selection);
        self.0.dump(&what, kind, &body, |payload| {
            let attributes = payload.get(message::HEADER_LEN..);
            Ok(attributes.unwrap_or_default().to_vec())
        })
    }

    /// Carries out all of these requests, which are about these tables, or none.
    fn transact<'a>(
        &self,
        tables: impl IntoIterator<Item = (Family, &'a str)>,
        mut requests: Vec<Request<'_, Body>>,
    ) -> Result<()> {
        if let Some(last) = requests.last_mut() {
            last.flags |= NLM_F_ACK;
        }
        let bracket = |kind| Request {
            what: Box::new(|| "change the tables of nf_tables".to_owned()),
            explain: |errno| (errno == Errno::EOPNOTSUPP).then_some(NO_NF_TABLES),
            kind,
            flags: 0,
            body: Body::of_batch(),
        };
        requests.insert(0, bracket(message::BATCH_BEGIN));
        requests.push(bracket(message::BATCH_END));
        let outcome = self.0.transact(&requests);
        outcome.map_err(|error| match error.is_denied() {
            true => error.explained(|| tables.into_iter().find_map(|table| self.ownership(table))),
            false => error,
        })
    }

    /// Says whose a table is, if it has an owner.
    fn ownership(&self, (family, name): (Family, &str)) -> Option<String> {
        let port = self.owner(family, name).ok().flatten()?;
        Some(format!(
            "table {family} {name} belongs to another program, and only that one may change it (its \
             netlink port, which is usually its process ID, is {port})"
        ))
    }
}

const NO_NF_TABLES: &str = "this kernel has no nf_tables (CONFIG_NF_TABLES)";
const NO_FAMILY: &str = "this kernel has no such tables \
                         (CONFIG_NF_TABLES_NETDEV, CONFIG_NF_TABLES_INET)";
const NO_HOOK: &str = "this kernel has no such hook (the egress hook needs Linux 5.16 and \
                       CONFIG_NETFILTER_EGRESS)";
const NO_EXPRESSION: &str = "this kernel lacks an expression that the rule needs (that for \
                             connections is CONFIG_NFT_CT)";

/// The requests that put a table in the place of an earlier one of its name.
fn replacement(table: &Table) -> impl Iterator<Item = Request<'_, Body>> {
    let name = message::table_name(&table.name);
    let of_table = |verb, kind| of_table(verb, kind, table.family, &table.name, &name);
    // Deleting one that does not exist would fail.
    let emptied = [
        of_table("create", message::NEW_TABLE),
        of_table("delete", message::DELETE_TABLE),
    ];
    emptied.into_iter().chain(creation(table))
}

/// The requests that create a table.
fn creation(table: &Table) -> impl Iterator<Item = Request<'_, Body>> {
    let attributes = message::new_table(table);
    let (family, name) = (table.family, &table.name);
    let mut created = of_table("create", message::NEW_TABLE, family, name, &attributes);
    created.flags |= NLM_F_EXCL;
    let chains = table.chains.iter().map(|chain| Request {
        what: Box::new(|| format!("create {}", in_table(chain, table))),
        explain: |errno| (errno == Errno::EOPNOTSUPP).then_some(NO_HOOK),
        kind: message::NEW_CHAIN,
        flags: NLM_F_CREATE,
        body: Body::new(table.family, &message::new_chain(table, chain)),
    });
    let rules = rules(table).map(move |rule| rule_request(table, rule, NLM_F_APPEND));
    [created].into_iter().chain(chains).chain(rules)
}

/// The request that adds a rule to its chain: at the end, or without `NLM_F_APPEND` at the
/// beginning.
fn rule_request<'a>(
    table: &'a Table,
    (chain, rule): (&'a Chain, &'a Rule),
    position: u16,
) -> Request<'a, Body> {
    Request {
        what: Box::new(move || {
            let chain = in_table(chain, table);
            format!("add the rule {:?} to {chain}", rule.comment)
        }),
        explain: |errno| (errno == Errno::ENOENT).then_some(NO_EXPRESSION),
        kind: message::NEW_RULE,
        flags: NLM_F_CREATE | position,
        body: Body::new(table.family, &message::new_rule(table, chain, rule)),
    }
}

fn of_table<'a>(
    verb: &'static str,
    kind: u16,
    family: Family,
    name: &'a str,
    attributes: &Attributes,
) -> Request<'a, Body> {
    Request {
        what: Box::new(move || format!("{verb} table {family} {name}")),
        explain: |errno| (errno == Errno::EOPNOTSUPP).then_some(NO_FAMILY),
        kind,
        flags: NLM_F_CREATE,
        body: Body::new(family, attributes),
    }
}

fn names(tables: &[Table]) -> impl Iterator<Item = (Family, &str)> {
    tables
        .iter()
        .map(|table| (table.family, table.name.as_str()))
}

/// The rules of a table, each with its chain, in the order in which the kernel lists them.
fn rules(table: &Table) -> impl Iterator<Item = (&Chain, &Rule)> {
    let chains = table.chains.iter();
    chains.flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule)))
}

fn in_table(chain: &Chain, table: &Table) -> String {
    format!(
        "chain {} of table {} {}",
        chain.name, table.family, table.name
    )
}
