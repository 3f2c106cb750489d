//! Says when the decoder is built without its assembly, which shows up as nothing but slowness.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PATH");
    let is_x86_64 = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    let path = env::var_os("PATH").unwrap_or_default();
    let has_nasm = env::split_paths(&path).any(|folder| folder.join(nasm()).is_file());
    if is_x86_64 && !has_nasm {
        println!("cargo::warning=no nasm on PATH: H.264 decoding will be 1.3 to 1.7 times slower. To mend it, run");
        println!(
            "cargo::warning=apt-get install nasm (or dnf, or brew), then cargo clean -p openh264-sys2, and build again"
        );
    }
}

fn nasm() -> String {
    format!("nasm{}", env::consts::EXE_SUFFIX)
}
