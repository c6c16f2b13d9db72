//! The `scene_objects` table: the objects of drawn scenes.

use super::row::table;

table! {
    /// An object of a drawn scene.
    #[table("scene_objects")]
    pub struct SceneObjectRow {
        /// Number of the scene within its seed.
        pub scene: u64,
        /// Path of the scene's image, relative to the table's folder.
        pub image: String,
        /// Index of the object in its scene, from 0, row by row from the left.
        pub object: u32,
        /// Colour: red, green, blue or yellow.
        pub colour: String,
        /// Shape: circle, square or triangle.
        pub shape: String,
        /// Row of its cell, 1 to 4 from the top.
        pub row: u32,
        /// Column of its cell, 1 to 4 from the left.
        pub column: u32,
        /// Centre in pixels from the left.
        pub x: u32,
        /// Centre in pixels from the top.
        pub y: u32,
        /// Size in pixels: radius of a circle, half the side of a square, half the height and base
        /// of a triangle.
        pub size: u32,
    }
}
