//! `logits`: every row to a safetensors file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::args::{Flag, numbers};
use super::{CHECK, Call, Failure, THREADS, WEIGHTS};
use crate::error::Error;
use crate::program::Program;

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("--ids", "LIST", "token ids: 1,2,3"),
    Flag::value("--out", "F", "the file, written beside and renamed"),
    Flag::value(
        "--decode-from",
        "K",
        "ids K.. (from 0) go one by one; 0: all of them [default: none]",
    ),
    Flag::value(
        "--prefill-chunks",
        "LIST",
        "the ids before K go in calls of these sizes, which sum to K [default: one call]",
    ),
    THREADS,
    WEIGHTS,
    CHECK,
];

pub(super) fn run<P: Program>(call: &mut Call<'_>) -> Result<(), Failure> {
    let args = call.args;
    let ids = args
        .text("--ids")?
        .ok_or_else(|| Failure::usage("`logits` needs --ids 1,2,3"))?;
    let ids = token_ids(ids, P::LAYOUT.vocab)?;
    let out = args
        .raw("--out")
        .ok_or_else(|| Failure::usage("`logits` needs --out FILE"))?;
    let decode_from = args.number("--decode-from")?.unwrap_or(ids.len());
    if decode_from > ids.len() {
        return Err(Failure::usage(format!(
            "`--decode-from {decode_from}`: there are {} ids",
            ids.len()
        )));
    }
    let chunks = args.numbers("--prefill-chunks")?.unwrap_or_else(|| vec![decode_from]);
    if chunks.iter().try_fold(0usize, |sum, &n| sum.checked_add(n)) != Some(decode_from) {
        return Err(Failure::usage(format!(
            "--prefill-chunks must sum to {decode_from}, the ids that are not decoded"
        )));
    }
    if args.has("--prefill-chunks") && chunks.contains(&0) {
        return Err(Failure::usage("--prefill-chunks: a chunk has at least one id"));
    }

    let mut runner = call.open::<P>()?;
    runner.check(&ids)?;
    let mut file = Rows::create(Path::new(out), ids.len(), runner.layout().vocab)?;
    let (prompt, rest) = ids.split_at(decode_from);
    let mut prompt = prompt;
    for n in chunks.into_iter().filter(|&n| n > 0) {
        let (chunk, more) = prompt.split_at(n);
        let mut written = Ok(());
        runner.prefill_each(chunk, |_, logits| {
            if written.is_ok() {
                written = file.row(logits);
            }
        })?;
        written?;
        prompt = more;
    }
    for &id in rest {
        file.row(runner.decode(id)?)?;
    }
    Ok(file.finish()?)
}

/// Reads `1,2,3`. A whole number that no id can be is one out of range, not a slip of the command line.
fn token_ids(list: &str, vocab: usize) -> Result<Vec<u32>, Failure> {
    let whole = |item: &str| {
        let digits = item.strip_prefix('-').unwrap_or(item);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let items = list.split(',').map(str::trim).enumerate();
    let beyond = items
        .clone()
        .find(|(_, item)| whole(item) && item.parse::<u32>().is_err());
    match beyond {
        Some((index, id)) if items.clone().all(|(_, item)| whole(item)) => Err(Failure::run(format!(
            "token id {id} at index {index} is out of range: ids are 0 to {}",
            vocab - 1
        ))),
        _ => numbers("--ids", list),
    }
}

/// A safetensors file with one f32 matrix `logits`, written row by row under another name, which disappears with this
/// unless it is finished. A device or a pipe is written to as it is: it must not be replaced by a file.
struct Rows {
    path: PathBuf,
    temporary: Option<PathBuf>,
    out: BufWriter<File>,
}

impl Rows {
    fn create(path: &Path, rows: usize, cols: usize) -> Result<Rows, Error> {
        let fail = |source| Error::Io {
            action: "write",
            path: path.into(),
            source,
        };
        if path.is_dir() {
            return Err(fail(io::ErrorKind::IsADirectory.into()));
        }
        // What a link names is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let (temporary, out) = if path.exists() && !path.is_file() {
            (None, File::options().write(true).open(&path).map_err(fail)?)
        } else {
            let name = path.file_name();
            let mut name = name
                .ok_or_else(|| fail(io::ErrorKind::InvalidFilename.into()))?
                .to_os_string();
            name.push(format!(".{}.part", std::process::id()));
            let temporary = path.with_file_name(name);
            let out = File::create_new(&temporary).map_err(fail)?;
            (Some(temporary), out)
        };
        let out = BufWriter::new(out);
        let mut file = Rows { path, temporary, out };
        file.out.write_all(&header(rows, cols)).map_err(fail)?;
        Ok(file)
    }

    fn row(&mut self, logits: &[f32]) -> Result<(), Error> {
        logits
            .iter()
            .try_for_each(|x| self.out.write_all(&x.to_le_bytes()))
            .map_err(|source| self.fail(source))
    }

    fn finish(mut self) -> Result<(), Error> {
        let flushed = self.out.flush();
        let done = flushed.and_then(|()| {
            self.temporary
                .as_ref()
                .map_or(Ok(()), |from| fs::rename(from, &self.path))
        });
        done.map_err(|source| self.fail(source))
    }

    fn fail(&self, source: io::Error) -> Error {
        Error::Io {
            action: "write",
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        // Nothing to remove after `finish`; and nothing to do about a file that stays.
        let _ = self.temporary.as_ref().map(fs::remove_file);
    }
}

/// Length and JSON of the safetensors header, padded with spaces to a multiple of 8.
fn header(rows: usize, cols: usize) -> Vec<u8> {
    let bytes = rows * cols * 4;
    let mut json = format!(r#"{{"logits":{{"dtype":"F32","shape":[{rows},{cols}],"data_offsets":[0,{bytes}]}}}}"#);
    while json.len() % 8 != 0 {
        json.push(' ');
    }
    let mut out = (json.len() as u64).to_le_bytes().to_vec();
    out.extend(json.into_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_what_safetensors_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.safetensors");
        let mut file = Rows::create(&path, 2, 3).unwrap();
        file.row(&[1.0, -2.5, 0.0]).unwrap();
        assert!(!path.exists());
        file.row(&[f32::MAX, 0.1, -0.0]).unwrap();
        file.finish().unwrap();
        let bytes = fs::read(&path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let logits = tensors.tensor("logits").unwrap();
        assert_eq!(logits.shape(), [2, 3]);
        assert_eq!(logits.dtype(), safetensors::Dtype::F32);
        let values: Vec<f32> = logits
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        assert_eq!(values, [1.0, -2.5, 0.0, f32::MAX, 0.1, -0.0]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_unfinished_file_disappears_and_the_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.safetensors");
        fs::write(&path, "old").unwrap();
        let mut file = Rows::create(&path, 2, 3).unwrap();
        file.row(&[1.0, 2.0, 3.0]).unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(Rows::create(dir.path(), 1, 1).is_err());
        assert!(Rows::create(&dir.path().join("no/such/folder"), 1, 1).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_links_stay_what_they_are() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let [target, link, device] = ["target", "link", "device"].map(|name| dir.path().join(name));
        symlink("target", &link).unwrap();
        fs::write(&target, "old").unwrap();
        symlink("/dev/null", &device).unwrap();
        for path in [&link, &device] {
            let mut file = Rows::create(path, 1, 1).unwrap();
            file.row(&[1.0]).unwrap();
            file.finish().unwrap();
            assert!(path.is_symlink());
        }
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        assert!(fs::read(&target).unwrap().ends_with(&1f32.to_le_bytes()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn ids_beyond_any_vocabulary_are_ids_out_of_range() {
        assert_eq!(token_ids("0, 1,4294967295", 2).unwrap(), [0, 1, u32::MAX]);
        for (list, wrong) in [
            ("1,4294967296", "4294967296"),
            ("1,-1", "-1"),
            ("7,99999999999999999999", "99999999999999999999"),
        ] {
            let failure = token_ids(list, 512).unwrap_err();
            let expected = format!("token id {wrong} at index 1 is out of range: ids are 0 to 511");
            assert!(
                matches!(&failure, Failure::Run(error) if error.to_string() == expected),
                "{failure}"
            );
        }
        for list in ["", "1,,2", "1,x", "1.5"] {
            assert!(matches!(token_ids(list, 512), Err(Failure::Usage(_))), "{list}");
        }
    }
}
