//! The receive function, as a Lambda or as a plain server.

fn main() -> std::process::ExitCode {
    adapter::main("receive", receive::start)
}
