//! Files and folders that appear whole or not at all, also when the process is interrupted.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use crate::codes;
use crate::diag::Diagnostic;

/// Exit code of an interrupted process: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

/// What an interruption removes: a file or folder, and the folders it was made in, innermost first, if they are empty.
static PENDING: Mutex<Vec<(PathBuf, Vec<PathBuf>)>> = Mutex::new(Vec::new());

/// Held while something is made and becomes [`Pending`], or is moved into place: an interruption comes before or after,
/// never in between.
static MOVING: Mutex<()> = Mutex::new(());

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn uninterrupted() -> MutexGuard<'static, ()> {
    lock(&MOVING)
}

/// Makes Ctrl-C, SIGTERM and SIGHUP remove what is not finished and exit with 130. For a program, not for a library.
///
/// # Errors
/// The operating system refuses, or somebody else handles the signals already.
pub fn clean_up_on_interrupt() -> Result<(), ctrlc::Error> {
    let set = ctrlc::try_set_handler(|| {
        let _moved = lock(&MOVING);
        let pending = lock(&PENDING);
        for (path, made) in pending.iter() {
            // The other thread may be writing a file into the folder that is being emptied.
            for _ in 0..8 {
                let removed = std::fs::remove_dir_all(path).or_else(|_| std::fs::remove_file(path));
                if removed.is_ok() || !path.exists() {
                    break;
                }
            }
            remove_empty(made);
        }
        // The locks are kept: whoever fails because its folder is gone waits in `drop`, and the exit code is ours.
        std::process::exit(INTERRUPTED)
    });
    match set {
        // Whoever started this process has the signal ignored: then it does not interrupt.
        Err(ctrlc::Error::MultipleHandlers) => Ok(()),
        other => other,
    }
}

/// A temporary file or folder that an interruption removes. Dropping it only ends that; whoever made it removes it.
#[derive(Debug)]
pub struct Pending(PathBuf);

impl Pending {
    /// From now on an interruption removes `path`, and the folders `made` for it, innermost first, if they are empty then.
    /// Whoever made it has been uninterrupted since.
    fn new(path: &Path, made: &[PathBuf]) -> Pending {
        lock(&PENDING).push((path.to_path_buf(), made.to_vec()));
        Pending(path.to_path_buf())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        lock(&PENDING).retain(|(path, _)| *path != self.0);
    }
}

/// A temporary file in a folder, which is removed when it is dropped or the process interrupted.
///
/// # Errors
/// The folder cannot be written to.
pub fn unfinished(folder: &Path) -> io::Result<(NamedTempFile, Pending)> {
    let _uninterrupted = uninterrupted();
    let file = temporary()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    let pending = Pending::new(file.path(), &[]);
    Ok((file, pending))
}

/// A folder being written beside its place. Dropping it removes it, and the parents that were made for it.
#[derive(Debug)]
pub struct Stage {
    path: PathBuf,
    /// Innermost first.
    made: Vec<PathBuf>,
    _pending: Pending,
}

impl Stage {
    /// An empty folder beside `out`, whose parents are created.
    ///
    /// # Errors
    /// Some parent is not a folder, or cannot be written to.
    pub fn beside(out: &Path) -> io::Result<Stage> {
        let parent = parent(out);
        let missing = |p: &&Path| !p.as_os_str().is_empty() && !p.exists();
        let made: Vec<PathBuf> = parent.ancestors().take_while(missing).map(Path::to_path_buf).collect();
        let _uninterrupted = uninterrupted();
        std::fs::create_dir_all(parent)?;
        let folder = temporary()
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(parent)?;
        let path = folder.keep();
        Ok(Stage {
            _pending: Pending::new(&path, &made),
            made,
            path,
        })
    }

    /// The folder to write to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file below the folder, and the folders it lies in.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(&self, relative: &str, text: &str) -> io::Result<()> {
        let path = self.path.join(relative);
        // Else the folder could come again behind an interruption that removed it.
        let _uninterrupted = uninterrupted();
        std::fs::create_dir_all(parent(&path))?;
        std::fs::write(path, text)
    }

    /// Moves the folder to `out` if there is none yet, else the files in `names` one by one.
    ///
    /// # Errors
    /// `out` cannot be written to.
    pub fn install<'a>(self, out: &Path, names: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let _uninterrupted = uninterrupted();
        if !out.exists() {
            return std::fs::rename(&self.path, out);
        }
        for name in names {
            let target = out.join(name);
            std::fs::create_dir_all(parent(&target))?;
            std::fs::rename(self.path.join(name), target)?;
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Already gone when it was moved; a parent with something in it stays.
        let _ = std::fs::remove_dir_all(&self.path);
        remove_empty(&self.made);
    }
}

/// Removes those of the folders that hold nothing.
fn remove_empty(folders: &[PathBuf]) {
    for folder in folders {
        let _ = std::fs::remove_dir(folder);
    }
}

/// A file that is written beside its place and moved there when it is whole. Dropping it removes it.
///
/// A device or a pipe is written to as it is: it must not be replaced by a file; and what a link names is replaced, not
/// the link.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Device(File),
    File(NamedTempFile, Pending),
}

impl Draft {
    /// A file for that place, empty and not in it yet.
    ///
    /// # Errors
    /// The folder or the device cannot be written to, or the place is a folder's.
    pub fn of(path: &Path) -> Result<Draft, Diagnostic> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        match Place::of(&path) {
            Ok(place) => Ok(Draft { path, place }),
            Err(e) => Err(unwritable(&path, &e)),
        }
    }

    /// Writes all of it and moves it into its place.
    ///
    /// # Errors
    /// The disk is full; an older file is untouched then.
    pub fn finish(self, bytes: &[u8]) -> Result<(), Diagnostic> {
        let done = match self.place {
            Place::Device(mut device) => device.write_all(bytes),
            Place::File(mut file, _pending) => file.write_all(bytes).and_then(|()| {
                let _uninterrupted = uninterrupted();
                file.persist(&self.path).map(drop).map_err(|e| e.error)
            }),
        };
        done.map_err(|e| unwritable(&self.path, &e))
    }
}

impl Place {
    fn of(path: &Path) -> io::Result<Place> {
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if path.exists() && !path.is_file() {
            return Ok(Place::Device(File::options().write(true).open(path)?));
        }
        let (file, pending) = unfinished(parent(path))?;
        Ok(Place::File(file, pending))
    }
}

fn unwritable(path: &Path, e: &io::Error) -> Diagnostic {
    Diagnostic::new(codes::UNWRITABLE, format!("cannot write: {e}")).in_file(path.display().to_string())
}

/// Writes a file as a [`Draft`] that is finished at once.
///
/// # Errors
/// Those of [`Draft`].
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Diagnostic> {
    Draft::of(path)?.finish(bytes)
}

/// Temporary names start alike, so that one that a power failure left behind is recognised.
fn temporary() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".ckc-");
    builder
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_links_stay_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let [target, link, device] = ["target", "link", "device"].map(|name| dir.path().join(name));
        std::fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink("target", &link).unwrap();
        std::os::unix::fs::symlink("/dev/full", &device).unwrap();
        write_file(&link, b"new").unwrap();
        assert!(write_file(&device, b"new").is_err());
        assert!(link.is_symlink() && device.is_symlink() && !Path::new("/dev/full").is_file());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
