//! One conformance suite for every driver, against a reference `VecDeque` port.
