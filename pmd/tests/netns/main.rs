//! The `af_packet` driver over veth pairs, in network namespaces of each test's own. Needs root and
//! `ip`; says SKIP otherwise. `MEMWIRE_FULL=1` sends ten times as much.

mod conformance;
mod lab;
mod link;
mod offload;
mod receive;
mod traffic;
