//! Completions for shells and manual pages, from the command line's own description.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;
use crate::display::print;
use crate::failure::Failure;

pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "kvs-hls", &mut text);
    if shell == Shell::Bash {
        // Its script has two names for a program with a hyphen, so that it knows no options.
        text = String::from_utf8_lossy(&text).replace("kvs__subcmd__hls", "kvs__hls").into_bytes();
    }
    print(&text)
}

pub fn manual(directory: &Path) -> Result<(), Failure> {
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Args::command(), directory))
        .map_err(|error| Failure::io(format!("cannot write manual pages to {}", directory.display()), error))
}
