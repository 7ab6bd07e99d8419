//! Metadata that is written to many slots of a burst, with only the length differing: whole words that stay in
//! registers, where the compiler takes a [`Meta`] apart and writes it field by field.
#![allow(
    unsafe_code,
    reason = "takes metadata as words, and writes them to slots that the caller owns"
)]

use std::{
    mem::{self, offset_of},
    ptr::NonNull,
};

use crate::meta::{Meta, leaves};

/// Metadata as its words, and the longest payload it may state.
#[derive(Clone, Copy)]
pub(crate) struct Template {
    words: [u64; WORDS],
    /// A part of the first word, which is written in parts where the length differs.
    next: u32,
    longest: usize,
}

const WORDS: usize = size_of::<Meta>() / 8;
// The first word is the end of a chain, and the length.
const _: () = assert!(offset_of!(Meta, next) == 0 && offset_of!(Meta, len) == 4);

impl Template {
    /// Of metadata for slots of `stride` bytes.
    #[inline(always)]
    pub(crate) fn new(meta: Meta, stride: usize) -> Self {
        let (next, longest) = (meta.next, meta.longest(stride));
        // SAFETY: integers without padding, whatever they are.
        let words = unsafe { mem::transmute::<Meta, [u64; WORDS]>(meta) };
        Self { words, next, longest }
    }

    /// Writes it to a slot.
    ///
    /// # Safety
    /// `at` is the metadata of a slot that the caller owns.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, at: NonNull<Meta>) {
        // SAFETY: the caller's slot; metadata has the alignment of words, and more.
        let at = unsafe { at.cast::<[u64; WORDS]>().as_mut() };
        // Not the array at once: that is written as the fields that it was made of.
        [at[0], at[1], at[2], at[3]] = self.words;
    }

    /// Writes it to a slot, with a payload of `len` bytes.
    ///
    /// # Panics
    /// If the slot has no room for it.
    ///
    /// # Safety
    /// As for [`Template::write`].
    #[inline(always)]
    pub(crate) unsafe fn write_with(&self, at: NonNull<Meta>, len: usize) {
        if len > self.longest {
            leaves(len, self.longest);
        }
        // SAFETY: the caller's slot, which nobody else refers to.
        let meta = unsafe { &mut *at.as_ptr() };
        #[expect(clippy::cast_possible_truncation, reason = "at most the stride, 2^30")]
        let len = len as u32;
        (meta.next, meta.len) = (self.next, len);
        // SAFETY: as above; `meta` is not used any more.
        let at = unsafe { at.cast::<[u64; WORDS]>().as_mut() };
        [_, at[1], at[2], at[3]] = self.words;
    }
}
