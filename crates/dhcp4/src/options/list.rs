//! Options in little memory.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::RawOption;

/// Options in the order of their arrival, in one piece of memory, because a driver may keep the
/// leases of thousands of clients. Serialized like a vector of [`RawOption`].
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<RawOption>", into = "Vec<RawOption>")]
pub struct OptionList(
    /// For each option its code, the length of its value in two octets, and its value.
    Box<[u8]>,
);

impl OptionList {
    /// The code and the value of each option.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (&[code, high, low], after) = rest.split_first_chunk()?;
            let length = u16::from_be_bytes([high, low]);
            let (data, others) = after.split_at_checked(length.into())?;
            rest = others;
            Some((code, data))
        })
    }

    /// The value of the first option with this code.
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.iter()
            .find(|(its, _)| *its == code)
            .map(|(_, data)| data)
    }
}

/// An option that is longer than 65,535 octets, as none in a packet is, is left out.
impl FromIterator<RawOption> for OptionList {
    fn from_iter<T: IntoIterator<Item = RawOption>>(options: T) -> OptionList {
        let mut octets = Vec::new();
        for RawOption { code, data } in options {
            if let Ok(length) = u16::try_from(data.len()) {
                octets.push(code);
                octets.extend(length.to_be_bytes());
                octets.extend(data);
            }
        }
        OptionList(octets.into())
    }
}

impl From<Vec<RawOption>> for OptionList {
    fn from(options: Vec<RawOption>) -> OptionList {
        options.into_iter().collect()
    }
}

impl From<OptionList> for Vec<RawOption> {
    fn from(list: OptionList) -> Vec<RawOption> {
        list.iter()
            .map(|(code, data)| RawOption::new(code, data))
            .collect()
    }
}

impl fmt::Debug for OptionList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_the_options_that_it_was_made_of() {
        let options = vec![
            RawOption::new(53, [5]),
            RawOption::new(80, []),
            RawOption::new(61, [7; 300]),
        ];
        let list = OptionList::from(options.clone());
        assert_eq!(list.get(61), Some(&[7; 300][..]));
        assert_eq!(list.get(80), Some(&[][..]));
        assert_eq!(list.get(1), None);
        assert_eq!(Vec::from(list), options);
    }

    #[test]
    fn a_value_that_no_packet_holds_is_left_out() {
        let options = [RawOption::new(61, [0; 65_536]), RawOption::new(53, [5])];
        let list: OptionList = options.into_iter().collect();
        assert_eq!(Vec::from(list), [RawOption::new(53, [5])]);
    }
}
