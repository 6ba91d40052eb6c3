//! Who calls, and what it may request.

use crate::protocol::Verb;

/// A process that may use the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// Root, or the user that the daemon runs as.
    Owner,
    /// A process of the group that `-group` admits.
    Member,
}

/// Why a caller may not make a request.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    /// It is neither the owner nor a member of the group.
    #[error("only root may use the dhcp daemon, not uid {0}")]
    Stranger(u32),
    /// The request concerns attachments of others, or the daemon itself.
    #[error("only root may request {0}, not a member of the group that -group admits")]
    OwnersVerb(&'static str),
    /// The daemon would look a path up with its own privileges.
    #[error(
        "a member of the group that -group admits must pass the network namespace as a descriptor"
    )]
    NoDescriptor,
}

impl Caller {
    /// The caller with this user and these groups, to a daemon that runs as `own` and admits
    /// `group`.
    ///
    /// # Errors
    /// If it may not use the socket.
    pub(super) fn of(
        uid: u32,
        groups: &[u32],
        own: u32,
        group: Option<u32>,
    ) -> Result<Caller, Denied> {
        match group {
            _ if uid == 0 || uid == own => Ok(Caller::Owner),
            Some(group) if groups.contains(&group) => Ok(Caller::Member),
            _ => Err(Denied::Stranger(uid)),
        }
    }

    /// Whether the caller may make this request. The listening socket and GC are the owner's. A
    /// member must bring the netns of an ADD as a descriptor, so that it cannot learn which paths
    /// exist.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) fn ensure_may(self, verb: &Verb, has_descriptor: bool) -> Result<(), Denied> {
        match (self, verb) {
            (Caller::Owner, _) => Ok(()),
            (Caller::Member, Verb::Takeover) => Err(Denied::OwnersVerb("a takeover")),
            (Caller::Member, Verb::Gc { .. }) => Err(Denied::OwnersVerb("GC")),
            (Caller::Member, Verb::Add { .. }) if !has_descriptor => Err(Denied::NoDescriptor),
            (
                Caller::Member,
                Verb::Add { .. } | Verb::Check { .. } | Verb::Del { .. } | Verb::Status,
            ) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use cni::Attachment;

    use super::*;
    use crate::state::tests::record;

    #[test]
    fn root_the_daemons_own_user_and_its_group_may_call() {
        let of = |uid, own, group| Caller::of(uid, &[49, 50], own, group);
        for (uid, own) in [(0, 0), (0, 1000), (1000, 1000)] {
            assert_eq!(of(uid, own, None), Ok(Caller::Owner));
            assert_eq!(of(uid, own, Some(50)), Ok(Caller::Owner));
        }
        assert_eq!(of(1000, 0, Some(50)), Ok(Caller::Member));
        for (uid, own, group) in [(1000, 0, None), (65534, 1000, Some(51))] {
            assert_eq!(of(uid, own, group), Err(Denied::Stranger(uid)));
        }
        assert!(Denied::Stranger(7).to_string().contains("only root"));
    }

    #[test]
    fn a_member_of_the_group_neither_takes_over_nor_collects_garbage_nor_names_paths() {
        let attachment: Attachment = record().attachment;
        let add = Verb::Add {
            attachment: attachment.clone(),
            netns: "/run/netns/c1".into(),
            params: Box::new(record().params),
            waited: None,
            id: None,
        };
        let check = Verb::Check {
            attachment: attachment.clone(),
            addresses: Vec::new(),
        };
        let del = Verb::Del {
            attachment,
            only: None,
        };
        let gc = Verb::Gc {
            network: "lan".to_owned(),
            keep: Vec::new(),
        };
        for verb in [&check, &del, &Verb::Status] {
            assert_eq!(Caller::Member.ensure_may(verb, false), Ok(()));
        }
        assert_eq!(Caller::Member.ensure_may(&add, true), Ok(()));
        assert_eq!(
            Caller::Member.ensure_may(&add, false),
            Err(Denied::NoDescriptor)
        );
        for verb in [&gc, &Verb::Takeover] {
            let denied = Caller::Member.ensure_may(verb, true);
            assert!(matches!(denied, Err(Denied::OwnersVerb(_))), "{verb:?}");
        }
        for verb in [&add, &check, &del, &gc, &Verb::Status, &Verb::Takeover] {
            assert_eq!(Caller::Owner.ensure_may(verb, false), Ok(()));
        }
    }
}
