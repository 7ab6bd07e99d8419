//! Packages of the Debian archive without installing them: an apt of our own, with the mirror that this
//! machine's apt has and the releases that we need. Root is not needed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::tool::Tool;
use crate::error::{At, Error, Result};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The archive, seen through lists of our own.
pub(super) struct Archive {
    folder: PathBuf,
    suites: BTreeSet<String>,
    is_fresh: bool,
}

/// One package as apt would install it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
}

/// The release of this machine, as `bookworm`.
pub(super) fn codename() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    line.unwrap_or("stable").trim_matches('"').to_owned()
}

impl Archive {
    /// Asks nobody yet.
    pub(super) fn new(folder: PathBuf, suites: &[&str]) -> Self {
        let suites = suites.iter().map(|suite| (*suite).to_owned()).collect();
        Self { folder, suites, is_fresh: false }
    }

    /// The packages that are missing on this machine for those to be installed, themselves included,
    /// whether or not they are installed.
    pub(super) fn missing_for(&mut self, packages: &[String]) -> Result<Vec<Package>> {
        self.refresh()?;
        let words = ["-s", "-qq", "install", "--no-install-recommends", "--reinstall"];
        let plan = self.apt_get().args(words).args(packages).run()?;
        Ok(plan.lines().filter_map(planned).collect())
    }

    /// Unpacks packages into a folder.
    pub(super) fn unpack(&mut self, packages: &[Package], to: &Path) -> Result<()> {
        self.refresh()?;
        let downloads = self.folder.join("downloads");
        // What an interrupted run left is not asked for.
        let _ = fs::remove_dir_all(&downloads);
        fs::create_dir_all(&downloads).at("make", &downloads)?;
        fs::create_dir_all(to).at("make", to)?;
        let wanted = packages.iter().map(|package| format!("{}={}", package.name, package.version));
        self.apt_get().args(["-qq", "download"]).args(wanted).folder(&downloads).run()?;
        for entry in fs::read_dir(&downloads).at("read", &downloads)?.flatten() {
            let words = ["--extract".as_ref(), entry.path().as_os_str().to_owned().as_os_str()]
                .map(ToOwned::to_owned);
            Tool::new("dpkg-deb").args(words).args([to]).run()?;
        }
        fs::remove_dir_all(&downloads).at("remove", &downloads)
    }

    /// Fetches the lists, once.
    fn refresh(&mut self) -> Result<()> {
        if self.is_fresh {
            return Ok(());
        }
        if !Path::new(KEYRING).is_file() {
            return Err(Error::Invalid(format!(
                "{KEYRING} is not there: apt-get install debian-archive-keyring"
            )));
        }
        let mirror = mirror()?;
        let folder = self.folder.display().to_string();
        for name in ["lists/partial", "cache/archives/partial"] {
            let path = self.folder.join(name);
            fs::create_dir_all(&path).at("make", &path)?;
        }
        let sources: String = self
            .suites
            .iter()
            .map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
            .collect();
        let list = self.folder.join("sources.list");
        fs::write(&list, sources).at("write", &list)?;
        // The machine's own settings, such as a proxy, are read after these.
        let conf = format!(
            "Dir::Etc::sourcelist \"{folder}/sources.list\";\n\
             Dir::Etc::sourceparts \"-\";\n\
             Dir::Etc::preferencesparts \"-\";\n\
             Dir::State::lists \"{folder}/lists\";\n\
             Dir::Cache \"{folder}/cache\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
             Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled \"false\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::Retries \"3\";\n\
             APT::Sandbox::User \"root\";\n\
             Debug::NoLocking \"true\";\n"
        );
        let file = self.folder.join("apt.conf");
        fs::write(&file, conf).at("write", &file)?;
        self.apt_get().args(["-qq", "update"]).run()?;
        self.is_fresh = true;
        Ok(())
    }

    fn apt_get(&self) -> Tool {
        Tool::new("apt-get").env("APT_CONFIG", self.folder.join("apt.conf"))
    }
}

/// Where this machine gets Debian from.
fn mirror() -> Result<String> {
    let format = "$(SITE) $(COMPONENT) $(ORIGIN)";
    let words = ["indextargets", "--format", format, "Created-By: Packages"];
    let targets = Tool::new("apt-get").args(words).run()?;
    mirror_in(&targets).ok_or_else(|| {
        Error::Invalid(
            "apt's sources name no archive of Debian's: the testbed needs one".to_owned(),
        )
    })
}

/// The origin is known once lists were fetched; until then, the archive's path tells it.
fn mirror_in(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (site, component, origin) = (words.next()?, words.next()?, words.next());
        let is_debian = match origin {
            Some(origin) => origin == "Debian",
            None => site.trim_end_matches('/').ends_with("/debian"),
        };
        let fits = component == "main" && is_debian && !site.contains("security");
        fits.then(|| site.to_owned())
    })
}

/// The package that a line of a simulated installation is about:
/// `Inst NAME [OLD] (VERSION RELEASE [ARCHITECTURE])`.
fn planned(line: &str) -> Option<Package> {
    let rest = line.strip_prefix("Inst ")?;
    let name = rest.split(' ').next()?;
    let version = rest.split_once('(')?.1.split(' ').next()?;
    Some(Package { name: name.to_owned(), version: version.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_names_and_versions() {
        let fresh = "Inst libslirp0 (4.7.0-1 Debian:12.15/oldstable [amd64])";
        let newer = "Inst seabios [1.16.2-1] (1.16.3-2~bpo12+1 Debian Backports:x [all]) []";
        let package = |name: &str, version: &str| {
            Some(Package { name: name.to_owned(), version: version.to_owned() })
        };
        assert_eq!(planned(fresh), package("libslirp0", "4.7.0-1"));
        assert_eq!(planned(newer), package("seabios", "1.16.3-2~bpo12+1"));
        assert_eq!(planned("Conf seabios (1.16.3-2~bpo12+1 Debian Backports:x [all])"), None);
    }

    #[test]
    fn the_mirror_is_the_archive_of_debian_and_not_that_of_security() {
        let targets = "http://a/other main Other\nhttp://a/debian-security main Debian\n\
                       http://a/mirror contrib Debian\nhttp://a/mirror main Debian\n";
        assert_eq!(mirror_in(targets).as_deref(), Some("http://a/mirror"));
        assert_eq!(mirror_in("http://a/debian main\n").as_deref(), Some("http://a/debian"));
        assert_eq!(mirror_in("http://a/ubuntu main Ubuntu\n"), None);
    }
}
