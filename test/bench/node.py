"""A node to measure daemons on: a test environment with one network plugin, and a registry."""

import json
import os
import pathlib
import subprocess

from surroundings import run

TOP = pathlib.Path(__file__).resolve().parent.parent.parent


class Node:
    """`environment` holds what test/environment create printed; `address` is the registry's."""

    def __init__(self, build):
        self.build, self.registry = build, None
        self.environment = dict(
            line.split("=", 1) for line in
            run(str(TOP / "test/environment"), "create", "--owner", str(os.getpid())).splitlines())
        try:
            self.serve()
        except BaseException:
            self.close()
            raise

    def serve(self):
        images = run(str(TOP / "test/images/make"), "critest").strip()
        self.registry = subprocess.Popen(
            [TOP / "test/images/serve", images, "--registries-conf",
             f"{self.environment['RUN']}/registries.conf"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self.registry.stdout.readline().strip()
        if not self.address:
            raise RuntimeError("the registry does not start")
        conflist = next(pathlib.Path(self.environment["CNI"], "conf").glob("*.conflist"))
        network = json.loads(conflist.read_text())
        network["plugins"] = network["plugins"][:1]
        network["plugins"][0]["ipam"]["ranges"] = [[{"subnet": self.environment["SUBNET"]}]]
        conflist.write_text(json.dumps(network))

    def close(self):
        if self.registry is not None:
            self.registry.stdin.close()
            self.registry.wait()
        run(str(TOP / "test/environment"), "destroy", self.environment["NAME"])


def pids_named(name):
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if pathlib.Path("/proc", entry, "comm").read_text().strip() == name[:15]:
                    yield int(entry)
            except OSError:
                pass


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""
