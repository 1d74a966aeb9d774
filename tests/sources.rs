//! Sources and tools that are changed past the job's processes, or by ways that name no source, on the kernel at hand.
//!
//! Without the rights, each test says so and passes.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use common::{GUARD, Place, failing, live, text};

const MAIN: &str = "int main(void) { return 0; }\n";
const EVIL: &str = "int main(void) { return 7; }\n";

fn git(folder: &Path, words: &[&str]) {
    let output = Command::new("git")
        .current_dir(folder)
        .env("HOME", folder)
        .args(["-c", "user.name=Test", "-c", "user.email=test@project.example"])
        .args(words)
        .output()
        .expect("git starts");
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
}

/// A project that is checked in, whose step has this text; `make app` compiles its source.
fn project(script: &str, makefile: &str) -> Place {
    let place = Place::new(script);
    place.write("work/src/main.c", MAIN);
    place.write("work/Makefile", &format!("app:\n\tgcc -o app src/main.c\n{makefile}"));
    place.write("evil/main.c", EVIL);
    place.write(
        "home/.gitconfig",
        "[user]\nname = Test\nemail = test@project.example\n[safe]\ndirectory = *\n",
    );
    let work = place.root.path().join("work");
    git(&work, &["init", "-q", "-b", "main"]);
    git(&work, &["add", "."]);
    git(&work, &["commit", "-q", "-m", "one"]);
    place
}

fn root(place: &Place) -> PathBuf {
    place.root.path().canonicalize().expect("a place")
}

fn told(place: &Place) -> Vec<Value> {
    let report = place.report();
    let all = report["findings"].as_array().expect("findings").clone();
    all.into_iter().filter(|finding| finding["rule"] == "build-tamper").collect()
}

#[track_caller]
fn found(place: &Place, output: &Output, object: &str, how: &str) {
    let object = if object.starts_with('/') { object.into() } else { root(place).join(object) };
    let told = told(place);
    assert_eq!(output.status.code(), Some(86), "{}\n{told:#?}", text(&output.stderr));
    let wanted = format!("build-tamper {}", object.display());
    assert!(failing(&place.report()).contains(&wanted), "{:#}", place.report());
    assert!(told.iter().any(|it| it["title"].as_str().is_some_and(|title| title.contains(how))), "{told:#?}");
    place.replay_is_the_same(output);
}

#[track_caller]
fn quiet(place: &Place, output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(told(place), Vec::<Value>::new(), "{:#}", place.report());
    place.replay_is_the_same(output);
}

/// Runs the step, and does something from outside of it where the step waits for that.
fn beside(place: &Place, act: impl FnOnce(&Path)) -> Output {
    let child = place
        .command(&["run", "--report-dir", "../report", "--", "bash", "build.sh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the guard starts");
    let root = root(place);
    let end = Instant::now() + Duration::from_secs(60);
    while !root.join("home/ready").exists() && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    act(&root);
    fs::write(root.join("home/go"), "").expect("written");
    child.wait_with_output().expect("it ends")
}

const WAIT: &str = "touch ~/ready\nuntil [ -e ~/go ]; do sleep 0.1; done\n";

#[test]
fn a_source_that_is_changed_from_outside_of_the_job() {
    live("a_source_that_is_changed_from_outside_of_the_job", |_| {
        let script = format!("set -e\n{WAIT}make -s app\n");
        let nobody = "no process of the job was seen to change it";
        // In place, by another file, and by a mapping that is written to after the file is closed.
        let ways: [&dyn Fn(&Path); 3] = [
            &|root| fs::write(root.join("work/src/main.c"), EVIL).expect("written"),
            &|root| fs::rename(root.join("evil/main.c"), root.join("work/src/main.c")).expect("moved"),
            &|root| {
                let program = "import mmap,sys\nf=open(sys.argv[1],'r+b')\nm=mmap.mmap(f.fileno(),0)\nf.close()\nat=m.find(b'0;')\nm[at:at+1]=b'7'\nm.close()";
                let source = root.join("work/src/main.c");
                let done =
                    Command::new("python3").args(["-c", program]).arg(source).status().expect("python");
                assert!(done.success());
            },
        ];
        for way in ways {
            let place = project(&script, "");
            let output = beside(&place, way);
            found(&place, &output, "work/src/main.c", &format!("which is not what is checked in: {nobody}"));
        }
        // What is touched, copied over itself or put back is what it was.
        let place = project(&script, "");
        let output = beside(&place, |root| {
            let source = root.join("work/src/main.c");
            fs::write(&source, EVIL).expect("written");
            fs::remove_file(&source).expect("removed");
            fs::write(&source, MAIN).expect("written");
        });
        quiet(&place, &output);
    });
}

#[test]
fn a_file_that_git_does_not_know_is_what_it_was_when_it_was_read_first() {
    live("a_file_that_git_does_not_know_is_what_it_was_when_it_was_read_first", |_| {
        let place = Place::new(&format!(
            "set -e\nprintf 'int f(void) {{ return 1; }}\\n' > f.c\ngcc -c f.c\nsleep 1\n{WAIT}gcc -c f.c\nsleep 1\nprintf 'int g;\\n' > f.c\ngcc -c f.c\n"
        ));
        let output = beside(&place, |root| {
            fs::write(root.join("work/f.c"), "int f(void) { return 2; }\n").expect("written");
        });
        found(&place, &output, "work/f.c", "which is not what it was when it was read before");
        // The step's own change of it, later, is its own.
        assert_eq!(told(&place).len(), 1);
        assert_eq!(told(&place)[0]["count"], 1);
    });
}

#[test]
fn something_else_lies_over_a_source_while_it_is_compiled() {
    live("something_else_lies_over_a_source_while_it_is_compiled", |_| {
        let ways = [
            "mount --bind ../evil/main.c src/main.c && gcc -o app src/main.c",
            "mount --bind ../evil src && gcc -o app src/main.c",
            "mount -t tmpfs x src && cp ../evil/main.c src/ && umount src && mount -t overlay -o lowerdir=../evil:src x src && gcc -o app src/main.c",
        ];
        for way in ways {
            // In a namespace of its own, which is gone with its processes.
            let recipe = format!("test:\n\tunshare -m sh -c '{way}'\n");
            let place = project("make -s test\n", &recipe);
            let output = place.run(&[], &["bash", "build.sh"]);
            if way.contains("overlay") && output.status.code() == Some(2) {
                println!("skipped: no overlay here: {}", text(&output.stderr));
                continue;
            }
            found(&place, &output, "work/src/main.c", "mount mounted something over it");
        }
        // The same file, or one that the step's own text puts there.
        let recipe = "test:\n\tunshare -m sh -c 'mount --bind src src && gcc -o app src/main.c'\n";
        let place = project("make -s test\n", recipe);
        let output = place.run(&[], &["bash", "build.sh"]);
        quiet(&place, &output);
    });
}

#[test]
fn a_tool_that_is_another_program_than_before() {
    live("a_tool_that_is_another_program_than_before", |_| {
        let gcc = fs::canonicalize("/usr/bin/gcc").expect("a compiler");
        let recipe = format!(
            "test:\n\tgcc -o app src/main.c\n\tunshare -m sh -c 'mount --bind /bin/true {gcc} && gcc -o app src/main.c'\n",
            gcc = gcc.display()
        );
        let place = project("make -s test\n", &recipe);
        let output = place.run(&[], &["bash", "build.sh"]);
        found(&place, &output, &gcc.to_string_lossy(), "is another program than when it ran before");
        // Once more the same is the same.
        let place = project("make -s app\nrm app\nmake -s app\n", "");
        let output = place.run(&[], &["bash", "build.sh"]);
        quiet(&place, &output);
    });
}

#[test]
fn what_the_work_itself_changes_is_quiet() {
    live("what_the_work_itself_changes_is_quiet", |_| {
        let recipe = "gen:\n\tpython3 gen.py\n";
        for text in [
            "sed -i s/0/1/ src/main.c",
            "echo 'int main(void) { return 3; }' > src/main.c",
            "cp ../evil/main.c src/main.c",
            "mv ../evil/main.c src/main.c",
            "rm -r src && mv ../evil src",
            "ln -sf ../../evil/main.c src/main.c",
            "git checkout -q v2",
            "git pull -q origin v2",
            "git apply ../v2.patch",
            "make -s gen",
            "tar xf ../v2.tar",
            "rm -rf .git src && git init -q && git fetch -q ../upstream v2 && git reset -q --hard FETCH_HEAD",
        ] {
            let place = project(&format!("set -e\n{text}\nmake -s app\nrm app\nmake -s app\n"), recipe);
            let at = root(&place);
            place.write("work/gen.py", &format!("open('src/main.c', 'w').write('''{EVIL}''')\n"));
            let work = at.join("work");
            git(&work, &["add", "."]);
            git(&work, &["commit", "-q", "-m", "two"]);
            git(&work, &["checkout", "-q", "-b", "v2"]);
            place.write("work/src/main.c", EVIL);
            git(&work, &["commit", "-q", "-a", "-m", "v2"]);
            let patch = Command::new("git")
                .current_dir(&work)
                .args(["diff", "main", "v2"])
                .output()
                .expect("a patch");
            fs::write(at.join("v2.patch"), patch.stdout).expect("written");
            git(&work, &["archive", "-o", "../v2.tar", "v2"]);
            git(&at, &["clone", "-q", "--bare", "work", "upstream"]);
            git(&work, &["checkout", "-q", "main"]);
            git(&work, &["remote", "add", "origin", "../upstream"]);
            if !text.contains("checkout") {
                git(&work, &["branch", "-q", "-D", "v2"]);
            }
            let output = place.run(&[], &["bash", "build.sh"]);
            println!("{text}");
            quiet(&place, &output);
        }
    });
}

#[test]
fn a_tree_with_much_in_it_costs_little() {
    live("a_tree_with_much_in_it_costs_little", |_| {
        let place = project("make -s app\n", "");
        for index in 0..5000 {
            place.write(&format!("work/many/{}/{index}.c", index % 50), "int x;\n");
        }
        let work = root(&place).join("work");
        git(&work, &["add", "."]);
        git(&work, &["commit", "-q", "-m", "many"]);
        let begun = Instant::now();
        let output = place.run(&[], &["bash", "build.sh"]);
        println!("{:?} with {GUARD}", begun.elapsed());
        quiet(&place, &output);
    });
}
