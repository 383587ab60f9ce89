"""Runs a page's commands, the README's tour, word for word against a real server, and compares what
they print.

A tour is made of ```console blocks: a line that begins with "$ " is a command (a here-document
belongs to it, and so does a line after a backslash), the lines after it are what it prints.
The server is ADAMD_BINARY, on a port of its own in place of the default one.
With --update, the page gets the answers that came.

    check_readme.py [--update] PAGE [PAGE...]
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile

DEFAULT = "127.0.0.1:2326"
TIME = "2026-11-24T12:00:00.000Z"  # stands for every time in an answer
KEYS = ["params", "lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "foreach",
        "capturable", "differentiable", "fused"]


def commands(block):
    """Yields (command, expected output) of one block's lines."""
    lines = iter(block)
    command, expected = None, []
    for line in lines:
        if not line.startswith("$ "):
            expected.append(line)
            continue
        if command is not None:
            yield command, "\n".join(expected)
        command, expected = line[2:], []
        while command.endswith("\\"):
            command += "\n" + next(lines)
        here = re.search(r"<<'(\w+)'", command)
        while here and not command.endswith("\n" + here.group(1)):
            command += "\n" + next(lines)
    if command is not None:
        yield command, "\n".join(expected)


def run(command, address, folder):
    done = subprocess.run(["bash", "-c", command.replace(DEFAULT, address)], cwd=folder,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    said = done.stdout.replace(address, DEFAULT).rstrip("\n")
    said = re.sub(r'"(time|first_seen|last_seen)": "[^"]*"', rf'"\1": "{TIME}"', said)
    return said


def check_torch_keys(answer):
    """The first param_groups must be what a torch user knows: one group, its keys in torch's order."""
    groups = json.loads(answer)
    assert len(groups) == 1, "expected one group"
    assert list(groups[0]) == KEYS, f"keys {list(groups[0])}"
    assert [p["name"] for p in groups[0]["params"]] == ["nn1.weight", "nn1.bias", "nn2.weight", "nn2.bias"]
    options = [groups[0][k] for k in KEYS[1:]]
    assert options == [0.1, [0.9, 0.999], 1e-08, 0, False, False, None, False, False, None], options


def walk_tour(text, address, folder):
    """Runs all blocks. Returns the page with the answers that came, and the number of commands."""
    count, groups_seen = 0, False
    out = text
    for match in re.finditer(r"```console\n(.*?)```", text, re.S):
        block = ""
        for command, expected in commands(match.group(1).splitlines()):
            got = run(command, address, folder)
            if got != expected.rstrip("\n"):
                print(f"$ {command}\nexpected: {expected}\ngot:      {got}\n")
            if command.endswith("/param_groups") and not groups_seen:
                check_torch_keys(got)
                groups_seen = True
            block += f"$ {command}\n" + (got + "\n" if got else "")
            count += 1
        out = out.replace(match.group(0), f"```console\n{block}```")
    return out, count, groups_seen


def check(path, update):
    """Runs one page on a server of its own. Returns whether it says what comes."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    server = subprocess.Popen([os.environ["ADAMD_BINARY"], "--port", "0", "--log-level", "warn"],
                              stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split()[-1].split("//")[1]
        with tempfile.TemporaryDirectory() as folder:
            came, count, groups_seen = walk_tour(text, address, folder)
    finally:
        server.send_signal(signal.SIGTERM)
        status = server.wait(timeout=30)
    assert status == 0, f"the server ended with {status}"
    assert count >= 8, f"only {count} commands: is {path} such a page?"
    assert groups_seen or os.path.basename(path) != "README.md", "the tour never reads param_groups"
    if update and came != text:
        with open(path, "w", encoding="utf-8") as f:
            f.write(came)
    print(f"{path}: {count} commands")
    return update or came == text


def main():
    pages = [a for a in sys.argv[1:] if not a.startswith("--")]
    assert pages, "no page is named"
    if not all([check(path, "--update" in sys.argv) for path in pages]):
        sys.exit("the commands do not give what the page says")


if __name__ == "__main__":
    main()
