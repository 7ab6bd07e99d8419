//! The `pcap` driver against captures that were built by hand, and against other people's tools.

mod broken;
mod captures;
mod formats;
mod port;
mod rig;
mod sections;
mod streams;
mod tools;
mod writing;
