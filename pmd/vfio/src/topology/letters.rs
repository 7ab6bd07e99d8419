//! How near two functions are, in the letters of `nvidia-smi topo`: the words that people who place NICs
//! beside GPUs have.

/// How near.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Letters {
    /// The same function.
    X,
    /// At most one switch between.
    Pix,
    /// Several switches, no host bridge.
    Pxb,
    /// One host bridge.
    Phb,
    /// Two host bridges of a NUMA node.
    Node,
    /// Two NUMA nodes, or nobody knows.
    Sys,
}

impl Letters {
    /// The letters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X => "X",
            Self::Pix => "PIX",
            Self::Pxb => "PXB",
            Self::Phb => "PHB",
            Self::Node => "NODE",
            Self::Sys => "SYS",
        }
    }

    /// What they stand for.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::X => "the same function",
            Self::Pix => "at most one switch between",
            Self::Pxb => "several switches between, no host bridge",
            Self::Phb => "across a host bridge",
            Self::Node => "across two host bridges of a NUMA node",
            Self::Sys => "across NUMA nodes",
        }
    }

    /// By ports counted to a common bridge, or by host bridges and NUMA nodes.
    pub(super) fn of(
        common_at: Option<u32>,
        same_host_bridge: bool,
        nodes: [Option<u32>; 2],
        is_one_node: bool,
    ) -> Self {
        match (common_at, nodes) {
            (Some(0), _) => Self::X,
            // Two ports up to the switch, two down.
            (Some(..=4), _) => Self::Pix,
            (Some(_), _) => Self::Pxb,
            (None, _) if same_host_bridge => Self::Phb,
            (None, [Some(one), Some(other)]) if one == other => Self::Node,
            (None, [Some(_), Some(_)]) => Self::Sys,
            (None, _) if is_one_node => Self::Node,
            (None, _) => Self::Sys,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_follow_bridges_then_host_bridges_then_nodes() {
        for (common_at, same, nodes, one_node, letters) in [
            (Some(0), true, [None; 2], true, "X"),
            (Some(2), true, [None; 2], true, "PIX"),
            (Some(4), true, [None; 2], true, "PIX"),
            (Some(6), true, [Some(0), Some(0)], true, "PXB"),
            (None, true, [Some(0), Some(1)], false, "PHB"),
            (None, false, [Some(1), Some(1)], false, "NODE"),
            (None, false, [Some(0), Some(1)], false, "SYS"),
            (None, false, [None, Some(1)], false, "SYS"),
            (None, false, [None, None], true, "NODE"),
        ] {
            let found = Letters::of(common_at, same, nodes, one_node);
            assert_eq!(found.name(), letters, "{common_at:?} {same} {nodes:?} {one_node}");
        }
    }
}
