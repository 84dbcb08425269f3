//! Customers' schedules as the parse threads see them: which billing period an event falls into.
//!
//! 1. The writer changes a schedule when it decides so; whoever reads them notes the version first.
//! 2. A batch that was cut by an older version is cut again by the writer, so that a schedule holds from its record on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::engine::key;
use crate::meter::{Customer, Meter, Period, ResolvedSchedule};
use crate::model::{MeterId, Timestamp};

/// Latest ends that are remembered: a reader asks for the same period page by page.
const ENDS_MAX: usize = 256;

#[derive(Default)]
pub struct Calendars {
    version: AtomicU64,
    /// By tenant and customer, as series names begin. Only customers with a schedule of their own.
    schedules: RwLock<HashMap<Box<[u8]>, Arc<ResolvedSchedule>>>,
    customers: AtomicU64,
    ends: Mutex<Ends>,
}

/// By tenant, meter and period: when the last customer is past it, by which version.
type Ends = HashMap<(String, MeterId, Period), (u64, Option<Timestamp>)>;

impl Calendars {
    /// Those of every customer that the log knows.
    pub fn of<'a>(customers: impl Iterator<Item = (&'a [u8], &'a Arc<Customer>)>) -> Self {
        let calendars = Self::default();
        customers.for_each(|(name, customer)| calendars.set(name, customer));
        calendars
    }

    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// No customer has a schedule of their own.
    pub fn is_empty(&self) -> bool {
        self.customers.load(Ordering::Acquire) == 0
    }

    /// None: the meter's own calendar holds.
    pub fn get(&self, customer: &[u8]) -> Option<Arc<ResolvedSchedule>> {
        if self.is_empty() {
            return None;
        }
        self.schedules.read().get(customer).cloned()
    }

    /// When a customer's period of this name ends; none if the meter has no such periods.
    pub fn end_for(&self, tenant: &str, customer: &str, meter: &Meter, label: Period) -> Option<Timestamp> {
        let mut name = Vec::with_capacity(64);
        key::put_customer(&mut name, tenant, customer);
        meter.calendar(self.get(&name).as_deref()).bounds(&label).map(|bounds| bounds.end)
    }

    /// When the last of a tenant's customers is past the period of this name.
    pub fn latest_end(&self, tenant: &str, meter: &Meter, label: Period) -> Option<Timestamp> {
        let own = meter.calendar(None).bounds(&label)?.end;
        if self.is_empty() {
            return Some(own);
        }
        let (version, place) = (self.version(), (tenant.to_owned(), meter.id, label));
        if let Some((known, end)) = self.ends.lock().get(&place)
            && *known == version
        {
            return *end;
        }
        let mut prefix = Vec::with_capacity(32);
        key::put_text(&mut prefix, tenant);
        let schedules = self.schedules.read();
        let of_tenant = schedules.iter().filter(|(name, _)| name.starts_with(&prefix));
        let ends = of_tenant.filter_map(|(_, schedule)| meter.calendar(Some(schedule)).bounds(&label));
        let end = ends.map(|bounds| bounds.end).chain([own]).max();
        let mut known = self.ends.lock();
        if known.len() >= ENDS_MAX {
            known.clear();
        }
        known.insert(place, (version, end));
        end
    }

    pub fn set(&self, name: &[u8], customer: &Customer) {
        let mut schedules = self.schedules.write();
        if customer.schedule.eras().is_empty() {
            schedules.remove(name);
        } else {
            let resolved =
                ResolvedSchedule::new(&customer.schedule).expect("a schedule's zones were checked at the door");
            schedules.insert(name.into(), Arc::new(resolved));
        }
        self.customers.store(schedules.len() as u64, Ordering::Release);
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}
