//! The `pmd` program: one line into the library.

fn main() -> std::process::ExitCode {
    pmd::cli::main()
}
