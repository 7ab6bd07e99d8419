//! The release binaries among the tools that people know: iperf3 through `l2fwd`, tcpdump and
//! tcpreplay and ffmpeg into `gpurx`. All traffic is in network namespaces of each test's own.
//!
//! Needs root and the tools, and says SKIP otherwise; needs `cargo build --release --bins` before,
//! and fails otherwise. `MEMWIRE_BIN_DIR` names another folder with the binaries.

mod capture;
mod dgram;
mod forward;
mod idle;
mod lab;
mod operator;
mod pktgen;
mod process;
mod receive;
mod star;
mod switch;
