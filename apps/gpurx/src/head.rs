//! What a frame's head says: whether it is of the flow, and which row it is.

use mempool::{Cpu, Frame, Offload};

use crate::{
    flow::Flow,
    seq::{SeqField, Unwrap},
};

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// It is a row.
    Row {
        /// Its number.
        seq: u64,
        /// CRC32C of its payload, if the head states one.
        crc: Option<u32>,
    },
    /// It is of another flow.
    Foreign,
    /// It is of the flow, and its header is not valid.
    Invalid,
}

/// Reads heads of one stream.
#[derive(Clone, Debug)]
pub struct HeadReader {
    flow: Flow,
    seq: SeqField,
    unwrap: Unwrap,
    /// Where every payload starts, if frames are cut whatever their headers are.
    cut_at: Option<usize>,
}

impl HeadReader {
    /// For frames of `flow` that are numbered by `seq`.
    #[must_use]
    pub fn new(flow: Flow, seq: SeqField) -> Self {
        Self { flow, seq, unwrap: Unwrap::new(seq.bits()), cut_at: None }
    }

    /// The same for frames that are cut as if every payload started there: others are invalid.
    #[must_use]
    pub fn cut_at(self, payload: Option<usize>) -> Self {
        Self { cut_at: payload, ..self }
    }

    /// Where the UDP payload starts, if the frame is of the flow.
    #[inline]
    #[must_use]
    pub fn payload(&self, head: Frame<'_, Cpu>) -> Option<usize> {
        let meta = head.meta();
        let stripped = meta.offload().has(Offload::RX_VLAN_STRIPPED).then_some(meta.vlan());
        self.flow.payload(head.bytes(), stripped)
    }

    /// Reads one head. Call it once per frame, in order of arrival: short counters grow by it.
    #[inline]
    pub fn read(&mut self, head: Frame<'_, Cpu>) -> Head {
        let Some(payload) = self.payload(head) else { return Head::Foreign };
        if self.cut_at.is_some_and(|cut_at| cut_at != payload) {
            return Head::Invalid;
        }
        match self.seq.find(head.bytes(), payload) {
            Some(reading) => Head::Row { seq: self.unwrap.extend(reading.value), crc: reading.crc },
            None => Head::Invalid,
        }
    }
}
