//! The built-in test traffic: UDP frames that carry the *memwire test header* at the start of their
//! payload, and a source that sends them.
//!
//! Who receives them needs nothing but the frame: the sequence number says what is missing, the
//! checksum what is damaged, the timestamp how late it is.

mod header;
mod source;
mod template;

pub use header::{MAGIC, TestHeader};
pub use source::{Sent, Source, SourceEnd, SourceOptions};
pub use template::{Template, TemplateError};
