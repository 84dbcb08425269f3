//! The `meterd` program: everything is in the library.

use std::process::ExitCode;

/// Many small blocks die on other threads than they were born on; jemalloc gives their memory back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    meterd::cli::main()
}
