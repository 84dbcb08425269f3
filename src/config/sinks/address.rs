//! Where a sink sends, with what may be done about an address that is none. The rules are the sinks' own; nothing is looked
//! up: whether an address may be reached is decided at each connect.

use super::{Item, Refusal};
use crate::delivery::postgres::{TableName, Url};
use crate::delivery::webhook::{Target, UrlError};

const WEBHOOK_EXAMPLE: &str = "for example url = \"https://billing.example/hooks\"";
const POSTGRES_EXAMPLE: &str = "for example \"postgres://user:password@host:5432/database\"";

pub fn webhook(key: &str, text: &str) -> Result<(), Refusal> {
    let refuse = |error: UrlError| {
        let help = match error {
            UrlError::Userinfo => "leave out what is in front of @",
            UrlError::Fragment => "leave out # and what follows it",
            _ => WEBHOOK_EXAMPLE,
        };
        Refusal::new(format!("`{key}` {error}")).with_help(help)
    };
    Target::parse(text).map(drop).map_err(refuse)
}

pub fn postgres(key: &str, text: &str) -> Result<Url, Refusal> {
    Url::parse(text).map_err(|error| Refusal::new(format!("`{key}` {error}")).with_help(POSTGRES_EXAMPLE))
}

pub fn table(item: &Item<'_>) -> Result<TableName, Refusal> {
    let text = item.text("a table's name")?;
    let help = "for example table = \"billing_rows\" or \"billing.rows\"";
    text.parse().map_err(|error| Refusal::new(format!("`{}` {error}", item.name())).with_help(help))
}
