//! The folder of test data that is not part of the repository.

use std::path::{Path, PathBuf};

/// The file or folder of that name under `$CKC_SHARED` (default: `../shared` beside the workspace).
///
/// Says on stderr that the test is not run when it is absent: the data is not shipped.
pub fn shared(relative: &str) -> Option<PathBuf> {
    let root = std::env::var_os("CKC_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let path = root.join(relative);
    if path.exists() {
        return Some(path);
    }
    eprintln!("not run: {} is absent", path.display());
    None
}
