//! Where things are: the root, the target folder, the packages and their test targets, and what
//! the machine has installed. Asks cargo; keeps no list of crates of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::child::Child;

/// How a dependency is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DependencyKind {
    /// Linked into the crate.
    Normal,
    /// Used by its tests and benches only.
    Dev,
    /// Used by its build script.
    Build,
}

/// One crate of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its folder, relative to the root.
    pub(crate) folder: PathBuf,
    pub(crate) dependencies: Vec<(String, DependencyKind)>,
    /// Names of its integration tests.
    pub(crate) tests: Vec<String>,
}

/// What cargo says about the checkout.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

impl Workspace {
    /// Asks `cargo metadata`.
    pub(crate) fn read() -> Result<Self> {
        let output = cargo(&["metadata", "--no-deps", "--format-version", "1"]).output()?;
        ensure!(output.success, "cargo metadata failed:\n{}", output.stderr);
        let metadata: Value = serde_json::from_str(&output.stdout).context("cargo metadata")?;
        Self::from_metadata(&metadata)
    }

    fn from_metadata(metadata: &Value) -> Result<Self> {
        let root = PathBuf::from(text(metadata, "workspace_root")?);
        let target = PathBuf::from(text(metadata, "target_directory")?);
        let packages = list(metadata, "packages")
            .iter()
            .map(|package| Package::from_metadata(package, &root))
            .collect::<Result<_>>()?;
        Ok(Self { root, target, packages })
    }

    /// The folder of programs that tests use and nobody installed.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// Where what the tests of a stage print is kept.
    pub(crate) fn test_log(&self, stage: &str) -> PathBuf {
        self.target.join("test-logs").join(stage).with_extension("log")
    }

    /// Where tests find programs: those first, then what there is anyway.
    pub(crate) fn search_path(&self) -> OsString {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.tools()).chain(std::env::split_paths(&path));
        // A folder with a colon in its name cannot be in the list.
        std::env::join_paths(folders).unwrap_or(path)
    }

    /// Whether any crate has an integration test of that name.
    pub(crate) fn has_test(&self, name: &str) -> bool {
        self.packages.iter().any(|package| package.tests.iter().any(|test| test == name))
    }

    /// The names of all integration tests, each once, sorted.
    pub(crate) fn test_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.packages.iter().flat_map(|package| &package.tests).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Package {
    fn from_metadata(package: &Value, root: &Path) -> Result<Self> {
        let manifest = PathBuf::from(text(package, "manifest_path")?);
        let folder = manifest.parent().unwrap_or(root);
        let dependencies = list(package, "dependencies")
            .iter()
            .map(|dependency| {
                let kind = match dependency["kind"].as_str() {
                    Some("dev") => DependencyKind::Dev,
                    Some("build") => DependencyKind::Build,
                    _ => DependencyKind::Normal,
                };
                Ok((text(dependency, "name")?, kind))
            })
            .collect::<Result<_>>()?;
        let tests = list(package, "targets")
            .iter()
            .filter(|target| list(target, "kind").iter().any(|kind| kind == "test"))
            .map(|target| text(target, "name"))
            .collect::<Result<_>>()?;
        Ok(Self {
            name: text(package, "name")?,
            folder: folder.strip_prefix(root).unwrap_or(folder).to_path_buf(),
            dependencies,
            tests,
        })
    }
}

fn text(value: &Value, key: &str) -> Result<String> {
    let text = value[key].as_str().with_context(|| format!("cargo metadata has no `{key}`"))?;
    Ok(text.to_owned())
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// What names all programs to cargo. The examples are among them because cargo gives dependencies the features
/// that tests ask for only where something may need them: otherwise everything would be built a second time for
/// the tests.
pub(crate) const PROGRAMS: [&str; 3] = ["--workspace", "--bins", "--examples"];

/// The cargo that started us, in the checkout's root.
pub(crate) fn cargo(arguments: &[&str]) -> Child {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    Child::new(&program).args(arguments).folder(source_root())
}

/// The root of the checkout that this was started from. Cargo says which at run time; what was
/// compiled in may be another checkout that shares the target folder.
fn source_root() -> PathBuf {
    let started_from = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let crate_folder = started_from.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    match crate_folder.parent() {
        Some(root) if root.join("Cargo.toml").is_file() => root.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Whether we may do what only root may.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether the command runs at all and says that it is fine; its output is thrown away.
pub(crate) fn succeeds(program: &str, arguments: &[&str]) -> bool {
    std::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether cargo has that subcommand here (clippy, fmt and deny are optional components).
pub(crate) fn has_cargo_command(name: &str) -> bool {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    succeeds(&program, &[name, "--help"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_gives_folders_dependencies_and_tests() {
        let metadata = serde_json::json!({
            "workspace_root": "/w", "target_directory": "/w/target",
            "packages": [{
                "name": "a", "manifest_path": "/w/deep/a/Cargo.toml",
                "dependencies": [{"name": "b", "kind": null}, {"name": "c", "kind": "dev"}],
                "targets": [{"name": "a", "kind": ["lib"]}, {"name": "soak", "kind": ["test"]}],
            }],
        });

        let workspace = Workspace::from_metadata(&metadata).expect("well formed");

        assert_eq!(workspace.packages[0].folder, Path::new("deep/a"));
        assert_eq!(
            workspace.packages[0].dependencies,
            [("b".to_owned(), DependencyKind::Normal), ("c".to_owned(), DependencyKind::Dev)]
        );
        assert!(workspace.has_test("soak") && !workspace.has_test("a"));
        assert_eq!(workspace.test_names(), ["soak"]);
    }

    #[test]
    fn this_checkout_is_read() {
        if !has_cargo_command("metadata") {
            eprintln!("SKIP this_checkout_is_read: this user cannot run cargo");
            return;
        }
        let workspace = Workspace::read().expect("cargo metadata works where cargo test does");
        assert!(workspace.packages.iter().any(|package| package.name == "xtask"));
    }
}
