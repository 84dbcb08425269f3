//! `PUT` and `GET /v1/customers/{customer}`: when a customer's billing periods start, and its plan.
//!
//! | file | does |
//! | --- | --- |
//! | `settings` | the body of a PUT to settings, each member checked |
//! | `shown` | what is stored, with the period that it makes of now |
//!
//! 1. A PUT replaces all settings; a member that is null or left out is unset.
//! 2. It is answered once it is durable, with what is stored then.
//! 3. A changed anchor or time zone never moves a period that has begun: `applies_from` names the first one it is for.

mod settings;
mod shown;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};

use crate::http::document;
use crate::http::params::{Params, PathName};
use crate::http::problem::Problem;
use crate::http::read::read;
use crate::http::routes::App;

use shown::Shown;

pub async fn put_customer(
    State(app): State<Arc<App>>,
    PathName(customer): PathName,
    params: Params,
    request: Request,
) -> Result<Json<Shown>, Problem> {
    params.finish()?;
    check_name(&customer)?;
    let body = document::receive(&app, request).await?;
    let settings = settings::read(&body, &app.engine.meters(), app.options.plans.as_deref())?;
    let answered = app.engine.put_customer(&app.tenant, &customer, settings).map_err(Problem::Refused)?;
    answered.await.map_err(|_| Problem::EngineFailed)?;
    stored(&app, customer).await.map(Json)
}

pub async fn get_customer(
    State(app): State<Arc<App>>,
    PathName(customer): PathName,
    params: Params,
) -> Result<Json<Shown>, Problem> {
    params.finish()?;
    check_name(&customer)?;
    stored(&app, customer).await.map(Json)
}

async fn stored(app: &App, customer: String) -> Result<Shown, Problem> {
    let (tenant, name) = (app.tenant.clone(), customer.clone());
    let found = read(app, move |view| Ok(view.customer(&tenant, &name))).await?;
    let absent =
        || Problem::Absent { name: "customer", detail: format!("nothing is stored for customer {customer:?}") };
    let stored = found.ok_or_else(absent)?;
    let clock = app.engine.clock();
    Shown::new(&customer, &stored, &app.engine.meters(), clock.effective.unwrap_or(clock.wall))
}

/// Refuses a name that no customer can have.
pub fn check_name(customer: &str) -> Result<(), Problem> {
    PathName::check_length("customer", customer)?;
    if customer.chars().any(char::is_control) {
        return Err(Problem::parameter("customer", "parameter \"customer\" must not hold control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_1_to_256_bytes_and_no_control_characters() {
        let longest = "x".repeat(256);
        assert!(["c", "a/b", "größe", &longest].iter().all(|name| check_name(name).is_ok()));
        for name in ["", "a\nb", "\u{7f}", &format!("{longest}x")] {
            assert!(matches!(check_name(name), Err(Problem::Parameter { name, .. }) if name == "customer"), "{name:?}");
        }
    }
}
