//! `scene_objects`: what is in drawn scenes.

use super::row::table;

table! {
    /// An object of a drawn scene.
    #[table("scene_objects")]
    pub struct SceneObjectRow {
        /// The scene's number in its seed.
        pub scene: u64,
        /// The scene's image file, relative to the table's folder.
        pub image: String,
        /// Number of the object in its scene, from 0, row by row from the left.
        pub object: u32,
        /// Its colour: red, green, blue or yellow.
        pub colour: String,
        /// Its shape: circle, square or triangle.
        pub shape: String,
        /// The row of its cell, 1 to 4 from the top.
        pub row: u32,
        /// The column of its cell, 1 to 4 from the left.
        pub column: u32,
        /// Its middle in pixels from the left.
        pub x: u32,
        /// Its middle in pixels from the top.
        pub y: u32,
        /// The radius of a circle, half a side of a square, half the height and base of a triangle, in pixels.
        pub size: u32,
    }
}
