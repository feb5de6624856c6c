//! The query-events function, as a Lambda or as a plain server.

fn main() -> std::process::ExitCode {
    adapter::main("query-events", query_events::start)
}
