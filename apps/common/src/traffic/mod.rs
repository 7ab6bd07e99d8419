//! Test traffic: frames of any headers that carry the *memwire test header*, and a source that sends
//! them. The one way in which the apps make frames.
//!
//! Who receives them needs nothing but the frame: the sequence number says what is missing, the
//! checksum what is damaged, the timestamp how late it is.

pub mod checksum;
mod clock;
mod distribution;
mod flows;
mod generator;
mod header;
mod pace;
mod plan;
mod random;
mod shape;
mod sizes;
mod source;
mod template;

pub use clock::Clock;
pub use distribution::Distribution;
pub use flows::{AddrRange, FlowError, FlowKey, Flows, MAX_FLOWS, PortRange};
pub use generator::Generator;
pub use header::{HeaderForm, MAGIC, SHORT_MAGIC, Stamp, TestHeader};
pub use pace::Pacer;
pub use plan::{Made, Traffic};
pub use random::Random;
pub use sizes::Sizes;
pub use source::{Sent, Source, SourceEnd, SourceOptions};
pub use template::{AppHeader, HeaderChoice, Template, TemplateError, Transport};
