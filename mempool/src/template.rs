//! Metadata that is written to many slots of a burst, with only the length differing: whole words that stay in
//! registers, where the compiler takes a [`Meta`] apart and writes it field by field.
#![allow(
    unsafe_code,
    reason = "takes metadata as words, and writes them to slots that the caller owns"
)]

use std::{mem, ptr::NonNull};

use crate::meta::{Meta, leaves};

/// Metadata as its words, and the longest payload it may state.
#[derive(Clone, Copy)]
pub(crate) struct Template {
    words: [u64; 4],
    longest: usize,
}

impl Template {
    /// Of metadata for slots of `stride` bytes.
    #[inline(always)]
    pub(crate) fn new(meta: Meta, stride: usize) -> Self {
        let longest = meta.longest(stride);
        // SAFETY: 32 bytes of integers without padding, whatever they are.
        let words = unsafe { mem::transmute::<Meta, [u64; 4]>(meta) };
        Self { words, longest }
    }

    /// Writes it to a slot.
    ///
    /// # Safety
    /// `at` is the metadata of a slot that the caller owns.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, at: NonNull<Meta>) {
        // SAFETY: the caller's slot; metadata has the alignment of words, and more.
        let at = at.cast::<[u64; 4]>().as_ptr();
        // Word by word, or the compiler writes the fields that the words were made of.
        for (place, word) in unsafe { &mut *at }.iter_mut().zip(self.words) {
            *place = word;
        }
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
        // SAFETY: the caller's promise.
        unsafe { self.write(at) };
        #[expect(clippy::cast_possible_truncation, reason = "at most the stride, 2^30")]
        let len = len as u32;
        // SAFETY: the caller's slot, which nobody else refers to.
        unsafe { &mut *at.as_ptr() }.len = len;
    }
}
