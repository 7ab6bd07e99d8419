//! A file that is written after the run: whether it can be is known before. It appears whole or not at
//! all, unless it is no ordinary file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::AppError;

/// A file to be.
#[derive(Debug)]
pub(super) struct Target {
    flag: &'static str,
    path: PathBuf,
}

impl Target {
    /// Checks that the file `path` of `flag` can be written.
    pub(super) fn check(flag: &'static str, path: &Path) -> Result<Self, AppError> {
        let failed = |error: io::Error| {
            AppError::missing(format!("{flag} {}: {error}", path.display()))
                .hint("a file in a folder that you may write to")
        };
        if path.file_name().is_none() {
            return Err(failed(io::ErrorKind::InvalidFilename.into()));
        }
        // What a link points at is written, and the link stays.
        let target = Self { flag, path: fs::canonicalize(path).unwrap_or_else(|_| path.into()) };
        if target.is_ordinary() {
            let draft = target.draft();
            File::create(&draft).and_then(|_| fs::remove_file(&draft)).map_err(failed)?;
        } else {
            OpenOptions::new().write(true).open(&target.path).map_err(failed)?;
        }
        Ok(target)
    }

    /// Whether it is a file, or nothing yet: no device, pipe or folder.
    fn is_ordinary(&self) -> bool {
        fs::metadata(&self.path).map_or(true, |meta| meta.is_file())
    }

    /// Beside it, so that a rename is enough.
    fn draft(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.{}.part", std::process::id()))
    }

    /// Writes it.
    pub(super) fn write(&self, text: &str) -> Result<(), AppError> {
        let written = if self.is_ordinary() {
            let draft = self.draft();
            let written = fill(&draft, text).and_then(|()| fs::rename(&draft, &self.path));
            if written.is_err() {
                let _ = fs::remove_file(&draft);
            }
            written
        } else {
            fill(&self.path, text)
        };
        let (flag, path) = (self.flag, self.path.display());
        written.map_err(|error| AppError::failed(format!("{flag} {path}: {error}")))
    }
}

fn fill(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())?;
    // A full disk may say so only here.
    match file.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Exit;

    #[test]
    fn it_appears_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.svg");
        fs::write(&path, "old").unwrap();
        let target = Target::check("--plot", &path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old", "a check changes nothing");
        target.write("new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        Target::check("--plot", &link).unwrap().write("new").unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn what_cannot_be_written_is_known_before() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().join("none/out.svg"), folder.path().into(), "".into()] {
            let error = Target::check("--plot", &path).unwrap_err();
            assert_eq!(error.code(), Exit::Missing, "{error}");
            assert!(error.to_string().starts_with("--plot "), "{error}");
        }
    }

    #[test]
    fn a_full_disk_is_an_error_with_the_name() {
        let target = Target::check("--report", Path::new("/dev/full")).unwrap();
        let error = target.write("text").unwrap_err();
        assert_eq!(error.code(), Exit::Failed);
        assert!(error.to_string().contains("--report /dev/full: No space left"), "{error}");
        Target::check("--report", Path::new("/dev/null")).unwrap().write("text").unwrap();
    }
}
