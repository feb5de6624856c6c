//! The emit-retry function, as a Lambda or as a plain server.

fn main() -> std::process::ExitCode {
    adapter::main("emit-retry", emit_retry::start)
}
