//! The primary item of a HEIF container: its size, crop and orientation, and its tiles.

use std::borrow::Cow;

use heifer_isobmff::boxes::{ColorInfo, ConstructionMethod, Property};
use heifer_isobmff::{BoxIter, HeifFile, Item, ItemId};

use crate::imaging::error::ImageError;
use crate::imaging::format::Format;
use crate::imaging::header::Header;
use crate::imaging::orientation::Orientation;

/// Largest size in bytes of the boxes that list items, their places, properties and references. A
/// photo of a phone has some 50 items and 2 KiB of such boxes.
const MAX_LISTS: usize = 1 << 20;

/// Largest product of the sizes of the list of items and of the other lists: time and memory of
/// `heifer-isobmff` grow with it, because items of one id each get a copy of its places.
const MAX_LISTS_PRODUCT: usize = 1 << 30;

/// Largest ratio of the coded pixels to the pixels of the image, apart from [`SPARE_PIXELS`].
const MAX_CODED_RATIO: u64 = 4;

/// Coded pixels that any image may have: encoders pad small images.
const SPARE_PIXELS: u64 = 1 << 20;

/// Code point of primaries that are not specified.
pub(super) const UNSPECIFIED: u16 = 2;

/// Colour description by the code points of ITU-T H.273.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ColorDescription {
    pub(super) primaries: u16,
    /// Matrix coefficients.
    pub(super) matrix: u16,
    pub(super) is_full_range: bool,
}

/// Part of the coded picture that is the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crop {
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// Primary item of a container: a coded picture, or a grid of them.
pub(super) struct PrimaryItem<'a> {
    file: HeifFile<'a>,
    format: Format,
    /// Size of the file in bytes.
    file_size: usize,
    /// Size before the crop, in pixels.
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) crop: Crop,
    orientation: Orientation,
    /// Colours as the container describes them.
    pub(super) color: Option<ColorDescription>,
    #[cfg_attr(not(feature = "avif"), expect(dead_code, reason = "only AVIF depends on it"))]
    pub(super) has_alpha: bool,
    /// Coded pictures, row by row.
    pub(super) tiles: Vec<ItemId>,
    /// Number of tiles in a row.
    pub(super) columns: usize,
    /// Size of a tile in pixels.
    pub(super) tile_width: u32,
    pub(super) tile_height: u32,
}

impl<'a> PrimaryItem<'a> {
    /// Reads the boxes of a container and describes its primary item.
    pub(super) fn read(bytes: &'a [u8], format: Format) -> Result<Self, ImageError> {
        check_lists(bytes)?;
        let file = HeifFile::parse(bytes)?;
        let id = file.primary_id;
        let kind = file.item(id)?.item_type.0;
        check_essential(&file, id, format)?;
        let declared = file.image_size(id)?.ok_or_else(|| ImageError::corrupt("an image without a size"))?;
        let (tiles, columns, rows) = if &kind == b"grid" {
            let grid = file.grid(id)?;
            if declared != (grid.output_width, grid.output_height) {
                return Err(ImageError::corrupt("an image and a grid of different sizes"));
            }
            let tiles = file.referenced_items(id, b"dimg").to_vec();
            (tiles, usize::from(grid.columns), usize::from(grid.rows))
        } else {
            (vec![id], 1, 1)
        };
        let first = *tiles.first().ok_or_else(|| ImageError::corrupt("a grid without tiles"))?;
        if tiles.len() != columns * rows {
            return Err(ImageError::corrupt("a grid with a wrong number of tiles"));
        }
        let tile_size = file.image_size(first)?.ok_or_else(|| ImageError::corrupt("a tile without a size"))?;
        let (width, height) = declared;
        for tile in &tiles {
            check_codec(&file.item(*tile)?.item_type.0, format)?;
            if file.image_size(*tile)? != Some(tile_size) {
                return Err(ImageError::corrupt("a grid with tiles of different sizes"));
            }
            if *tile != id {
                check_essential(&file, *tile, format)?;
            }
        }
        let (across, down) = (u64::from(tile_size.0) * columns as u64, u64::from(tile_size.1) * rows as u64);
        if across < u64::from(width) || down < u64::from(height) {
            return Err(ImageError::corrupt("a grid with too few tiles"));
        }
        let (crop, orientation) = transforms(&file, format, declared)?;
        let pixels = u64::from(crop.width) * u64::from(crop.height);
        if across.saturating_mul(down) > pixels.saturating_mul(MAX_CODED_RATIO).saturating_add(SPARE_PIXELS) {
            return Err(ImageError::corrupt("far more coded pixels than its image has"));
        }
        let color = color_of(&file, id)?;
        let has_alpha = has_alpha(&file, id)? || tiles.iter().all(|tile| has_alpha(&file, *tile).unwrap_or(false));
        let file_size = bytes.len();
        let (tile_width, tile_height) = tile_size;
        Ok(Self {
            file,
            format,
            file_size,
            width,
            height,
            crop,
            orientation,
            color,
            has_alpha,
            tiles,
            columns,
            tile_width,
            tile_height,
        })
    }

    /// Returns the image's header.
    pub(super) fn header(&self) -> Header {
        Header {
            format: self.format,
            stored_width: self.crop.width,
            stored_height: self.crop.height,
            orientation: self.orientation,
        }
    }

    /// Returns the parameter sets and the coded bytes of a tile as an HEVC byte stream.
    #[cfg(feature = "heic")]
    pub(super) fn tile_stream(&self, index: usize) -> Result<Vec<u8>, ImageError> {
        Ok(self.file.hevc_bitstream(self.tiles[index])?)
    }

    /// Returns the coded bytes of each tile. Together with the parameter sets they are at most
    /// twice as long as the file, so that tiles that share bytes take bounded time.
    pub(super) fn tile_data(&self) -> impl Iterator<Item = Result<Cow<'a, [u8]>, ImageError>> {
        let mut budget = self.file_size.saturating_mul(2);
        self.tiles.iter().map(move |tile| {
            let data = data_of(&self.file, *tile)?;
            let config = self.file.hevc_config(*tile)?;
            let parameters: usize = config.map_or(0, |config| config.nal_units.iter().map(Vec::len).sum());
            let rest = budget.checked_sub(data.len() + parameters);
            budget = rest.ok_or_else(|| ImageError::corrupt("tiles that share their bytes"))?;
            Ok(data)
        })
    }

    /// Returns the colours as the container describes those of the first tile.
    #[cfg(feature = "heic")]
    pub(super) fn tile_color(&self) -> Result<Option<ColorDescription>, ImageError> {
        self.tiles.first().map_or(Ok(None), |tile| color_of(&self.file, *tile))
    }
}

/// Checks the sizes of the boxes that list items, before `heifer-isobmff` reads them.
fn check_lists(bytes: &[u8]) -> Result<(), ImageError> {
    let (mut items, mut others) = (0, 0);
    let mut add_lists = |boxes: &[u8]| -> Result<(), ImageError> {
        for list in BoxIter::new(boxes) {
            let list = list?;
            match &list.header.box_type.0 {
                b"iinf" => items += list.content.len(),
                b"iloc" | b"iref" | b"ipma" => others += list.content.len(),
                _ => {}
            }
            // An extent without offset and length takes no bytes, but memory.
            if &list.header.box_type.0 == b"iloc" && list.content.get(4) == Some(&0) {
                return Err(ImageError::corrupt("items without places"));
            }
        }
        Ok(())
    };
    for part in BoxIter::new(bytes) {
        let part = part?;
        if &part.header.box_type.0 != b"meta" {
            continue;
        }
        // A version and flags come first.
        let meta = part.content.get(4..).unwrap_or_default();
        add_lists(meta)?;
        for child in BoxIter::new(meta) {
            let child = child?;
            if &child.header.box_type.0 == b"iprp" {
                add_lists(child.content)?;
            }
        }
    }
    if items + others > MAX_LISTS || items * others > MAX_LISTS_PRODUCT {
        return Err(ImageError::corrupt("too many items"));
    }
    Ok(())
}

/// Checks that an item is coded as the format says.
fn check_codec(kind: &[u8; 4], format: Format) -> Result<(), ImageError> {
    let is_expected = match format {
        #[cfg(feature = "heic")]
        Format::Heic => matches!(kind, b"hvc1" | b"hev1"),
        #[cfg(feature = "avif")]
        Format::Avif => kind == b"av01",
        _ => false,
    };
    if is_expected {
        return Ok(());
    }
    Err(unsupported(format, &format!("an image of the kind {:?}", String::from_utf8_lossy(kind))))
}

/// Checks that no property that is not understood has to be.
fn check_essential(file: &HeifFile<'_>, id: ItemId, format: Format) -> Result<(), ImageError> {
    for association in &file.item(id)?.properties {
        let property = usize::from(association.index).checked_sub(1).and_then(|index| file.properties.get(index));
        match property {
            Some(Property::Unknown(kind, _)) if association.essential && &kind.0 != b"av1C" => {
                return Err(unsupported(format, &format!("the property {:?}", String::from_utf8_lossy(&kind.0))));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Finds the colours that an item's properties describe.
fn color_of(file: &HeifFile<'_>, id: ItemId) -> Result<Option<ColorDescription>, ImageError> {
    Ok(file.item_properties(id)?.find_map(|property| match *property {
        Property::Color(ColorInfo::Nclx { primaries, matrix, full_range, .. }) => {
            Some(ColorDescription { primaries, matrix, is_full_range: full_range })
        }
        _ => None,
    }))
}

/// Whether an item has an alpha plane. Colours that are multiplied by it are rejected.
fn has_alpha(file: &HeifFile<'_>, id: ItemId) -> Result<bool, ImageError> {
    if !file.referenced_items(id, b"prem").is_empty() {
        return Err(ImageError::unsupported("HEIF with colours multiplied by alpha", "FILE.heif"));
    }
    let is_alpha = |item: ItemId| {
        file.item_properties(item).is_ok_and(|mut properties| {
            properties.any(|property| {
                matches!(property, Property::AuxiliaryType(kind)
                    if kind == "urn:mpeg:mpegB:cicp:systems:auxiliary:alpha" || kind == "urn:mpeg:hevc:2015:auxid:1")
            })
        })
    };
    Ok(file.referencing_items(id, b"auxl").into_iter().any(is_alpha))
}

/// Reads the crop, rotations and mirrors of the primary item, in their order.
fn transforms(
    file: &HeifFile<'_>,
    format: Format,
    (width, height): (u32, u32),
) -> Result<(Crop, Orientation), ImageError> {
    let mut crop = Crop { left: 0, top: 0, width, height };
    let (mut rotations, mut mirrors) = (Vec::new(), Vec::new());
    let is_avif = format.name() == "avif";
    let mut orientation = Orientation::UPRIGHT;
    for property in file.item_properties(file.primary_id)? {
        match *property {
            // Anti-clockwise quarters.
            Property::Rotation(quarters) => {
                rotations.push(Orientation::from_tag([1, 8, 3, 6][usize::from(quarters & 3)]))
            }
            Property::Mirror(is_top_bottom) => mirrors.push(Orientation::from_tag(if is_top_bottom { 4 } else { 2 })),
            // Pillow ignores the crop of AVIF.
            Property::CleanAperture { width: across, height: down, horiz_offset, vert_offset } if !is_avif => {
                if orientation != Orientation::UPRIGHT || (crop.width, crop.height) != (width, height) {
                    return Err(unsupported(format, "a crop after another transform"));
                }
                let (left, right) = crop_side(width, across, horiz_offset)?;
                let (top, bottom) = crop_side(height, down, vert_offset)?;
                crop = Crop { left, top, width: right - left, height: bottom - top };
            }
            _ => {}
        }
        // libheif applies transforms in their order; libavif rotates first.
        if !is_avif {
            let steps = rotations.drain(..).chain(mirrors.drain(..));
            orientation = steps.fold(orientation, Orientation::then);
        }
    }
    orientation = rotations.into_iter().chain(mirrors).fold(orientation, Orientation::then);
    if is_avif && orientation == Orientation::UPRIGHT {
        // Pillow replaces an orientation in EXIF, but not one in XMP.
        let exif = metadata(file, |item| &item.item_type.0 == b"Exif");
        let xmp = metadata(file, |item| item.content_type.as_deref() == Some("application/rdf+xml"));
        // The offset of the TIFF header comes first.
        let exif = exif.as_deref().and_then(|exif| exif.get(4..));
        orientation = Orientation::find_unless_exif_has_one(exif, xmp.as_deref());
    }
    Ok((crop, orientation))
}

/// Returns the metadata of the primary item in the first of the items that satisfy `is_kind`.
fn metadata<'a>(file: &HeifFile<'a>, is_kind: impl Fn(&Item) -> bool) -> Option<Cow<'a, [u8]>> {
    let mut describing = file.referencing_items(file.primary_id, b"cdsc").into_iter();
    let found = describing.find(|id| file.item(*id).is_ok_and(&is_kind))?;
    data_of(file, found).ok()
}

/// Returns the bytes of an item that is stored in the file or next to the list of items.
fn data_of<'a>(file: &HeifFile<'a>, id: ItemId) -> Result<Cow<'a, [u8]>, ImageError> {
    let place = file.item(id)?.location.as_ref();
    if place.is_some_and(|place| place.construction_method == ConstructionMethod::Item) {
        // The copies that these need are not bounded.
        return Err(ImageError::unsupported("HEIF with items made of other items", "FILE.heif"));
    }
    Ok(file.item_data(id)?)
}

/// Returns the first and the last but one pixel of a side that a clean aperture keeps: its center
/// is `offset` from the center of the side, and halves are rounded up, as in libheif.
fn crop_side(side: u32, aperture: (u32, u32), offset: (i32, u32)) -> Result<(u32, u32), ImageError> {
    let corrupt = || ImageError::corrupt("an impossible crop");
    let (length, length_over) = (i128::from(aperture.0), i128::from(aperture.1));
    let (shift, shift_over) = (i128::from(offset.0), i128::from(offset.1));
    if length_over == 0 || shift_over == 0 {
        return Err(corrupt());
    }
    let round = |over: i128, under: i128| (2 * over + under).div_euclid(2 * under);
    // offset + (side - 1) / 2 - (length - 1) / 2
    let over = 2 * shift * length_over + (i128::from(side) * length_over - length) * shift_over;
    let start = round(over, 2 * shift_over * length_over);
    let end = start + round(length, length_over);
    let (start, end) = (start.max(0), end.min(i128::from(side)));
    if start >= end {
        return Err(corrupt());
    }
    Ok((start as u32, end as u32))
}

/// Returns the error of a kind of image that is not read.
pub(super) fn unsupported(format: Format, kind: &str) -> ImageError {
    let name = format.name();
    ImageError::unsupported(&format!("{} with {kind}", name.to_uppercase()), &format!("FILE.{name}"))
}

impl From<heifer_isobmff::Error> for ImageError {
    fn from(error: heifer_isobmff::Error) -> Self {
        match error {
            heifer_isobmff::Error::UnexpectedEof => Self::Truncated("a box ends beyond the end of the file".to_owned()),
            other => Self::Corrupt(other.to_string()),
        }
    }
}
