//! Compiles the kernel half of the recorder, so that no binary lives in the repository.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const SOURCE: &str = "src/sensors/ebpf/sensor.bpf.c";

fn main() -> ExitCode {
    for file in [SOURCE, "src/sensors/ebpf/sensor.h", "src/sensors/ebpf/core.h"] {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-env-changed=CLANG");
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("error: cargo did not set {name}"));
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    if Command::new(&clang).arg("--version").output().is_err() {
        return Err(format!(
            "error: cannot run `{clang}`, which compiles the kernel half of the recorder\n\
             hint: `apt-get install clang` (version 14 or later), or set CLANG to its path"
        ));
    }
    // asm/types.h lies in the multiarch folder on Debian and Ubuntu; elsewhere the folder is missing.
    let multiarch = format!("/usr/include/{}-linux-gnu", variable("CARGO_CFG_TARGET_ARCH")?);
    let mut arguments = vec!["-Wall".to_owned(), "-Werror".to_owned()];
    if Path::new(&multiarch).is_dir() {
        arguments.extend(["-idirafter".to_owned(), multiarch]);
    }
    // Where the sources lie is nobody's business, and two folders must give one program.
    arguments.push(format!("-ffile-prefix-map={}=.", variable("CARGO_MANIFEST_DIR")?));
    let object = PathBuf::from(variable("OUT_DIR")?).join("sensor.bpf.o");
    libbpf_cargo::SkeletonBuilder::new()
        .source(SOURCE)
        .obj(&object)
        .clang(&clang)
        .clang_args(&arguments)
        .build()
        .map_err(|error| {
            format!(
                "error: the kernel half of the recorder does not compile\n{error:#}\n\
                 hint: it needs `apt-get install clang linux-libc-dev`"
            )
        })
}
