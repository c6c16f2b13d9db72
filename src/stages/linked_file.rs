//! Image files that a table names by their paths instead of storing their bytes.

use std::path::{Path, PathBuf};

use super::Rejection;

/// Maximum number of characters of a path in a message.
const SHOWN_CHARS: usize = 200;

/// Returns the file that a path in a table names. A relative path starts at the table's `folder`.
///
/// # Errors
/// The path is a URL other than `file://`; nothing is downloaded.
pub(super) fn resolve_link(link: &str, folder: &Path) -> Result<PathBuf, Rejection> {
    let path = link.strip_prefix("file://localhost/").map(|path| format!("/{path}"));
    let path = path.unwrap_or_else(|| link.strip_prefix("file://").unwrap_or(link).to_owned());
    if is_url(&path) {
        let advice = "images at URLs are not downloaded; download them, and store their bytes or paths";
        return Err(Rejection::new("url", format!("{}: {advice}", shown(link))));
    }
    Ok(folder.join(path))
}

/// Returns the rejection of an image whose file cannot be read.
pub(super) fn reject_link(link: &str, problem: &str) -> Rejection {
    Rejection::new("unreadable_path", format!("{}: {problem}", shown(link)))
}

/// Whether a text is a URL, such as `https://..`, `hf://..` or `data:..`.
fn is_url(text: &str) -> bool {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    text.starts_with("data:") || text.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme))
}

/// Returns a path for a message, without its end if it is long: it may be an encoded image.
fn shown(link: &str) -> String {
    match link.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &link[..end]),
        None => link.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_start_at_the_folder_of_the_table() {
        let resolve = |link: &str| resolve_link(link, Path::new("/data/set")).map(|path| path.display().to_string());
        assert_eq!(resolve("rel/0.png"), Ok("/data/set/rel/0.png".to_owned()));
        assert_eq!(resolve("/abs/0.png"), Ok("/abs/0.png".to_owned()));
        assert_eq!(resolve("file:///abs/0 1.png"), Ok("/abs/0 1.png".to_owned()));
        assert_eq!(resolve("file://localhost/abs/0.png"), Ok("/abs/0.png".to_owned()));
        for url in ["http://a/0.png", "hf://datasets/a/b@main/0.png", "data:image/png;base64,AA", "zip://0.png::x.zip"]
        {
            let rejection = resolve(url).expect_err("a URL");
            assert_eq!(rejection.reason, "url");
            assert!(rejection.detail.starts_with(url), "{}", rejection.detail);
        }
        assert!(resolve("a b://0.png").is_ok());
    }

    #[test]
    fn long_paths_are_shortened_in_messages() {
        let rejection = reject_link(&"ü".repeat(5000), "there is no such file");
        assert!(rejection.detail.chars().count() < 300, "{}", rejection.detail);
    }
}
