//! What is said where libdpdk is not installed: the build script of the bindings, run as cargo runs it.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Output},
};

/// The build scripts of `dpdk-sys` that cargo has built beside this test.
fn build_scripts() -> Vec<PathBuf> {
    let test = env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap().join("build");
    let is_it = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("dpdk-sys-"))
    };
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(is_it);
    folders.map(|folder| folder.join("build-script-build")).filter(|path| path.is_file()).collect()
}

#[test]
fn without_libdpdk_the_build_says_what_to_install() {
    let out = tempfile::tempdir().unwrap();
    let run = |script: PathBuf| -> Output {
        Command::new(script)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/dpdk-sys"))
            .env("OUT_DIR", out.path())
            .env("PKG_CONFIG_LIBDIR", "/nonexistent")
            .env_remove("PKG_CONFIG_PATH")
            .env("TARGET", "x86_64-unknown-linux-gnu")
            .env("HOST", "x86_64-unknown-linux-gnu")
            .output()
            .unwrap()
    };
    // Some were built without the feature: they need nothing, and refuse nothing.
    let refused: Vec<Output> =
        build_scripts().into_iter().map(run).filter(|output| !output.status.success()).collect();
    assert!(!refused.is_empty(), "no build script with the feature, or it found a libdpdk");
    for output in refused {
        let text = String::from_utf8_lossy(&output.stdout);
        let said = text.lines().find_map(|line| line.strip_prefix("cargo:warning=")).unwrap_or("");
        let start = "dpdk-sys: the feature 'dpdk' needs libdpdk 22.11 or newer, which is not here";
        assert!(said.starts_with(start), "{text}");
        let end = "apt-get install libdpdk-dev), or build without the feature";
        assert!(said.ends_with(end), "{said}");
    }
}
