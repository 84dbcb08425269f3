//! The data directory as commands and starts find it: the store, the base checkpoint, and one for the other.

use std::sync::Arc;

use super::{AppError, STORE, store_path};
use crate::config::Config;
use crate::env::{Disk, OsDisk};
use crate::journal::look::segments;
use crate::model::Seq;
use crate::store::{Base, Bases, RocksStore, Store};

/// Every store has this file from its creation on.
const CURRENT: &str = "CURRENT";

/// A directory that is looked at; a daemon may be running on it.
pub struct Directory {
    pub disk: OsDisk,
    pub base: Option<Base>,
    config: Config,
}

impl Directory {
    /// The store as it was last persisted.
    pub fn store(&self) -> Result<Arc<dyn Store>, AppError> {
        Ok(Arc::new(RocksStore::open_read_only(&store_path(&self.config))?))
    }
}

/// Opens a directory to look at it. Takes no lock and changes nothing.
pub fn look(config: &Config) -> Result<Directory, AppError> {
    let base = Bases::new(&config.data_dir).newest()?;
    Ok(Directory { disk: OsDisk::new(&config.data_dir), base, config: config.clone() })
}

/// The newest base checkpoint, to be read.
pub fn open_base(config: &Config) -> Result<Option<Arc<dyn Store>>, AppError> {
    let base = Bases::new(&config.data_dir).newest()?;
    let open =
        |base: Base| -> Result<Arc<dyn Store>, AppError> { Ok(Arc::new(RocksStore::open_read_only(&base.path)?)) };
    base.map(open).transpose()
}

/// A store that was removed is folded again from the journal; where the journal has lost its beginning to retention, on
/// top of the base checkpoint, which takes the store's place first.
pub fn restore_lost_store(config: &Config, disk: &dyn Disk) -> Result<(), AppError> {
    if store_path(config).join(CURRENT).exists() {
        return Ok(());
    }
    let bases = Bases::new(&config.data_dir);
    let oldest = segments(disk).unwrap_or_default().first().map(|oldest| oldest.first_seq);
    let Some(base) = bases.newest()?.filter(|_| oldest.is_some_and(|oldest| oldest > Seq(1))) else { return Ok(()) };
    let position = base.position.0;
    tracing::warn!(position, "there is no store: it is made again from the base checkpoint and the journal behind it");
    Ok(bases.restore(&base, STORE)?)
}
