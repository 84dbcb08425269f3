//! What is counted and how: definitions, window bounds, aggregates. Pure: no I/O, no clock, no randomness.
//!
//! | file | question it answers |
//! | --- | --- |
//! | `definition` | what does a meter count, and what may never change about it? |
//! | `path` | where in an event's data is a value? |
//! | `meters` | which meters does an event feed? |
//! | `zone`, `period`, `window` | which window holds an instant, in a time zone with clock changes? |
//! | `calendar` | which billing period holds an instant, for a customer with settings of their own? |
//! | `caps` | how much may a customer use in a period, and what is crossed on the way there? |
//! | `aggregate`, `members`, `hll` | what is a window's value after one more event? |
//!
//! 1. Windows of a meter tile time: they never overlap and never leave a gap. So do a customer's billing periods.
//! 2. `Aggregate::check` refuses exactly what `Aggregate::add` would refuse, and neither changes anything then.
//! 3. An aggregate depends only on what was added, never on hash-map order.

pub mod aggregate;
pub mod calendar;
pub mod caps;
pub mod definition;
pub mod hll;
pub mod members;
pub mod meters;
pub mod path;
pub mod period;
pub mod window;
pub mod zone;

pub use aggregate::{Added, Aggregate, DecodeError, Refusal, Value};
pub use calendar::{BillingPeriod, Calendar, Customer, Era, ResolvedSchedule, Schedule};
pub use caps::{Amount, AmountError, Cap, CapError, CapField, CapPeriod, OnHardCap, PlanCap, Threshold};
pub use definition::{Aggregation, Definition, DefinitionError, FrozenField, Late};
pub use members::Members;
pub use meters::{Meter, Meters, MetersError};
pub use path::{Path, PathError};
pub use period::{Period, PeriodError, PeriodKind};
pub use window::{WindowLength, WindowLengthError, Windows};
pub use zone::{UnknownZone, Zone};
