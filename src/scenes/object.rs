//! Vocabulary of scenes: objects, colours, shapes, kinds of object, and regions of the image.

use std::fmt;

use crate::tables::string_enum;

/// An object of a scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SceneObject {
    /// Its colour.
    pub colour: Colour,
    /// Its shape.
    pub shape: ObjectShape,
    /// The row of its cell, 1 to 4 from the top.
    pub row: u8,
    /// The column of its cell, 1 to 4 from the left.
    pub column: u8,
    /// Its centre in pixels from the left.
    pub x: i32,
    /// Its centre in pixels from the top.
    pub y: i32,
    /// Its size: the radius of a disc, half a side of a square, half the height and half the base
    /// of a triangle.
    pub size: i32,
}

string_enum! {
    /// The colour of an object.
    pub enum Colour("a colour: red, green, blue or yellow") {
        /// Red.
        Red = "red",
        /// Green.
        Green = "green",
        /// Blue.
        Blue = "blue",
        /// Yellow.
        Yellow = "yellow",
    }
}

string_enum! {
    /// The shape of an object. Areas differ too: about 130, 360 and 190 pixels.
    pub enum ObjectShape("a shape: circle, square or triangle") {
        /// A small disc.
        Circle = "circle",
        /// A large square.
        Square = "square",
        /// A triangle that points upwards.
        Triangle = "triangle",
    }
}

impl ObjectShape {
    /// Returns the plural word.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Circle => "circles",
            Self::Square => "squares",
            Self::Triangle => "triangles",
        }
    }

    /// Returns the shape that a plural word names.
    pub fn from_plural(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|shape| shape.plural() == word)
    }
}

/// A colour or a shape, as a property of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// Has this colour.
    Colour(Colour),
    /// Has this shape.
    Shape(ObjectShape),
}

impl Attribute {
    /// Whether an object has the attribute.
    pub fn matches(self, object: &SceneObject) -> bool {
        match self {
            Self::Colour(colour) => object.colour == colour,
            Self::Shape(shape) => object.shape == shape,
        }
    }

    /// Returns the attribute's word: `red`, `circles`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Colour(colour) => colour.as_str(),
            Self::Shape(shape) => shape.plural(),
        }
    }

    /// Returns the attribute that a word names.
    pub fn from_word(word: &str) -> Option<Self> {
        Colour::from_stored(word).map(Self::Colour).or_else(|| ObjectShape::from_plural(word).map(Self::Shape))
    }
}

/// A kind of object: of a colour, a shape, both or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ObjectKind {
    /// Required colour.
    pub colour: Option<Colour>,
    /// Required shape.
    pub shape: Option<ObjectShape>,
}

impl ObjectKind {
    /// Any object.
    pub const ANY: Self = Self { colour: None, shape: None };

    /// Objects of a colour, of any shape.
    pub const fn of_colour(colour: Colour) -> Self {
        Self { colour: Some(colour), shape: None }
    }

    /// Objects of a shape, of any colour.
    pub const fn of_shape(shape: ObjectShape) -> Self {
        Self { colour: None, shape: Some(shape) }
    }

    /// Whether an object is of this kind.
    pub fn matches(self, object: &SceneObject) -> bool {
        self.colour.is_none_or(|colour| object.colour == colour) && self.shape.is_none_or(|shape| object.shape == shape)
    }

    /// Whether an object can be of both kinds.
    pub fn overlaps(self, other: Self) -> bool {
        let meet = |a: Option<u8>, b: Option<u8>| a.is_none() || b.is_none() || a == b;
        meet(self.colour.map(|c| c as u8), other.colour.map(|c| c as u8))
            && meet(self.shape.map(|s| s as u8), other.shape.map(|s| s as u8))
    }

    /// Whether the kind has no colour, for a colour attribute, or no shape, for a shape attribute.
    pub fn leaves_unspecified(self, attribute: Attribute) -> bool {
        match attribute {
            Attribute::Colour(_) => self.colour.is_none(),
            Attribute::Shape(_) => self.shape.is_none(),
        }
    }

    /// Returns the singular: `red circle`, `red shape`, `circle`, `shape`.
    pub fn singular(self) -> String {
        self.with_noun(self.shape.map_or("shape", ObjectShape::as_str))
    }

    /// Returns the plural: `red circles`, `red shapes`, `circles`, `shapes`.
    pub fn plural(self) -> String {
        self.with_noun(self.shape.map_or("shapes", ObjectShape::plural))
    }

    fn with_noun(self, noun: &str) -> String {
        self.colour.map_or_else(|| noun.to_owned(), |colour| format!("{} {noun}", colour.as_str()))
    }
}

/// A region of the image, in cells of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Region {
    /// Rows 1 and 2.
    Top,
    /// Rows 3 and 4.
    Bottom,
    /// Columns 1 and 2.
    Left,
    /// Columns 3 and 4.
    Right,
    /// A row, 1 to 4 from the top.
    Row(u8),
    /// A column, 1 to 4 from the left.
    Column(u8),
}

impl Region {
    /// Every region.
    pub const ALL: [Self; 12] = {
        use Region::{Bottom, Column, Left, Right, Row, Top};
        [Top, Bottom, Left, Right, Row(1), Row(2), Row(3), Row(4), Column(1), Column(2), Column(3), Column(4)]
    };

    /// Whether an object is in the region.
    pub fn contains(self, object: &SceneObject) -> bool {
        match self {
            Self::Top => object.row <= 2,
            Self::Bottom => object.row > 2,
            Self::Left => object.column <= 2,
            Self::Right => object.column > 2,
            Self::Row(row) => object.row == row,
            Self::Column(column) => object.column == column,
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => f.write_str("the top half"),
            Self::Bottom => f.write_str("the bottom half"),
            Self::Left => f.write_str("the left half"),
            Self::Right => f.write_str("the right half"),
            Self::Row(row) => write!(f, "row {row}"),
            Self::Column(column) => write!(f, "column {column}"),
        }
    }
}
