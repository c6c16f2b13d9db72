//! Parser from the text of a question back to a [`SceneQuestion`].

use super::object::{Attribute, Colour, ObjectKind, ObjectShape, Region};
use super::question::{LETTERS, SceneQuestion};
use ParsedSceneQuestion::{Ambiguous, Known, Unknown};

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
        return Unknown;
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
    read.unwrap_or(Unknown)
}

/// Returns a question, or the reason why it is ambiguous if it is.
fn known_unless(is_ambiguous: bool, reason: &'static str, question: SceneQuestion) -> Option<ParsedSceneQuestion> {
    Some(if is_ambiguous { Ambiguous(reason) } else { Known(question) })
}

/// Parses the words after `How many`.
fn parse_how_many(words: &[&str]) -> Option<ParsedSceneQuestion> {
    if let ["different", "colours", rest @ ..] = words {
        return match rest {
            ["are", "there"] => Some(Known(SceneQuestion::Colours(None))),
            ["do", "the", shape, "have"] => Some(Known(SceneQuestion::Colours(Some(ObjectShape::from_plural(shape)?)))),
            _ => None,
        };
    }
    if let ["more", rest @ ..] = words {
        let (a, rest) = parse_plural_kind(rest)?;
        let ["than", rest @ ..] = rest else { return None };
        let (b, rest) = parse_plural_kind(rest)?;
        let ["are", "there"] = rest else { return None };
        return known_unless(a == b, "a kind is compared with itself", SceneQuestion::More(a, b));
    }
    let (kind, rest) = parse_plural_kind(words)?;
    match rest {
        ["are", "there"] => Some(Known(SceneQuestion::Count(kind))),
        ["are", "in", rest @ ..] => Some(Known(SceneQuestion::CountIn(kind, parse_region(rest)?))),
        ["are", "not", word] => {
            let attribute = Attribute::from_word(word)?;
            let is_given = !kind.leaves_unspecified(attribute);
            known_unless(is_given, "the kind already says what is left out", SceneQuestion::Except(kind, attribute))
        }
        ["and", rest @ ..] => {
            let (other, ["are", "there", "in", "total"]) = parse_plural_kind(rest)? else { return None };
            known_unless(kind.overlaps(other), "the two kinds overlap", SceneQuestion::Total(kind, other))
        }
        _ => None,
    }
}

/// Parses the words after `What share of the`.
fn parse_share(words: &[&str]) -> Option<ParsedSceneQuestion> {
    let (kind, ["are", word, "to", "one", "decimal"]) = parse_plural_kind(words)? else { return None };
    let attribute = Attribute::from_word(word)?;
    let is_given = !kind.leaves_unspecified(attribute);
    known_unless(is_given, "the kind already says what is counted", SceneQuestion::Share(kind, attribute))
}

/// Parses the words after `Is there a`, and the options.
fn parse_exists(words: &[&str], options: &[&str]) -> Option<ParsedSceneQuestion> {
    let yes_first = match options {
        ["A", "yes", "B", "no"] => true,
        ["A", "no", "B", "yes"] => false,
        ["A", a, "B", b] if a == b && matches!(*a, "yes" | "no") => return Some(Ambiguous("equal options")),
        _ => return None,
    };
    let (kind, rest) = parse_singular_kind(words)?;
    let region = match rest {
        [] => None,
        ["in", rest @ ..] => Some(parse_region(rest)?),
        _ => return None,
    };
    Some(Known(SceneQuestion::Exists(kind, region, yes_first)))
}

/// Parses the words after `Which`, and the options.
fn parse_which(words: &[&str], options: &[&str]) -> Option<ParsedSceneQuestion> {
    match words {
        ["are", "there", "more", "of"] => {
            let ["A", rest @ ..] = options else { return None };
            let (a, ["B", rest @ ..]) = parse_plural_kind(rest)? else { return None };
            let (b, []) = parse_plural_kind(rest)? else { return None };
            known_unless(a == b, "equal options", SceneQuestion::MoreOf(a, b))
        }
        ["colour", "is", "most", "common", rest @ ..] => {
            let kind = parse_among(rest)?;
            let reading =
                with_options(options, Colour::from_stored, |options| SceneQuestion::MostColour(kind, options))?;
            Some(if kind.colour.is_none() { reading } else { Ambiguous("the colour is given") })
        }
        ["shape", "is", "most", "common", rest @ ..] => {
            let kind = parse_among(rest)?;
            let question = |options| SceneQuestion::MostShape(kind, options);
            let reading = with_options(options, ObjectShape::from_stored, question)?;
            Some(if kind.shape.is_none() { reading } else { Ambiguous("the shape is given") })
        }
        ["colour", "is", "the", "only", rest @ ..] => {
            let (ObjectKind { colour: None, shape: Some(shape) }, []) = parse_singular_kind(rest)? else { return None };
            with_options(options, Colour::from_stored, |options| SceneQuestion::OnlyColour(shape, options))
        }
        ["shape", "is", "the", "only", rest @ ..] => {
            let (ObjectKind { colour: Some(colour), shape: None }, []) = parse_singular_kind(rest)? else {
                return None;
            };
            with_options(options, ObjectShape::from_stored, |options| SceneQuestion::OnlyShape(colour, options))
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
    known_unless(repeated, "equal options", question(options))
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
    parse_kind(words, "shape", ObjectShape::from_stored)
}

/// Parses an optional colour and a noun, and returns the rest; `any` is the noun of any shape.
fn parse_kind<'w, 't>(
    words: &'w [&'t str],
    any: &str,
    shape: fn(&str) -> Option<ObjectShape>,
) -> Option<(ObjectKind, &'w [&'t str])> {
    let colour = words.first().and_then(|word| Colour::from_stored(word));
    let (noun, rest) = words[usize::from(colour.is_some())..].split_first()?;
    let shape = if *noun == any { None } else { Some(shape(noun)?) };
    Some((ObjectKind { colour, shape }, rest))
}

fn parse_region(words: &[&str]) -> Option<Region> {
    Region::ALL.into_iter().find(|region| region.to_string() == words.join(" "))
}
