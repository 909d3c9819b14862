//! Files that appear whole or not at all.

use std::io::Write;
use std::path::Path;

use crate::diag::Diagnostic;

/// Writes a file beside its place and moves it there.
///
/// # Errors
/// The folder cannot be written to, or the disk is full; an older file is untouched then.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Diagnostic> {
    let failed =
        |e: std::io::Error| Diagnostic::new("CK0901", format!("cannot write: {e}")).in_file(path.display().to_string());
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".ckc-")
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}
