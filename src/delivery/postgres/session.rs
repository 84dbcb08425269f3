//! One connection to the database: made, its tables checked, used to write rows.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use crate::delivery::postgres::error::Problem;
use crate::delivery::postgres::shape::{self, Column, Layout, Shape};
use crate::delivery::postgres::{Options, TableName, alerts, batch};
use crate::delivery::tls::client_config;
use crate::delivery::transport::Failure;

/// To connect, shake hands and log in.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// For one statement; the server ends it then, locks and all. A commit counts only once the server has it on disk.
const SETTINGS_SQL: &str = "SET statement_timeout = '15s'; SET lock_timeout = '10s'; \
    SET idle_in_transaction_session_timeout = '60s'; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// `IF NOT EXISTS` alone fails now and then when two make the same table.
const LOCK_SQL: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(7163385)";
const KIND_SQL: &str = "SELECT c.oid, c.relkind, has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'), \
        has_table_privilege(c.oid, 'INSERT') OR has_any_column_privilege(c.oid, 'INSERT'), \
        has_table_privilege(c.oid, 'UPDATE') OR has_any_column_privilege(c.oid, 'UPDATE'), \
        EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate \
            AND i.indnkeyatts = cardinality($2::text[]) AND i.indpred IS NULL AND i.indexprs IS NULL \
            AND $2 <@ ARRAY(SELECT a.attname::text FROM generate_series(0, i.indnkeyatts - 1) place \
                JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[place])) \
    FROM pg_class c WHERE c.oid = to_regclass($1)";
const COLUMNS_SQL: &str = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
        a.atthasdef OR a.attidentity <> '', a.attgenerated <> '' OR a.attidentity = 'a' \
    FROM pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A connection. A table is looked at, or made, before the first rows that go into it.
pub struct Session {
    client: Client,
    /// Tables that were looked at, and fit.
    fitting: Vec<TableName>,
    _driver: AbortOnDropHandle<()>,
}

impl Session {
    /// Connects, and sees to no table yet.
    pub async fn open(options: &Options) -> Result<Self, Problem> {
        let (client, driver) = match timeout(CONNECT_MAX, connect(options)).await {
            Ok(connected) => connected?,
            Err(_) => {
                let reason = format!("no connection to {} within {} s", options.url.place(), CONNECT_MAX.as_secs());
                return Err(Problem::new(Failure::Unavailable, reason));
            }
        };
        client.batch_execute(SETTINGS_SQL).await.map_err(|error| Problem::of("setting up the session", &error))?;
        Ok(Self { client, fitting: Vec::new(), _driver: driver })
    }

    pub fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// All rows of the batch, or none.
    pub async fn upsert(&mut self, table: &TableName, batch: &batch::Batch) -> Result<(), Problem> {
        self.prepare(table, &batch::LAYOUT).await?;
        let parameters: [Parameter<'_>; 13] = [
            (&batch.keys, Type::TEXT_ARRAY),
            (&batch.tenants, Type::TEXT_ARRAY),
            (&batch.customers, Type::TEXT_ARRAY),
            (&batch.meters, Type::TEXT_ARRAY),
            (&batch.dimensions, Type::TEXT_ARRAY),
            (&batch.starts, Type::TEXT_ARRAY),
            (&batch.ends, Type::TEXT_ARRAY),
            (&batch.values, Type::TEXT_ARRAY),
            (&batch.event_counts, Type::INT8_ARRAY),
            (&batch.revisions, Type::INT8_ARRAY),
            (&batch.incarnations, Type::INT8_ARRAY),
            (&batch.hashes, Type::TEXT_ARRAY),
            (&batch.delivery, Type::TEXT),
        ];
        self.write(&batch::upsert_sql(table), &parameters).await
    }

    /// All alerts of the batch that are not there yet, or none.
    pub async fn insert(&mut self, table: &TableName, batch: &alerts::Batch) -> Result<(), Problem> {
        self.prepare(table, &alerts::LAYOUT).await?;
        let parameters: [Parameter<'_>; 2] = [(&batch.alerts, Type::TEXT), (&batch.delivery, Type::TEXT)];
        self.write(&alerts::insert_sql(table), &parameters).await
    }

    /// Without a name and thus in one round trip; poolers take it, and a changed table is seen at once.
    async fn write(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<(), Problem> {
        let problem = |error: tokio_postgres::Error| Problem::of("writing rows", &error);
        self.client.query_typed(sql, parameters).await.map(drop).map_err(problem)
    }

    async fn prepare(&mut self, table: &TableName, layout: &Layout) -> Result<(), Problem> {
        if self.fitting.contains(table) {
            return Ok(());
        }
        let mut found = self.look(table, layout).await?;
        if found.is_none() {
            self.create(table, layout).await?;
            found = self.look(table, layout).await?;
        }
        let misfit = |reason: &str| Problem::new(Failure::Misfit, format!("table {table} does not fit: {reason}"));
        let shape = found.ok_or_else(|| misfit("it went away while it was looked at"))?;
        shape::check(&shape, layout).map_err(|reason| misfit(&reason))?;
        self.fitting.push(table.clone());
        Ok(())
    }

    /// In one transaction. Several makers wait for each other; after an error the connection is given up.
    async fn create(&self, table: &TableName, layout: &Layout) -> Result<(), Problem> {
        let problem = |error: tokio_postgres::Error| Problem::of(&format!("making table {table}"), &error);
        self.client.batch_execute(LOCK_SQL).await.map_err(problem)?;
        if self.look(table, layout).await?.is_none() {
            self.client.batch_execute(&(layout.create_sql)(table)).await.map_err(problem)?;
        }
        self.client.batch_execute("COMMIT").await.map_err(problem)
    }

    /// What the catalog says of the table; `None`: there is none of this name.
    async fn look(&self, table: &TableName, layout: &Layout) -> Result<Option<Shape>, Problem> {
        let problem = |error: tokio_postgres::Error| Problem::of(&format!("looking at table {table}"), &error);
        let name = table.to_string();
        let parameters: [Parameter<'_>; 2] = [(&name, Type::TEXT), (&layout.key, Type::TEXT_ARRAY)];
        let rows = self.client.query_typed(KIND_SQL, &parameters).await.map_err(problem)?;
        let Some(found) = rows.first() else { return Ok(None) };
        let oid: u32 = found.try_get(0).map_err(problem)?;
        let kind: i8 = found.try_get(1).map_err(problem)?;
        let mut lacking = Vec::new();
        for (at, privilege) in [(2, "SELECT"), (3, "INSERT"), (4, "UPDATE")] {
            if layout.privileges.contains(&privilege) && !found.try_get::<_, bool>(at).map_err(problem)? {
                lacking.push(privilege);
            }
        }
        let has_key = found.try_get(5).map_err(problem)?;
        let rows = self.client.query_typed(COLUMNS_SQL, &[(&oid, Type::OID)]).await.map_err(problem)?;
        let columns = rows.iter().map(column).collect::<Result<_, _>>().map_err(problem)?;
        Ok(Some(Shape { kind: char::from(kind.cast_unsigned()), columns, has_key, lacking }))
    }
}

fn column(row: &tokio_postgres::Row) -> Result<Column, tokio_postgres::Error> {
    Ok(Column {
        name: row.try_get(0)?,
        type_name: row.try_get(1)?,
        is_not_null: row.try_get(2)?,
        fills_itself: row.try_get(3)?,
        is_generated: row.try_get(4)?,
    })
}

async fn connect(options: &Options) -> Result<(Client, AbortOnDropHandle<()>), Problem> {
    let config = options.url.config();
    let problem = |error: tokio_postgres::Error| Problem {
        is_disconnected: false,
        ..Problem::of(&format!("connecting to {}", options.url.place()), &error)
    };
    // What the connection itself reports, its statements report as well.
    if config.get_ssl_mode() == SslMode::Disable {
        let (client, connection) = config.connect(NoTls).await.map_err(problem)?;
        let driver = tokio::spawn(async { drop(connection.await) });
        return Ok((client, AbortOnDropHandle::new(driver)));
    }
    let (client, connection) = config.connect(tls().await?).await.map_err(problem)?;
    let driver = tokio::spawn(async { drop(connection.await) });
    Ok((client, AbortOnDropHandle::new(driver)))
}

/// TLS that trusts whom the system trusts.
async fn tls() -> Result<MakeRustlsConnect, Problem> {
    let unable = |reason: String| Problem::new(Failure::Unavailable, format!("setting up TLS: {reason}"));
    let load = tokio::task::spawn_blocking(|| client_config(None));
    let config = load.await.map_err(|_| unable("the system's certificates could not be read".to_owned()))?;
    Ok(MakeRustlsConnect::new(config.map_err(|error| unable(error.to_string()))?))
}
