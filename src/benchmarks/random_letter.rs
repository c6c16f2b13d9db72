//! Letters that a protocol draws at random.

use std::num::NonZeroU64;

use super::extract::Options;
use crate::random::Seed;

/// Draws the letter of an option, each equally likely. The draw depends on nothing but the seed,
/// the protocol and the item, never on other items. `None` without options.
pub fn draw(seed: Seed, protocol: &str, item: &str, options: &Options) -> Option<char> {
    let count = NonZeroU64::new(options.len() as u64)?;
    let index = seed.stream(&format!("random letter, {protocol}"), item, 0).below(0, count);
    options.letters().nth(usize::try_from(index).ok()?)
}

/// Draws a letter as VLMEvalKit does after three calls of its judge that failed: that of an option,
/// or `Z` for none of them.
pub fn draw_or_none(seed: Seed, protocol: &str, item: &str, options: &Options) -> char {
    let mut with_none: Vec<(char, String)> = options.iter().map(|(letter, text)| (letter, text.to_owned())).collect();
    if !options.has('Z') {
        with_none.push(('Z', String::new()));
    }
    draw(seed, protocol, item, &Options::new(with_none)).unwrap_or('Z')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_depends_on_seed_protocol_and_item_only() {
        let options = Options::from_texts(["a", "b", "c", "d"]);
        let draw = |seed, protocol, item: &str| super::draw(Seed(seed), protocol, item, &options);
        assert_eq!(draw(1, "official", "x"), draw(1, "official", "x"));
        let letters = |seed, protocol| (0..400).map(|n| draw(seed, protocol, &n.to_string())).collect::<Vec<_>>();
        assert_ne!(letters(1, "official"), letters(2, "official"));
        assert_ne!(letters(1, "official"), letters(1, "vlmevalkit"));
        for letter in options.letters() {
            let count = letters(1, "official").iter().filter(|&&other| other == Some(letter)).count();
            assert!((70..=130).contains(&count), "{letter}: {count} of 400");
        }
        assert_eq!(super::draw(Seed(1), "official", "x", &Options::default()), None);
        let with_none: std::collections::BTreeSet<char> =
            (0..100).map(|n| draw_or_none(Seed(1), "vlmevalkit", &n.to_string(), &options)).collect();
        assert_eq!(with_none.into_iter().collect::<String>(), "ABCDZ");
    }
}
