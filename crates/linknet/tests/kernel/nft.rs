//! Tables of nf_tables.

use std::net::{Ipv4Addr, SocketAddrV4};

use linknet::nft::{Chain, Family, Hook, HookPoint, Match, Nft, Policy, Rule, Table, Verdict};
use linknet::{ArpSocket, Mac, PacketSocket};

use crate::{Space, Test, cable, tests};

tests![
    a_table_is_created_compared_and_deleted,
    a_table_replaces_the_one_that_was_there,
    a_table_is_created_once,
    rules_are_inserted_before_the_others_in_their_order,
    every_transaction_is_a_generation,
    a_change_by_somebody_else_is_a_difference,
    tables_of_others_stay,
    a_refusal_names_the_object_and_changes_nothing,
    what_a_table_drops_is_not_sent,
    a_table_knows_a_socket_by_its_mark,
    no_program_owns_a_table_that_all_may_change,
];

fn table(device: &str, rules: Vec<Rule>) -> Table {
    let outgoing = Chain {
        name: "outgoing".to_owned(),
        hook: Some(Hook {
            point: HookPoint::Egress {
                device: device.to_owned(),
            },
            priority: 0,
            policy: Policy::Drop,
        }),
        rules,
    };
    let own = Chain {
        name: "own".to_owned(),
        hook: None,
        rules: vec![Rule::new(Verdict::Accept, "everything").counted()],
    };
    Table {
        family: Family::Netdev,
        name: "test".to_owned(),
        comment: "a test's".to_owned(),
        chains: vec![outgoing, own],
    }
}

/// A rule with every kind of expression of the family netdev.
fn all_kinds() -> Rule {
    Rule::new(Verdict::Goto("own".to_owned()), "all kinds")
        .when(Match::frame(12, &[8, 0]))
        .when(Match::frame(20, &[0, 0]).masked(&[0x1f, 0xff]).negated())
        .when(Match::network(12, &[10, 0, 0, 1]))
        .when(Match::transport(0, &[0, 1]).up_to(&[0, 100]))
        .when(Match::transport(2, &[0, 1]).up_to(&[0, 9]).negated())
        .when(Match::mark(7))
        .when(Match::protocol(17))
}

/// A table for what comes in.
fn incoming(link: u32) -> Table {
    let known = Rule::new(Verdict::Accept, "replies").when(Match::known_connection());
    let other = Rule::new(Verdict::Drop, "the rest")
        .when(Match::incoming_link(link))
        .when(Match::ip_version(2));
    let prerouting = Chain {
        name: "incoming".to_owned(),
        hook: Some(Hook {
            point: HookPoint::Prerouting,
            priority: -150,
            policy: Policy::Accept,
        }),
        rules: vec![known, other],
    };
    Table {
        family: Family::Inet,
        chains: vec![prerouting],
        ..table("", vec![])
    }
}

fn a_table_is_created_compared_and_deleted() -> Test {
    let space = Space::new()?;
    let link = space.plug("eth0")?;
    let nft = Nft::open_in(&space.netns)?;
    let tables = [table("eth0", vec![all_kinds()]), incoming(link.index)];
    let missing = nft.difference(&tables[0])?;
    assert_eq!(missing.as_deref(), Some("table netdev test is missing"));
    nft.replace(&tables)?;
    for table in &tables {
        assert_eq!(nft.difference(table)?, None);
        let found = nft.tables(table.family)?;
        assert_eq!(found, [("test".to_owned(), "a test's".to_owned())]);
        nft.delete(table.family, "test")?;
        assert!(nft.tables(table.family)?.is_empty());
        assert!(nft.delete(table.family, "test").unwrap_err().is_absent());
    }
    Ok(())
}

fn a_table_replaces_the_one_that_was_there() -> Test {
    let space = Space::new()?;
    space.plug("eth0")?;
    let nft = Nft::open_in(&space.netns)?;
    let (first, second) = (table("eth0", vec![all_kinds()]), table("eth0", vec![]));
    for table in [&first, &first, &second] {
        nft.replace(std::slice::from_ref(table))?;
        assert_eq!(nft.difference(table)?, None);
    }
    Ok(())
}

fn a_table_is_created_once() -> Test {
    let space = Space::new()?;
    space.plug("eth0")?;
    let nft = Nft::open_in(&space.netns)?;
    let first = table("eth0", vec![all_kinds()]);
    nft.create(std::slice::from_ref(&first))?;
    let refused = nft.create(&[table("eth0", vec![])]).unwrap_err();
    assert!(refused.is_exists(), "{refused}");
    assert_eq!(nft.difference(&first)?, None);
    nft.close_nowait();
    Ok(())
}

fn rules_are_inserted_before_the_others_in_their_order() -> Test {
    let space = Space::new()?;
    space.plug("eth0")?;
    let nft = Nft::open_in(&space.netns)?;
    let rule = |name| Rule::new(Verdict::Accept, name);
    let with =
        |names: &[&'static str]| table("eth0", names.iter().map(|name| rule(*name)).collect());
    let own_rules = |mut table: Table, names: &[&'static str]| {
        table.chains[1].rules = names.iter().map(|name| rule(*name)).collect();
        table
    };
    nft.create(&[own_rules(with(&["last"]), &["z"])])?;
    nft.insert(&[own_rules(with(&["first", "second"]), &["x", "y"])])?;
    let expected = own_rules(with(&["first", "second", "last"]), &["x", "y", "z"]);
    assert_eq!(nft.difference(&expected)?, None);
    let absent = Table {
        name: "absent".to_owned(),
        ..expected
    };
    assert!(nft.insert(&[absent]).unwrap_err().is_absent());
    Ok(())
}

fn every_transaction_is_a_generation() -> Test {
    let space = Space::new()?;
    space.plug("eth0")?;
    let nft = Nft::open_in(&space.netns)?;
    nft.create(&[table("eth0", vec![])])?;
    let before = nft.generation()?;
    assert_eq!(nft.generation()?, before);
    nft.insert(&[table("eth0", vec![all_kinds()])])?;
    assert_ne!(nft.generation()?, before);
    Ok(())
}

fn a_change_by_somebody_else_is_a_difference() -> Test {
    let space = Space::new()?;
    space.plug("eth0")?;
    let nft = Nft::open_in(&space.netns)?;
    let ours = table("eth0", vec![all_kinds()]);
    let accept = Rule::new(Verdict::Accept, "all kinds");
    let mut lenient = ours.clone();
    lenient.chains[0].hook.as_mut().unwrap().policy = Policy::Accept;
    let mut shorter = ours.clone();
    shorter.chains[1].rules.clear();
    for (theirs, difference) in [
        (
            table("eth0", vec![]),
            "chain outgoing of table netdev test has no rule \"all kinds\"",
        ),
        (
            table("eth0", vec![accept.clone()]),
            "has no rule \"all kinds\"",
        ),
        (
            table("eth0", vec![accept.clone(), all_kinds()]),
            "has no rule \"all kinds\"",
        ),
        (
            table("eth0", vec![all_kinds(), accept]),
            "has no rule \"everything\"",
        ),
        (
            lenient,
            "chain outgoing of table netdev test is missing or changed",
        ),
        (shorter, "has no rule \"everything\""),
    ] {
        nft.replace(&[theirs])?;
        let found = nft.difference(&ours)?.unwrap_or_default();
        assert!(found.contains(difference), "{found}");
    }
    let mut more = ours.clone();
    more.chains[1].rules.push(Rule::new(Verdict::Drop, "more"));
    nft.replace(&[more])?;
    let found = nft.difference(&ours)?;
    assert_eq!(
        found.as_deref(),
        Some("table netdev test has rules of others")
    );
    Ok(())
}

fn tables_of_others_stay() -> Test {
    let space = Space::new()?;
    space.plug("eth0")?;
    let nft = Nft::open_in(&space.netns)?;
    let ours = table("eth0", vec![all_kinds()]);
    let theirs = Table {
        name: "theirs".to_owned(),
        ..ours.clone()
    };
    nft.replace(std::slice::from_ref(&theirs))?;
    nft.replace(std::slice::from_ref(&ours))?;
    nft.delete(ours.family, &ours.name)?;
    assert_eq!(nft.difference(&theirs)?, None);
    Ok(())
}

fn a_refusal_names_the_object_and_changes_nothing() -> Test {
    let space = Space::new()?;
    space.plug("eth0")?;
    let nft = Nft::open_in(&space.netns)?;
    let before = table("eth0", vec![all_kinds()]);
    nft.replace(std::slice::from_ref(&before))?;
    let nowhere = Rule::new(Verdict::Goto("nowhere".to_owned()), "leads nowhere");
    let refused = nft.replace(&[table("eth0", vec![nowhere])]).unwrap_err();
    assert!(refused.is_absent(), "{refused}");
    let text = refused.to_string();
    assert!(
        text.contains("add the rule \"leads nowhere\" to chain outgoing"),
        "{text}"
    );
    let own = Match::frame(0, &[0; 40]);
    let too_long = Rule::new(Verdict::Accept, "too long").when(own);
    let refused = nft.replace(&[table("eth0", vec![too_long])]).unwrap_err();
    assert!(
        refused.is_invalid() || refused.errno().is_some(),
        "{refused}"
    );
    assert!(refused.to_string().contains("\"too long\""), "{refused}");
    assert_eq!(nft.difference(&before)?, None);
    Ok(())
}

fn what_a_table_drops_is_not_sent() -> Test {
    let (left, _right) = cable()?;
    let index = left.link("left")?.index;
    let arp = left.netns.run(|| ArpSocket::open(index))??;
    let udp = left.netns.run(|| PacketSocket::open(index, 68))??;
    let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let sent = || {
        let udp = udp.send(Mac::BROADCAST, nowhere, nowhere, b"payload");
        (arp.probe(Ipv4Addr::LOCALHOST).is_ok(), udp.is_ok())
    };
    assert_eq!(sent(), (true, true));
    let nft = Nft::open_in(&left.netns)?;
    let only = |name, ethertype| Rule::new(Verdict::Accept, name).when(Match::frame(12, ethertype));
    nft.replace(&[table("left", vec![only("ARP", &[8, 6])])])?;
    assert_eq!(sent(), (true, false));
    nft.replace(&[table("left", vec![only("IPv4", &[8, 0])])])?;
    assert_eq!(sent(), (false, true));
    Ok(())
}

fn a_table_knows_a_socket_by_its_mark() -> Test {
    let (left, _right) = cable()?;
    let index = left.link("left")?.index;
    let socket = left.netns.run(|| PacketSocket::open(index, 68))??;
    let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let is_sent = || {
        socket
            .send(Mac::BROADCAST, nowhere, nowhere, b"payload")
            .is_ok()
    };
    let marked = Rule::new(Verdict::Accept, "marked").when(Match::mark(7));
    Nft::open_in(&left.netns)?.replace(&[table("left", vec![marked])])?;
    assert!(!is_sent());
    socket.set_mark(7)?;
    assert!(is_sent());
    socket.set_mark(8)?;
    assert!(!is_sent());
    Ok(())
}

fn no_program_owns_a_table_that_all_may_change() -> Test {
    let space = Space::new()?;
    space.plug("eth0")?;
    let nft = Nft::open_in(&space.netns)?;
    assert_eq!(nft.owner(Family::Netdev, "test")?, None);
    nft.create(&[table("eth0", vec![])])?;
    assert_eq!(nft.owner(Family::Netdev, "test")?, None);
    Ok(())
}
