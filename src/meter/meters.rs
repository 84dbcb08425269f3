//! The meters that exist, found by number, slug or event type.
//!
//! 1. Numbers have no gaps: they are the order in which meters were first recorded, from 0.
//! 2. A meter's new version keeps its number, its slug and every frozen field.
//! 3. Lookups that every event needs are one hash probe; iteration is in order of number.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::meter::calendar::{Calendar, ResolvedSchedule};
use crate::meter::definition::{Definition, DefinitionError, FrozenField};
use crate::meter::window::Windows;
use crate::meter::zone::Zone;
use crate::model::MeterId;

/// An event names the meters it feeds by a count of one byte.
pub const METERS_PER_EVENT_TYPE_MAX: usize = 255;

/// A definition in use.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Its number in the log.
    pub id: MeterId,
    /// Its newest version.
    pub definition: Definition,
    /// Its windows, ready to ask.
    pub windows: Windows,
    /// The calendar its billing periods follow, for a customer without one.
    pub billing_zone: Zone,
    /// No longer configured: its totals can be read, but nothing feeds it.
    pub retired: bool,
}

/// Every meter, by number, slug and event type.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    meters: Vec<Meter>,
    by_slug: HashMap<Box<str>, MeterId, FixedState>,
    by_event_type: HashMap<Box<str>, Vec<MeterId>, FixedState>,
}

/// Why a meter cannot be taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetersError {
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    #[error("slug {0:?} belongs to another meter")]
    SlugTaken(String),
    #[error("meter {0:?} has a new slug: a meter keeps its slug, a new one is another meter")]
    SlugChanged(String),
    #[error("{field} of meter {slug:?} cannot change: make a new slug", field = .field.as_str())]
    Frozen { slug: String, field: FrozenField },
    #[error("meter number {number} leaves a gap", number = .id.0)]
    Gap { id: MeterId },
    #[error("no more than 65,536 meters")]
    TooMany,
    #[error("more than 255 meters want event type {0:?}")]
    TooManyOfOneType(String),
}

impl Meter {
    /// Its billing periods for a customer with this schedule.
    pub fn calendar<'a>(&'a self, schedule: Option<&'a ResolvedSchedule>) -> Calendar<'a> {
        Calendar { kind: self.definition.billing_period, zone: &self.billing_zone, schedule }
    }
}

impl Meters {
    /// No meters.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number the next new meter gets.
    pub fn next_id(&self) -> Result<MeterId, MetersError> {
        u16::try_from(self.meters.len()).map(MeterId).map_err(|_| MetersError::TooMany)
    }

    /// Takes in a new meter (`id` is `next_id`) or the next version of a known one. On an error nothing has changed.
    pub fn put(&mut self, id: MeterId, definition: Definition) -> Result<(), MetersError> {
        definition.validate()?;
        let windows = definition.windows().map_err(DefinitionError::from)?;
        let billing_zone = definition.billing_zone().map_err(DefinitionError::from)?;
        match self.get(id) {
            Some(known) => check_next_version(&known.definition, &definition)?,
            None if id != self.next_id()? => return Err(MetersError::Gap { id }),
            None if self.by_slug.contains_key(definition.slug.as_str()) => {
                return Err(MetersError::SlugTaken(definition.slug));
            }
            None => {}
        }
        let feeders = self.by_event_type(&definition.event_type);
        if feeders.len() >= METERS_PER_EVENT_TYPE_MAX && !feeders.contains(&id) {
            return Err(MetersError::TooManyOfOneType(definition.event_type));
        }
        let meter = Meter { id, definition, windows, billing_zone, retired: false };
        match self.meters.get_mut(usize::from(id.0)) {
            Some(known) => {
                *known = meter;
                self.index();
            }
            None => {
                let Definition { slug, event_type, .. } = &meter.definition;
                self.by_slug.insert(slug.as_str().into(), id);
                self.by_event_type.entry_ref(event_type.as_str()).or_default().push(id);
                self.meters.push(meter);
            }
        }
        Ok(())
    }

    /// Retires the meters for which `is_retired` says so, and no others.
    pub fn retire(&mut self, is_retired: impl Fn(&Definition) -> bool) {
        for meter in &mut self.meters {
            meter.retired = is_retired(&meter.definition);
        }
        self.index();
    }

    fn index(&mut self) {
        self.by_slug.clear();
        self.by_event_type.clear();
        for Meter { id, definition, retired, .. } in &self.meters {
            self.by_slug.insert(definition.slug.as_str().into(), *id);
            if *retired {
                continue;
            }
            self.by_event_type.entry_ref(definition.event_type.as_str()).or_default().push(*id);
        }
    }

    /// The meter with this number.
    pub fn get(&self, id: MeterId) -> Option<&Meter> {
        self.meters.get(usize::from(id.0))
    }

    /// The meter with this slug.
    pub fn by_slug(&self, slug: &str) -> Option<&Meter> {
        self.by_slug.get(slug).and_then(|id| self.get(*id))
    }

    /// The meters that events of this type feed, in order of number; none if no meter wants them.
    pub fn by_event_type(&self, event_type: &str) -> &[MeterId] {
        self.by_event_type.get(event_type).map_or(&[], Vec::as_slice)
    }

    /// Every meter, in order of number.
    pub fn iter(&self) -> std::slice::Iter<'_, Meter> {
        self.meters.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.meters.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.meters.is_empty()
    }
}

impl<'a> IntoIterator for &'a Meters {
    type Item = &'a Meter;
    type IntoIter = std::slice::Iter<'a, Meter>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn check_next_version(known: &Definition, next: &Definition) -> Result<(), MetersError> {
    if known.slug != next.slug {
        return Err(MetersError::SlugChanged(known.slug.clone()));
    }
    match known.frozen_difference(next).first() {
        Some(field) => Err(MetersError::Frozen { slug: next.slug.clone(), field: *field }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
