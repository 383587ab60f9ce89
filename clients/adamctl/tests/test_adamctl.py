"""adamctl against a real server: what it prints, what it does, and how it ends.

Needs ADAMD_BINARY and ADAMCTL_BINARY; nothing beyond Python's own library.
"""

import json
import os
import pathlib
import pty
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

ADAMCTL = os.environ.get("ADAMCTL_BINARY", "adamctl")
ADAMD = os.environ.get("ADAMD_BINARY", "adamd")
HERE = pathlib.Path(__file__).resolve().parent.parent


def write_safetensors(path, tensors, metadata=None):
    """tensors: {name: [float, ...]}, all float32 of one dimension."""
    header = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, values in tensors.items():
        raw = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": [len(values)],
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path):
    raw = pathlib.Path(path).read_bytes()
    length, = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + length])
    header.pop("__metadata__", None)
    out = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw_tensor = raw[8 + length + begin:8 + length + end]
        out[name] = (list(struct.unpack(f"<{len(raw_tensor) // 4}f", raw_tensor))
                     if entry["dtype"] == "F32" else raw_tensor)
    return out


def read_all(terminal):
    """What is left in a terminal whose other side is closed."""
    said = b""
    try:
        while part := os.read(terminal, 4096):
            said += part
    except OSError:  # how Linux says so
        pass
    os.close(terminal)
    return said.decode()


class Adamctl(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp()
        cls.server = subprocess.Popen(
            [ADAMD, "--port", "0", "--log-level", "error", "--data-dir", cls.directory + "/data"],
            stdout=subprocess.PIPE, text=True)
        cls.url = cls.server.stdout.readline().split()[-1]

    @classmethod
    def tearDownClass(cls):
        cls.server.terminate()
        cls.server.wait(30)
        cls.server.stdout.close()
        shutil.rmtree(cls.directory)

    def setUp(self):
        self.name = "t-" + re.sub(r"[^A-Za-z0-9-]", "-", self.id().rsplit(".", 1)[-1])

    def path(self, name):
        return os.path.join(self.directory, self.name + "-" + name)

    def environment(self, **more):
        return {**os.environ, "ADAMD_URL": self.url, **more}

    def run_it(self, *args, code=0, **environment):
        done = subprocess.run([ADAMCTL, *args], capture_output=True, text=True, timeout=60,
                              env=self.environment(**environment))
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        if code != 0:
            self.assertIn("adamctl: " if "--json" not in args else "", done.stderr)
        return done.stderr if code != 0 else done.stdout

    def create(self, name=None, **options):
        self.run_it("create", name or self.name, json.dumps(
            {"params": {"w": [1, 2, 3], "b": {"shape": [2], "dtype": "float64"}},
             "defaults": {"lr": 0.5},
             "param_groups": [{"params": ["w"]}, {"params": ["b"], "lr": 0.25}], **options}))

    def gradients(self, values=(1, -1, 1)):
        write_safetensors(self.path("g"), {"w": list(values)})
        return self.path("g")

    def test_list_and_remove(self):
        names = [f"{self.name}.{i}" for i in range(3)]
        for name in names:
            self.create(name)
        lines = self.run_it("ls", self.name).splitlines()
        self.assertTrue(lines[0].startswith("NAME"))
        self.assertEqual([line.split()[0] for line in lines[1:]], names)
        self.assertEqual(self.run_it("ls", self.name, "--names").split(), names)
        listed = json.loads(self.run_it("ls", "--json", self.name))
        self.assertEqual([one["name"] for one in listed], names)
        self.run_it("rm", *names)
        self.assertEqual(self.run_it("ls", self.name), "")
        self.assertEqual(json.loads(self.run_it("ls", self.name, "--json")), [])
        self.assertIn("404", self.run_it("rm", names[0], code=1))

    def test_show(self):
        self.create()
        text = self.run_it("show", self.name)
        self.assertIn("2 parameters of 5 elements", text)
        self.assertRegex(text, r"(?m)^ +1 +1 +2 +0\.25 ")
        self.assertNotIn("\033", text)
        both = json.loads(self.run_it("show", self.name, "--json"))
        self.assertEqual(both["summary"]["numel"], 5)
        self.assertEqual([group["lr"] for group in both["param_groups"]], [0.5, 0.25])
        self.assertRegex(self.run_it("groups", self.name), r"(?m)^ +1  lr +0\.25$")
        self.assertRegex(self.run_it("params", self.name), r"(?m)^ +1  b +\[2\] +float64$")
        self.assertEqual(self.run_it("params", self.name, "--names"), "w\nb\n")

    def test_names_cannot_steer_the_terminal(self):
        self.run_it("create", self.name, '{"params": {"a\\u001b[31m\\u009b1m": [1]}}')
        text = self.run_it("params", self.name)
        self.assertIn("a?[31m??1m", text)
        self.assertNotIn("\033", text)

    def test_files(self):
        self.create()
        self.run_it("get", self.name, self.path("p"))
        self.assertEqual(read_safetensors(self.path("p"))["w"], [1, 2, 3])
        self.run_it("get", self.name, self.path("half"), "--dtype", "bf16")
        self.assertEqual(read_safetensors(self.path("half"))["w"], b"\x80\x3f\x00\x40\x40\x40")
        self.run_it("get", self.name, self.path("state"), "--state")
        self.run_it("step", self.name, self.gradients())
        self.run_it("put", self.name, self.path("state"), "--load", "everything")
        self.assertEqual(json.loads(self.run_it("show", self.name, "--json"))["summary"]["step"], 0)
        self.run_it("put", self.name, self.path("p"))
        self.assertIn("--load", self.run_it("put", "--help"))
        self.assertIn("expected", self.run_it("put", self.name, self.path("state"), "--load", "x", code=2))
        self.assertIn("No such file", self.run_it("put", self.name, "/nowhere", code=1))
        self.run_it("get", self.name, "/nowhere/x", code=1)
        self.run_it("get", "nobody", self.path("none"), code=1)
        self.assertEqual([name for name in os.listdir(self.directory) if "none" in name], [])

    def test_files_of_other_programs(self):
        write_safetensors(self.path("start"), {"w": [5, 6]}, {"format": "pt"})
        self.run_it("create", self.name, self.path("start"), '{"defaults": {"lr": 0.125}}')
        self.assertIn("0.125", self.run_it("show", self.name))
        self.run_it("put", self.name, self.path("start"))
        pathlib.Path(self.path("cut")).write_bytes(pathlib.Path(self.path("start")).read_bytes()[:-1])
        self.assertIn("ends behind the end", self.run_it("put", self.name, self.path("cut"), code=2))

    def test_step(self):
        self.create()
        said = self.run_it("step", self.name, self.gradients(), "--out", self.path("new"),
                           "--worker", "me", "--key", "k1")
        self.assertRegex(said, r"^step 1  grad 1\.732 ")
        self.assertEqual([round(x, 4) for x in read_safetensors(self.path("new"))["w"]],
                         [0.5, 2.5, 2.5])
        again = json.loads(self.run_it("step", self.name, self.gradients(), "--worker", "me",
                                       "--key=k1", "--json"))
        self.assertEqual((again["step"], again["replayed"], again["skipped"]), (1, True, False))
        self.assertIn("412", self.run_it("step", self.name, self.gradients(), "--if-match",
                                         '"e1-s77"', code=1))
        problem = json.loads(self.run_it("step", self.name, self.gradients([1, 2]), "--json", code=1))
        self.assertEqual(problem["type"], "urn:adamd:problem:shape-mismatch")
        self.assertEqual(problem["param"], "w")
        self.assertRegex(self.run_it("history", self.name), r"(?m)^ +1 .* me +1\.73205 ")
        self.assertEqual(len(json.loads(self.run_it("history", self.name, "--last", "1", "--json"))
                             ["history"]), 1)
        self.assertRegex(self.run_it("workers", self.name), r"(?m)^me +1 +1 ")
        self.run_it("workers", self.name, "--remove", "me")
        self.assertEqual(json.loads(self.run_it("workers", self.name, "--json"))["workers"], [])
        self.assertIn("above 0", self.run_it("step", self.name, self.gradients(), "--weight", "-1",
                                             code=2))

    def test_round(self):
        self.create(aggregation={"mode": "buffered", "size": 3})
        self.assertRegex(self.run_it("step", self.name, self.gradients()), "^held, the 1. ")
        self.assertEqual(json.loads(self.run_it("round", self.name, "--json"))["gradients"], 1)
        self.assertRegex(self.run_it("round", self.name), r"(?m)^gradients +1$")
        self.run_it("round", self.name, "--drop")
        self.assertRegex(self.run_it("round", self.name), r"(?m)^gradients +0$")

    def test_set(self):
        self.create()
        self.run_it("set", self.name, "lr=1e-2", "betas=[0.5, 0.75]", "max_grad_norm=2",
                    "nonfinite=skip")
        both = json.loads(self.run_it("show", self.name, "--json"))
        self.assertEqual([(group["lr"], group["betas"]) for group in both["param_groups"]],
                         [(0.01, [0.5, 0.75])] * 2)
        self.assertEqual((both["summary"]["max_grad_norm"], both["summary"]["nonfinite"]), (2, "skip"))
        after = json.loads(self.run_it("set", self.name, "lr=0.1", "--group", "1", "--json"))
        self.assertEqual([group["lr"] for group in after["param_groups"]], [0.01, 0.1])
        self.assertIn("lr", self.run_it("set", self.name, "lr=fast", code=1))
        self.assertIn("no_such", self.run_it("set", self.name, "no_such=1", code=1))
        self.assertIn("KEY=VALUE", self.run_it("set", self.name, "lr", code=2))
        self.assertIn("--group", self.run_it("set", self.name, "clip_value=1", "--group", "0", code=2))
        self.run_it("set", self.name, "lr=1", "--group", "7", code=1)

    def test_disk(self):
        self.create()
        self.run_it("snapshot", self.name)
        for _ in range(2):
            self.run_it("step", self.name, self.gradients())
        self.assertEqual(json.loads(self.run_it("snapshot", self.name, "--json"))["step"], 2)
        self.run_it("fork", self.name, self.name + "-now")
        self.run_it("fork", self.name, self.name + "-then", "1")
        self.assertIn("step 1", self.run_it("rollback", self.name, "1"))
        steps = {one["name"][len(self.name):]: one["step"]
                 for one in json.loads(self.run_it("ls", self.name, "--json"))}
        self.assertEqual(steps, {"": 1, "-now": 2, "-then": 1})
        self.assertIn("409", self.run_it("rollback", self.name, "9", code=1))
        self.assertIn("whole number", self.run_it("rollback", self.name, "x", code=2))

    def test_watch(self):
        self.create()
        for _ in range(3):
            self.run_it("step", self.name, self.gradients())
        lines = self.run_it("watch", self.name, "--from", "0", "--count", "3").splitlines()
        self.assertEqual([line.split("  ")[0] for line in lines], ["step 1", "step 2", "step 3"])
        self.assertTrue(all("grad 1.732" in line and "/s" in line for line in lines))
        events = [json.loads(line) for line in
                  self.run_it("watch", self.name, "--from", "1", "--count=2", "--json").splitlines()]
        self.assertEqual([event["data"]["step"] for event in events], [2, 3])
        self.assertIn("404", self.run_it("watch", "nobody", code=1))

    def test_watch_live_until_interrupted_or_removed(self):
        self.create()
        for signal_number in (signal.SIGINT, None):
            master, slave = pty.openpty()
            with subprocess.Popen([ADAMCTL, "watch", self.name], stdout=slave,
                                  env=self.environment()) as watching:
                os.close(slave)
                time.sleep(0.5)
                self.run_it("step", self.name, self.gradients())
                time.sleep(0.3)
                if signal_number is not None:
                    watching.send_signal(signal_number)
                else:
                    self.run_it("rm", self.name)
                self.assertEqual(watching.wait(20), 0)
            said = read_all(master)
            self.assertRegex(said, "\r\033\\[Kstep [12]  .*▁")
            self.assertEqual("was removed" in said, signal_number is None)

    def test_bench(self):
        said = json.loads(self.run_it("bench", "--numel", "1003", "--tensors", "7", "--steps", "50",
                                      "--parallel", "5", "--json"))
        self.assertEqual((said["steps"], said["optimizers"]), (50, 5))
        self.assertGreater(said["steps_per_second"], 0)
        self.assertIn("steps/s", self.run_it("bench", "--numel", "10", "--steps", "3"))
        self.assertEqual(self.run_it("ls", "adamctl-bench"), "")

    def test_usage(self):
        for args in ([], ["frob"], ["show"], ["show", "a", "b"], ["ls", "--frob"], ["ls", "--drop"],
                     ["ls", "--url"], ["ls", "--json=1"], ["ls", "--retries", "x"],
                     ["ls", "--url", "nonsense://"], ["bench", "--numel", "0"]):
            with self.subTest(args):
                self.run_it(*args, code=2)
        self.assertIn("Exit status", self.run_it("--help"))
        commands = re.findall(r"(?m)^  ([a-z]+) ", self.run_it("--help"))
        self.assertGreaterEqual(len(commands), 18)
        for command in commands:
            self.assertIn("Usage: adamctl " + command, self.run_it(command, "--help"))
        self.assertRegex(self.run_it("--version"), r"^adamctl \d+\.\d+\.\d+$")

    def test_no_connection(self):
        said = self.run_it("ls", "--url", "http://127.0.0.1:1", "--retries", "1", code=3)
        self.assertIn("check that adamd runs there", said)
        self.assertIn("tried 2 times", said)
        self.run_it("ls", ADAMD_URL="http://no-such-host.invalid", code=3)
        # --url goes before ADAMD_URL
        self.run_it("ls", "--url", self.url, ADAMD_URL="http://127.0.0.1:1")

    def test_manual_and_completion_know_every_command_and_option(self):
        help_text = self.run_it("--help")
        commands = set(re.findall(r"(?m)^  ([a-z]+) ", help_text))
        options = set(re.findall(r"(?m)^  (--[a-z-]+)", help_text))
        for command in commands:
            options |= set(re.findall(r"(?m)^  (--[a-z-]+)", self.run_it(command, "--help")))
        manual = re.sub(r"\\f[RBI]", " ", (HERE / "adamctl.1").read_text().replace("\\-", "-"))
        bash = (HERE / "completion/adamctl.bash").read_text()
        zsh = (HERE / "completion/_adamctl").read_text()
        for word in sorted(commands | options):
            for where, text in (("manual", manual), ("bash", bash), ("zsh", zsh)):
                if word == "--version" and where == "bash":
                    continue
                self.assertRegex(text, rf"(?<![\w-]){word}(?![\w-])", f"{word} in {where}")

    @unittest.skipUnless(shutil.which("bash"), "no bash")
    def test_completion(self):
        self.create()
        script = f"""
            source {HERE}/completion/adamctl.bash
            try() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _adamctl 2>/dev/null
                     echo "${{COMPREPLY[*]}}"; }}
            try adamctl sh
            try adamctl show {self.name[:-1]}
            try adamctl get x --dtype b
            try adamctl step {self.name} --wo
            try adamctl set {self.name} weight
            try adamctl --url {self.url} rm a {self.name[:-1]}
        """
        path = os.path.dirname(os.path.abspath(ADAMCTL)) + ":" + os.environ["PATH"]
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60,
                              env=self.environment(PATH=path))
        self.assertEqual(done.stdout.splitlines(),
                         ["show", self.name, "bf16", "--worker", "weight_decay=", self.name],
                         done.stderr)

    @unittest.skipUnless(shutil.which("man"), "no man")
    def test_manual_is_well_formed(self):
        done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", str(HERE / "adamctl.1")],
                              capture_output=True, text=True, timeout=60,
                              env=self.environment(MANWIDTH="80", LC_ALL="C.UTF-8"))
        self.assertEqual(done.stderr, "")
        self.assertIn("EXIT STATUS", done.stdout)


if __name__ == "__main__":
    unittest.main()
