//! `opshook engine`: the embedded engine as a server of its own.

use ::engine::{Engine, Storage};
use serde_json::json;
use service::host::Environment;
use service::telemetry;

use crate::cli::EngineOptions;
use crate::outcome::{Failure, engine_failure, print_line};

/// Serves until SIGTERM or Ctrl-C.
pub(crate) async fn run(options: &EngineOptions) -> Result<(), Failure> {
    telemetry::init(&Environment::process()).map_err(Failure::usage)?;
    let mut stop = adapter::signals();
    let storage = Storage::Directory(options.data_dir.clone());
    let engine = Engine::start(storage, options.listen).await.map_err(|error| engine_failure("--listen", error))?;
    let url = format!("http://{}", engine.addr());
    let printed =
        if options.json { print_line(json!({ "dynamodb": url })) } else { print_line(format!("dynamodb {url}")) };
    if printed.is_ok() {
        let _ = stop.wait_for(|stop| *stop).await;
    }
    engine.stop().await;
    printed
}
