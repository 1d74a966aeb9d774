#!/usr/bin/env python3
"""A runner of workflow jobs, in small: what edamame-guard relies on, and nothing else.

runner.py PLAN.json: the process that starts the guard and each step. Every rule says which behaviour of
actions/runner it copies. It prints one JSON line for each thing that happened.
"""

import json
import os
import signal
import subprocess
import sys
import uuid

plan = json.load(open(sys.argv[1]))
workspace, temp = plan["workspace"], plan["temp"]
commands = os.path.join(temp, "_runner_file_commands")
os.makedirs(commands, exist_ok=True)

# The worker marks all that it starts, and at the end ends what still carries the mark (JobExtension.FinalizeJob).
TRACKING = f"github_{uuid.uuid4()}"
BASE = dict(
    os.environ,
    GITHUB_ACTIONS="true",
    GITHUB_JOB=plan["job"],
    GITHUB_WORKSPACE=workspace,
    GITHUB_REPOSITORY="o/r",
    GITHUB_WORKFLOW="CI",
    RUNNER_TEMP=temp,
    RUNNER_TRACKING_ID=TRACKING,
    **plan.get("env", {}),
)


def say(**what):
    print(json.dumps(what), flush=True)


def step_environment(step):
    # Each attempt of each step has command files of its own (FileCommandManager.InitializeFiles).
    guid = str(uuid.uuid4())
    env = dict(BASE, GITHUB_ACTION=step["action"])
    for kind, name in [("OUTPUT", "set_output"), ("ENV", "set_env"), ("STATE", "save_state"), ("STEP_SUMMARY", "step_summary")]:
        path = os.path.join(commands, f"{name}_{guid}")
        open(path, "w").close()
        env[f"GITHUB_{kind}"] = path
    env.update(step.get("env", {}))
    return env


def begin(step):
    env = step_environment(step)
    if "script" in step:
        # The script lies in the runner's temporary folder under a GUID of its own (ScriptHandler).
        path = os.path.join(temp, f"{uuid.uuid4()}.sh")
        with open(path, "w") as file:
            file.write(step["script"])
        words = ["bash", "-e", path]
    else:
        words = step["words"]

    def before():
        # A step's process may be ended first when memory is short (ProcessInvoker.WriteProcessOomScoreAdj).
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")

    process = subprocess.Popen(words, env=env, cwd=workspace, preexec_fn=before, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    say(step=step["action"], pid=process.pid)
    return process


def finish(step, process):
    output = process.communicate(timeout=120)[0]
    say(step=step["action"], status=process.returncode, output=output)


def guard(*words):
    env = step_environment({"action": "__edamame_guard"})
    done = subprocess.run([plan["guard"], *words], env=env, cwd=workspace, capture_output=True, text=True, timeout=120)
    say(guard=words[0], status=done.returncode, output=done.stdout, error=done.stderr)
    return done


def orphans():
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            environment = open(f"/proc/{name}/environ", "rb").read().split(b"\0")
        except OSError:
            continue
        if f"RUNNER_TRACKING_ID={TRACKING}".encode() in environment:
            yield int(name)


# An action starts the guard itself; a step's own text may do so as well.
if plan.get("starts", True):
    guard("start", "--report-dir", plan["report"])
for group in plan["steps"]:
    # Steps may run side by side (background steps).
    for step, process in [(step, begin(step)) for step in group]:
        finish(step, process)
for pid in orphans():
    say(orphan=pid)
    os.kill(pid, signal.SIGKILL)
status = guard("status", "--json")
sys.exit(guard("finish").returncode)
