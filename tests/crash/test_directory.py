"""Data directories that cannot serve, and what one looks like."""

import os
import pwd
import random
import stat
import subprocess
import unittest

from crash_support import (BINARY, SAFETENSORS, Client, CrashCase, NoStart, digests, floats, inspect,
                           pack)


class Directory(CrashCase):
    def refused(self, *options, data_dir=None):
        with self.assertRaises(NoStart) as caught:
            self.start(*options, data_dir=data_dir)
        self.assertEqual(caught.exception.status, 2, caught.exception.said)
        self.assertIn(os.path.basename(data_dir or self.dir), caught.exception.said)
        return caught.exception.said

    def fill(self, server):
        client = Client(server.port)
        reply = client.ask("PUT", "/v1/optimizers/a", {"params": {"w": [0.5, 1]}})
        self.assertEqual(reply.status, 201, reply)
        self.assertEqual(client.ask("POST", "/v1/optimizers/a/step", {"grads": {"w": [1, 2]}}).status,
                         200)
        self.assertEqual(client.ask("POST", "/v1/optimizers/a/snapshot").status, 200)
        digest = client.ask("GET", "/v1/optimizers/a/digest").json["digest"]
        client.close()
        return digest

    def test_a_file_in_its_place(self):
        open(self.dir, "w").close()
        self.assertIn("irectory", self.refused())
        os.remove(self.dir)
        for name in ("journal", "snapshots"):
            os.mkdir(self.dir)
            open(os.path.join(self.dir, name), "w").close()
            self.assertIn(name, self.refused())
            os.remove(os.path.join(self.dir, name))
            subprocess.run(["rm", "-rf", self.dir], check=True)

    def test_no_directory_above_it(self):
        self.assertIn("No such file", self.refused(data_dir=os.path.join(self.base, "no", "data")))

    def test_a_second_server(self):
        server = self.start()
        self.fill(server)
        self.assertIn(f"process {server.process.pid}", self.refused())
        status, _, err = inspect(self.dir, "--check")
        self.assertNotEqual(status, 0)
        self.assertIn(str(server.process.pid), err)
        client = Client(server.port)
        self.assertEqual(client.ask("GET", "/readyz").status, 200)
        client.close()
        server.kill()
        self.assertEqual(digests(self.dir)["a"][0], 1)  # the lock went with it

    def test_nobody_else_may_read_it(self):
        umask = os.umask(0)
        try:
            server = self.start()
        finally:
            os.umask(umask)
        self.fill(server)
        server.stop()
        modes = {}
        for folder, folders, files in os.walk(self.dir):
            for name in files:
                modes[name] = stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode)
                self.assertEqual(modes[name], 0o600, name)
            self.assertEqual(stat.S_IMODE(os.stat(folder).st_mode), 0o700, folder)
        self.assertGreater(len(modes), 2)

    def test_a_symbolic_link_to_one_serves(self):
        real = os.path.join(self.base, "real")
        os.mkdir(real, 0o700)
        os.symlink(real, self.dir)
        server = self.start()
        digest = self.fill(server)
        self.refused(data_dir=real)
        server.kill()
        self.assertEqual(digests(real)["a"][1], digest)

    def digest(self, server):
        client = Client(server.port)
        digest = client.ask("GET", "/v1/optimizers/a/digest").json["digest"]
        client.close()
        return digest

    def step(self, server):
        client = Client(server.port)
        reply = client.ask("POST", "/v1/optimizers/a/step", {"grads": {"w": [2, 1]}})
        client.close()
        self.assertEqual(reply.status, 200, reply)
        return self.digest(server)

    def test_a_journal_that_is_turned_off_still_counts(self):
        server = self.start()
        self.fill(server)
        digest = self.step(server)
        server.kill()
        server = self.start("--journal", "off")
        self.assertEqual(self.digest(server), digest)
        digest = self.step(server)
        server.stop()
        for options in ((), ("--journal", "off"), ()):
            server = self.start(*options)
            self.assertEqual(self.digest(server), digest, options)
            server.stop()

    def test_one_that_cannot_be_written(self):
        server = self.start()
        digest = self.fill(server)
        server.stop()
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chmod(self.base, 0o755)
            done = subprocess.run([BINARY, "--port", "0", "--data-dir", self.dir], timeout=60,
                                  capture_output=True, user=nobody.pw_uid, group=nobody.pw_gid)
            self.assertEqual(done.returncode, 2)
            self.assertIn(b"ermission denied", done.stderr)
        else:
            os.chmod(self.dir, 0o500)
            self.assertIn("ermission denied", self.refused())
            os.chmod(self.dir, 0o700)
        self.assertEqual(digests(self.dir)["a"][1], digest)

    def test_too_little_memory_for_what_is_there(self):
        server = self.start()
        client = Client(server.port)
        n = 2_000_000
        body = pack({"w": floats(random.Random(1), n)}, {"optimizer": "{}"})
        self.assertEqual(client.ask("PUT", "/v1/optimizers/big", body, SAFETENSORS).status, 201)
        digest = client.ask("GET", "/v1/optimizers/big/digest").json["digest"]
        server.kill()
        said = self.refused("--max-memory", "16M")
        self.assertRegex(said, r"memory|budget")
        server = self.start()
        client = Client(server.port)
        self.assertEqual(client.ask("POST", "/v1/optimizers/big/snapshot").status, 200)
        client.close()
        server.stop()
        self.assertRegex(self.refused("--max-memory", "16M"), r"memory|budget")
        self.assertEqual(digests(self.dir)["big"][1], digest)


if __name__ == "__main__":
    unittest.main()
