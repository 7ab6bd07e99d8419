//! Writes frames of the flow into a capture file: the head, and the payload read back from where it
//! lies.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use mempool::{Device, DeviceView, Frame, Offload, SplitBurst, SplitCache};
use memwire_apps::AppError;
use pmd::pcap::{Format, Writer};

use super::Sink;
use crate::{head::HeadReader, totals::Totals};

/// `--sink pcap`.
pub struct Capture {
    heads: HeadReader,
    payload: DeviceView,
    writer: Option<Writer<File>>,
    path: PathBuf,
    frame: Vec<u8>,
    fault: Option<String>,
}

impl Capture {
    /// Creates the file.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(path: &Path, heads: HeadReader, payload: DeviceView) -> Result<Self, AppError> {
        let why = |error| AppError::missing(format!("--out {}: {error}", path.display()));
        let file = File::create(path).map_err(why)?;
        let format = match path.extension() {
            Some(extension) if extension == "pcapng" => Format::Pcapng,
            _ => Format::Pcap,
        };
        let writer = Some(Writer::new(file, format));
        let (path, frame) = (path.to_owned(), Vec::new());
        Ok(Self { heads, payload, writer, path, frame, fault: None })
    }

    /// Appends a payload of one or more segments to the frame.
    fn append(&mut self, data: Frame<'_, Device>) -> bool {
        data.segments().all(|segment| {
            let at = self.frame.len();
            self.frame.resize(at + segment.len(), 0);
            self.payload.read(segment, &mut self.frame[at..]).is_ok()
        })
    }

    fn failed(&mut self, why: impl std::fmt::Display) {
        self.fault.get_or_insert_with(|| format!("--out {}: {why}", self.path.display()));
    }
}

impl Sink for Capture {
    fn burst(
        &mut self,
        burst: &mut SplitBurst,
        cache: &mut SplitCache,
        _now: u64,
        totals: &mut Totals,
    ) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        for frame in burst.iter() {
            if self.heads.payload(frame.head).is_none() {
                totals.foreign += 1;
                continue;
            }
            self.frame.clear();
            self.frame.extend(frame.head.bytes());
            let head = self.frame.len();
            if frame.data.is_some_and(|data| !self.append(data)) {
                totals.bad += 1;
            }
            totals.touched += (self.frame.len() - head) as u64;
            totals.rows += 1;
            let meta = frame.head.meta();
            let stamped = meta.offload().has(Offload::RX_TIMESTAMP);
            let at = if stamped { meta.timestamp() } else { now };
            let written = self.writer.as_mut().map(|writer| writer.write(at, &self.frame));
            if let Some(Err(error)) = written {
                self.failed(error);
            }
        }
        burst.recycle(cache);
    }

    fn finish(&mut self, _totals: &mut Totals) {
        if let Some(Err(error)) = self.writer.take().map(Writer::finish) {
            self.failed(error);
        }
    }

    fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }
}
