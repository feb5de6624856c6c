//! `opshook tables create`.

use serde_json::json;
use service::host::Environment;
use service::settings::Reader;
use store::{Store, StoreConfig};

use crate::outcome::{Failure, print_line};

/// Makes the tables at the endpoint that the environment names.
pub(crate) async fn run(as_json: bool) -> Result<(), Failure> {
    let environment = Environment::process();
    let mut settings = Reader::new(&environment);
    let prefix = settings.table_prefix();
    settings.finish().map_err(Failure::usage)?;
    let config = StoreConfig::from_lookup(prefix, |name| environment.get(name));
    let made = Store::connect(&config).await.create_tables(store::tables::ALL).await?;
    if as_json {
        let tables: Vec<_> = made.iter().map(|table| json!({ "name": table.name, "created": table.created })).collect();
        return print_line(json!({ "tables": tables }));
    }
    let width = made.iter().map(|table| table.name.len()).max().unwrap_or(0);
    for table in &made {
        let what = if table.created { "created" } else { "already there" };
        print_line(format!("{:width$}  {what}", table.name))?;
    }
    Ok(())
}
