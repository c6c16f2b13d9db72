//! Image files that a table names by their paths instead of storing their bytes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::Rejection;

/// Maximum number of characters of a path in a message.
const SHOWN_CHARS: usize = 200;

/// Returns the file that a path in a table names. A relative path starts at the table's `folder`. A
/// URL with escapes, such as `file:///a/my%20image.png`, names the decoded path unless the path as
/// it is written exists.
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
    let written = folder.join(&path);
    if link.starts_with("file://") && !written.exists() {
        let decoded = unescaped(&path).map(|path| folder.join(path)).filter(|decoded| decoded.exists());
        return Ok(decoded.unwrap_or(written));
    }
    Ok(written)
}

/// Returns a path with its escapes `%XX` decoded; `None` if it has none, or an invalid one.
fn unescaped(path: &str) -> Option<PathBuf> {
    let mut parts = path.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    if bytes.len() == path.len() {
        return None;
    }
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(&part.as_bytes()[2..]);
    }
    Some(OsString::from_vec(bytes).into())
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
    fn escapes_of_a_url_are_decoded_unless_the_path_exists_as_it_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["my image ü.png", "100%25.png", "100%.png"] {
            std::fs::write(folder.path().join(name), b"").expect("written");
        }
        let base = folder.path().display();
        for (link, name) in [
            (format!("file://{base}/my%20image%20%C3%BC.png"), "my image ü.png"),
            (format!("file://localhost{base}/my%20image%20%c3%bc.png"), "my image ü.png"),
            ("file://my%20image%20ü.png".to_owned(), "my image ü.png"),
            (format!("file://{base}/100%25.png"), "100%25.png"),
            (format!("file://{base}/100%.png"), "100%.png"),
            // Neither of these exists.
            (format!("file://{base}/gone%20.png"), "gone%20.png"),
            (format!("file://{base}/gone%2.png"), "gone%2.png"),
            (format!("file://{base}/gone%+1.png"), "gone%+1.png"),
            // A path is no URL.
            ("my%20image%20ü.png".to_owned(), "my%20image%20ü.png"),
        ] {
            assert_eq!(resolve_link(&link, folder.path()), Ok(folder.path().join(name)), "{link}");
        }
    }

    #[test]
    fn long_paths_are_shortened_in_messages() {
        let rejection = reject_link(&"ü".repeat(5000), "there is no such file");
        assert!(rejection.detail.chars().count() < 300, "{}", rejection.detail);
    }
}
