//! What a driver finds when it looks around: the ports it could open here, and why not. Knows no
//! driver.

use crate::{Capabilities, Link};

/// A port that is here, as its driver sees it. Nothing was opened to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The spec that would open it.
    pub port: String,
    /// Station address; all zero where there is none.
    pub mac: [u8; 6],
    /// What moves its frames below this driver: the kernel's driver, or empty.
    pub below: String,
    /// Address of its hardware on the bus, or empty.
    pub bus: String,
    /// NUMA node of its hardware, if known.
    pub numa_node: Option<u32>,
    /// Its link now.
    pub link: Link,
    /// What it could do.
    pub capabilities: Capabilities,
    /// Why it cannot be opened here and what would help; none if it can.
    pub trouble: Option<String>,
}
