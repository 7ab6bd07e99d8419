//! Frames of each size, made once: everything but addresses, ports and what changes from frame to
//! frame. Behind the headers all sizes share the same bytes, so that a buffer changes its size by a
//! copy of its head alone.

use zerocopy::IntoBytes;

use super::{HeaderForm, Template, TemplateError, TestHeader, checksum, random::Random};

/// A frame of one size.
pub(super) struct Shape {
    /// Bytes of the frame, without FCS.
    pub(super) len: usize,
    pub(super) form: HeaderForm,
    /// Sum of the IPv4 header without addresses and checksum.
    pub(super) ip_sum: u64,
    /// Sum of what the transport checksum covers, without addresses, ports and what changes.
    pub(super) l4_sum: u64,
}

/// The frames of all sizes of a template.
pub(super) struct Shapes {
    list: Vec<Shape>,
    heads: Vec<u8>,
    stride: usize,
    /// What buffers hold from the start on, where no header stands.
    bytes: Vec<u8>,
}

impl Shapes {
    pub(super) fn new(
        template: &Template,
        sizes: &[usize],
        seed: u64,
    ) -> Result<Self, TemplateError> {
        let longest = sizes.iter().copied().max().unwrap_or(0);
        let mut bytes = vec![0; longest];
        Random::new(seed).fill(&mut bytes);
        let stride = (template.test_at() + TestHeader::LEN).min(longest);
        let mut shapes =
            Self { list: Vec::with_capacity(sizes.len()), heads: Vec::new(), stride, bytes };
        for size in sizes {
            shapes.push(template, *size)?;
        }
        Ok(shapes)
    }

    fn push(&mut self, template: &Template, size: usize) -> Result<(), TemplateError> {
        let template =
            Template { payload_len: size.saturating_sub(template.payload_at()), ..*template };
        let mut frame = template.headers()?;
        frame.extend(template.app_header());
        let form = template.form();
        let payload_at = template.test_at() + form.len();
        let payload = &self.bytes[payload_at..size];
        if let Some(magic) = form.magic() {
            let header = TestHeader::new(0, 0, payload);
            frame.extend(magic.to_be_bytes());
            frame.extend(&header.as_bytes()[size_of::<u32>()..form.len()]);
        }
        let (ip, l4) = (template.ip_at(), template.udp_at());
        let pseudo = u64::from(template.protocol()) + (size - l4) as u64;
        let mut still = frame.clone();
        // Source and destination port, at the same place in both transports.
        still[l4..l4 + 4].fill(0);
        let l4_sum = checksum::add(checksum::add(pseudo, &still[l4..]), payload);
        let ip_sum = checksum::add(0, &still[ip..ip + 10]);
        frame.extend(payload);
        frame.resize(frame.len().max(self.stride), 0);
        self.heads.extend(&frame[..self.stride]);
        self.list.push(Shape { len: size, form, ip_sum, l4_sum });
        Ok(())
    }

    #[inline(always)]
    pub(super) fn get(&self, index: u32) -> &Shape {
        &self.list[index as usize]
    }

    pub(super) fn last(&self) -> Option<&Shape> {
        self.list.last()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Where a shape's payload differs from the buffer's: its headers.
    #[inline]
    pub(super) fn head(&self, index: u32) -> &[u8] {
        let at = index as usize * self.stride;
        &self.heads[at..at + self.stride.min(self.get(index).len)]
    }

    /// Writes what all sizes share into a buffer.
    pub(super) fn fill(&self, buffer: &mut [u8]) {
        let len = buffer.len().min(self.bytes.len());
        buffer[..len].copy_from_slice(&self.bytes[..len]);
    }

    /// Bytes of the longest frame.
    pub(super) fn longest(&self) -> usize {
        self.bytes.len()
    }
}
