//! Parser from the text of a question back to a [`SceneQuestion`].

use super::object::{Attribute, Colour, ObjectKind, ObjectShape, Region};
use super::question::{LETTERS, SceneQuestion};

/// The result of parsing a text as a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedSceneQuestion {
    /// A question of a known family.
    Known(SceneQuestion),
    /// A question of a known family with more than one meaning, or none, and the reason.
    Ambiguous(&'static str),
    /// Not of a known family.
    Unknown,
}

/// Parses the text of a question. White space may differ from the templates; words may not.
pub fn parse_question(text: &str) -> ParsedSceneQuestion {
    // Exactly one question mark, followed by the options.
    let mut parts = text.split('?');
    let (Some(asked), Some(options), None) = (parts.next(), parts.next(), parts.next()) else {
        return ParsedSceneQuestion::Unknown;
    };
    let asked: Vec<&str> = asked.split_whitespace().collect();
    let options: Vec<&str> = options.split_whitespace().collect();
    let read = match asked[..] {
        ["How", "many", ref rest @ ..] if options.is_empty() => parse_how_many(rest),
        ["What", "share", "of", "the", ref rest @ ..] if options.is_empty() => parse_share(rest),
        ["Is", "there", "a", ref rest @ ..] => parse_exists(rest, &options),
        ["Which", ref rest @ ..] => parse_which(rest, &options),
        _ => None,
    };
    read.unwrap_or(ParsedSceneQuestion::Unknown)
}

/// Parses the words after `How many`.
fn parse_how_many(words: &[&str]) -> Option<ParsedSceneQuestion> {
    if let ["different", "colours", rest @ ..] = words {
        return match rest {
            ["are", "there"] => Some(ParsedSceneQuestion::Known(SceneQuestion::Colours(None))),
            ["do", "the", shape, "have"] => {
                Some(ParsedSceneQuestion::Known(SceneQuestion::Colours(Some(ObjectShape::from_plural(shape)?))))
            }
            _ => None,
        };
    }
    if let ["more", rest @ ..] = words {
        let (a, rest) = parse_plural_kind(rest)?;
        let ["than", rest @ ..] = rest else { return None };
        let (b, rest) = parse_plural_kind(rest)?;
        let (["are", "there"], false) = (rest, a == b) else {
            return (rest == ["are", "there"])
                .then_some(ParsedSceneQuestion::Ambiguous("a kind is compared with itself"));
        };
        return Some(ParsedSceneQuestion::Known(SceneQuestion::More(a, b)));
    }
    let (kind, rest) = parse_plural_kind(words)?;
    match rest {
        ["are", "there"] => Some(ParsedSceneQuestion::Known(SceneQuestion::Count(kind))),
        ["are", "in", rest @ ..] => Some(ParsedSceneQuestion::Known(SceneQuestion::CountIn(kind, parse_region(rest)?))),
        ["are", "not", word] => {
            let attribute = Attribute::from_word(word)?;
            Some(if kind.leaves_unspecified(attribute) {
                ParsedSceneQuestion::Known(SceneQuestion::Except(kind, attribute))
            } else {
                ParsedSceneQuestion::Ambiguous("the kind already says what is left out")
            })
        }
        ["and", rest @ ..] => {
            let (other, ["are", "there", "in", "total"]) = parse_plural_kind(rest)? else { return None };
            Some(if kind.overlaps(other) {
                ParsedSceneQuestion::Ambiguous("the two kinds overlap")
            } else {
                ParsedSceneQuestion::Known(SceneQuestion::Total(kind, other))
            })
        }
        _ => None,
    }
}

/// Parses the words after `What share of the`.
fn parse_share(words: &[&str]) -> Option<ParsedSceneQuestion> {
    let (kind, ["are", word, "to", "one", "decimal"]) = parse_plural_kind(words)? else { return None };
    let attribute = Attribute::from_word(word)?;
    Some(if kind.leaves_unspecified(attribute) {
        ParsedSceneQuestion::Known(SceneQuestion::Share(kind, attribute))
    } else {
        ParsedSceneQuestion::Ambiguous("the kind already says what is counted")
    })
}

/// Parses the words after `Is there a`, and the options.
fn parse_exists(words: &[&str], options: &[&str]) -> Option<ParsedSceneQuestion> {
    let yes_first = match options {
        ["A", "yes", "B", "no"] => true,
        ["A", "no", "B", "yes"] => false,
        ["A", a, "B", b] if a == b && matches!(*a, "yes" | "no") => {
            return Some(ParsedSceneQuestion::Ambiguous("equal options"));
        }
        _ => return None,
    };
    let (kind, rest) = parse_singular_kind(words)?;
    let region = match rest {
        [] => None,
        ["in", rest @ ..] => Some(parse_region(rest)?),
        _ => return None,
    };
    Some(ParsedSceneQuestion::Known(SceneQuestion::Exists(kind, region, yes_first)))
}

/// Parses the words after `Which`, and the options.
fn parse_which(words: &[&str], options: &[&str]) -> Option<ParsedSceneQuestion> {
    match words {
        ["are", "there", "more", "of"] => {
            let ["A", rest @ ..] = options else { return None };
            let (a, ["B", rest @ ..]) = parse_plural_kind(rest)? else { return None };
            let (b, []) = parse_plural_kind(rest)? else { return None };
            let equal = ParsedSceneQuestion::Ambiguous("equal options");
            Some(if a == b { equal } else { ParsedSceneQuestion::Known(SceneQuestion::MoreOf(a, b)) })
        }
        ["colour", "is", "most", "common", rest @ ..] => {
            let kind = parse_among(rest)?;
            with_options(options, Colour::from_word, |options| SceneQuestion::MostColour(kind, options)).map(
                |reading| {
                    if kind.colour.is_none() { reading } else { ParsedSceneQuestion::Ambiguous("the colour is given") }
                },
            )
        }
        ["shape", "is", "most", "common", rest @ ..] => {
            let kind = parse_among(rest)?;
            with_options(options, ObjectShape::from_word, |options| SceneQuestion::MostShape(kind, options)).map(
                |reading| {
                    if kind.shape.is_none() { reading } else { ParsedSceneQuestion::Ambiguous("the shape is given") }
                },
            )
        }
        ["colour", "is", "the", "only", rest @ ..] => {
            let (ObjectKind { colour: None, shape: Some(shape) }, []) = parse_singular_kind(rest)? else { return None };
            with_options(options, Colour::from_word, |options| SceneQuestion::OnlyColour(shape, options))
        }
        ["shape", "is", "the", "only", rest @ ..] => {
            let (ObjectKind { colour: Some(colour), shape: None }, []) = parse_singular_kind(rest)? else {
                return None;
            };
            with_options(options, ObjectShape::from_word, |options| SceneQuestion::OnlyShape(colour, options))
        }
        _ => None,
    }
}

/// Builds a question from at least two options of one word each.
fn with_options<T: PartialEq>(
    words: &[&str],
    option: fn(&str) -> Option<T>,
    question: impl FnOnce(Vec<T>) -> SceneQuestion,
) -> Option<ParsedSceneQuestion> {
    if !words.len().is_multiple_of(2) || words.len() < 4 || words.len() > 2 * LETTERS.len() {
        return None;
    }
    let mut options = Vec::new();
    let mut repeated = false;
    for (pair, letter) in words.chunks_exact(2).zip(LETTERS) {
        let option = option(pair[1]).filter(|_| pair[0] == letter)?;
        repeated |= options.contains(&option);
        options.push(option);
    }
    Some(if repeated {
        ParsedSceneQuestion::Ambiguous("equal options")
    } else {
        ParsedSceneQuestion::Known(question(options))
    })
}

/// Parses nothing, or `among the` and a kind.
fn parse_among(words: &[&str]) -> Option<ObjectKind> {
    match words {
        [] => Some(ObjectKind::ANY),
        ["among", "the", rest @ ..] => {
            let (kind, []) = parse_plural_kind(rest)? else { return None };
            (kind != ObjectKind::ANY).then_some(kind)
        }
        _ => None,
    }
}

/// Parses a plural kind and returns the rest.
fn parse_plural_kind<'w, 't>(words: &'w [&'t str]) -> Option<(ObjectKind, &'w [&'t str])> {
    parse_kind(words, "shapes", ObjectShape::from_plural)
}

/// Parses a singular kind and returns the rest.
fn parse_singular_kind<'w, 't>(words: &'w [&'t str]) -> Option<(ObjectKind, &'w [&'t str])> {
    parse_kind(words, "shape", ObjectShape::from_word)
}

/// Parses an optional colour and a noun, and returns the rest; `any` is the noun of any shape.
fn parse_kind<'w, 't>(
    words: &'w [&'t str],
    any: &str,
    shape: fn(&str) -> Option<ObjectShape>,
) -> Option<(ObjectKind, &'w [&'t str])> {
    let colour = words.first().and_then(|word| Colour::from_word(word));
    let (noun, rest) = words[usize::from(colour.is_some())..].split_first()?;
    let shape = if *noun == any { None } else { Some(shape(noun)?) };
    Some((ObjectKind { colour, shape }, rest))
}

fn parse_region(words: &[&str]) -> Option<Region> {
    let line = |number: &str| number.parse().ok().filter(|n| (1..=4).contains(n) && number.len() == 1);
    match words {
        ["the", "top", "half"] => Some(Region::Top),
        ["the", "bottom", "half"] => Some(Region::Bottom),
        ["the", "left", "half"] => Some(Region::Left),
        ["the", "right", "half"] => Some(Region::Right),
        ["row", number] => Some(Region::Row(line(number)?)),
        ["column", number] => Some(Region::Column(line(number)?)),
        _ => None,
    }
}
