//! Files and folders that are often passed where a checkpoint, a table or images are expected.
//!
//! Each is recognized by its content, so that the message can say what it is and what to run
//! instead. Nothing here reads more than the head of a file and the names in a folder.

mod file;
mod folder;

use std::path::Path;

use self::file::LFS_PULL;
pub use self::file::RecognizedFile;
pub use self::folder::FolderKind;
pub(crate) use self::folder::convert_weights;

/// Returns what is passed as a checkpoint instead, and what to do; `None` if it may be a checkpoint
/// or is not recognized. The sentence does not name the path.
pub fn describe_instead_of_model(path: &Path) -> Option<String> {
    if path.is_dir() {
        return FolderKind::of(path).and_then(|kind| kind.instead_of_model(path));
    }
    if path.is_file() {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let whole = format!("pass the folder that holds config.json and the weights, such as {}", folder.display());
        return Some(match RecognizedFile::of(path) {
            Some(RecognizedFile::Safetensors) => format!("it is a file of weights; {whole}"),
            Some(kind) => format!("it is {}; {}", kind.name(), kind.instead_of_model()),
            None => format!("it is a file; {whole}"),
        });
    }
    let id = hub_id(path)?;
    let name = id.rsplit('/').next().unwrap_or(id);
    Some(format!(
        "there is no such folder; if it is the name of a model on the Hugging Face Hub, download it first: \
         `hf download {id} --local-dir models/{name}`, then pass models/{name}; if it is in the Hub's cache already, \
         pass its folder there, ~/.cache/huggingface/hub/models--{}/snapshots/*",
        id.replace('/', "--")
    ))
}

/// Returns what is passed as a Parquet table instead, and what to do; `None` if it may be a table
/// or is not recognized.
pub fn describe_instead_of_table(path: &Path) -> Option<String> {
    if path.is_dir() {
        let kind = FolderKind::of(path).and_then(|kind| kind.instead_of_table(path));
        return Some(kind.unwrap_or_else(|| folder_of_tables(path)));
    }
    if path.is_file() {
        let kind = RecognizedFile::of(path)?;
        return Some(format!("it is {}; {}", kind.name(), kind.instead_of_table(path)?));
    }
    missing_dataset(path)
}

/// Returns what is passed as a source of images instead, and what to do; `None` if it may hold
/// images or is not recognized. [`describe_without_images`] says more once none was found.
pub fn describe_instead_of_images(path: &Path) -> Option<String> {
    if path.is_dir() {
        return FolderKind::of(path).and_then(|kind| kind.instead_of_images(path));
    }
    if path.is_file() {
        // Zip and tar archives of images are read.
        let kind =
            RecognizedFile::of(path).filter(|kind| !matches!(kind, RecognizedFile::Zip | RecognizedFile::TarOrGzip))?;
        return Some(format!("it is {}; {}", kind.name(), kind.instead_of_table(path)?));
    }
    missing_dataset(path)
}

/// Returns what a folder is in which no image was found, and what to do; `None` if it is no folder
/// or is not recognized.
pub fn describe_without_images(path: &Path) -> Option<String> {
    let kind = if path.is_dir() { FolderKind::of(path) } else { None };
    kind.and_then(|kind| kind.without_images(path))
}

/// Returns what bytes are that are not the table `path`, and what to do; `None` if they are not
/// recognized.
pub fn describe_instead_of_table_bytes(path: &Path, head: &[u8]) -> Option<String> {
    let kind = RecognizedFile::of_bytes(head)?;
    Some(format!("it is {}; {}", kind.name(), kind.instead_of_table(path)?))
}

/// Returns what bytes are that should be a text file of a checkpoint, if they are a pointer of Git
/// LFS.
pub fn describe_pointer(bytes: &[u8]) -> Option<String> {
    let is_pointer = RecognizedFile::of_bytes(bytes) == Some(RecognizedFile::LfsPointer);
    is_pointer.then(|| format!("it is {}; {LFS_PULL}", RecognizedFile::LfsPointer.name()))
}

/// Returns the kind of a file whose rejection as an image quotes its first bytes in hexadecimal.
pub fn kind_in_rejection(detail: &str) -> Option<RecognizedFile> {
    let (_, head) = detail.rsplit_once("it begins with ")?;
    let digits = head.split_ascii_whitespace().map_while(|byte| u8::from_str_radix(byte, 16).ok());
    let head: Vec<u8> = digits.collect();
    match head.as_slice() {
        // Eight bytes of a pointer are the word that it begins with.
        b"version " => Some(RecognizedFile::LfsPointer),
        head => RecognizedFile::of_bytes(head),
    }
}

/// Describes a folder that is passed as a table: it names the Parquet files in it.
fn folder_of_tables(folder: &Path) -> String {
    let mut tables: Vec<_> =
        folder::paths_in(folder, 2).into_iter().filter(|path| path.ends_with(".parquet")).collect();
    tables.sort();
    match tables.first() {
        Some(first) => format!("it is a folder; pass one of the Parquet files in it, such as {first}"),
        None => "it is a folder; pass a Parquet file".to_owned(),
    }
}

fn missing_dataset(path: &Path) -> Option<String> {
    let id = hub_id(path)?;
    let name = id.rsplit('/').next().unwrap_or(id);
    Some(format!(
        "there is no such file; if it is the name of a dataset on the Hugging Face Hub, download it first: \
         `hf download {id} --repo-type dataset --local-dir data/{name}`, then pass its Parquet files"
    ))
}

/// Endings of files that a command may be passed; names on the Hub do not have them.
const FILE_ENDINGS: [&str; 14] = [
    "arrow",
    "bin",
    "gguf",
    "jpeg",
    "jpg",
    "json",
    "jsonl",
    "parquet",
    "png",
    "pth",
    "safetensors",
    "toml",
    "txt",
    "zip",
];

/// Returns the name on the Hugging Face Hub that a path looks like: `OWNER/NAME`, as itself or in
/// an address; `None` if the path exists.
pub fn hub_id(path: &Path) -> Option<&str> {
    if path.exists() {
        return None;
    }
    let text = path.to_str()?.trim_end_matches('/');
    let text = ["https://huggingface.co/", "https:/huggingface.co/", "hf.co/", "huggingface.co/", "hf://"]
        .iter()
        .find_map(|start| text.strip_prefix(start))
        .unwrap_or(text);
    let text = text.strip_prefix("datasets/").unwrap_or(text);
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let (owner, name) = text.split_once('/')?;
    let is_file = name.rsplit_once('.').is_some_and(|(_, ending)| FILE_ENDINGS.contains(&ending));
    (plain(owner) && plain(name) && !is_file).then_some(text)
}
