//! `memwire dmabuf`: memory for several processes, by a dma-buf. Makes one, hands it over, shows what one is;
//! carves no pool.

mod args;
mod export;
mod info;

use std::{io::Write, path::Path};

use memwire_apps::AppError;

use self::args::DmaBufAction;
pub(crate) use self::args::DmaBufArgs;
use crate::Failure;

pub(crate) fn run(args: &DmaBufArgs, root: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    if root != Path::new("/") {
        let message = "--root names a copy of a machine; dma-bufs are this one's";
        return Err(AppError::usage(message).into());
    }
    match &args.action {
        DmaBufAction::Export(export) => export::run(export, out),
        DmaBufAction::Info(info) => info::run(info, out),
    }
}
