//! A NIC that splits frames, as a library to be laid before libdpdk (`LD_PRELOAD`).

use std::{
    env,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The library, compiled.
pub(crate) fn library() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let flags = Command::new("pkg-config").args(["--cflags", "libdpdk"]).output().unwrap();
        let flags = String::from_utf8(flags.stdout).unwrap();
        let out = env::current_exe().unwrap().with_file_name("libmemwire_split_model.so");
        // Under a name of its own first: other tests compile it at the same time.
        let fresh = out.with_extension(std::process::id().to_string());
        let mut compiler = Command::new("cc")
            .args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"])
            .args(flags.split_whitespace())
            .args(["-x", "c", "-", "-ldl", "-lpthread", "-o"])
            .arg(&fresh)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let source = include_bytes!("buffer_split.c");
        compiler.stdin.take().unwrap().write_all(source).unwrap();
        assert!(compiler.wait().unwrap().success(), "the model does not compile");
        std::fs::rename(&fresh, &out).unwrap();
        out
    })
}
