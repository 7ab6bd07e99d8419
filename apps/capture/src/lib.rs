//! Writes what ports receive to capture files.
