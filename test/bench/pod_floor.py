"""What no pod can start faster than: the network plugin and the OCI runtime by hand, with the
configuration that crisp wrote for a container of its own."""

import json
import os
import pathlib
import statistics
import subprocess
import time

from surroundings import run

PLUGINS = pathlib.Path("/usr/lib/cni")


def timed(command, stdin=None, environment=None):
    """Milliseconds of one program that has to succeed."""
    begin = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, close_fds=False,
                          env=environment) as process:
        if stdin:
            process.stdin.write(stdin)
            process.stdin.close()
        ended = process.wait()  # A container keeps the other end of its standard error open.
        milliseconds = (time.monotonic() - begin) * 1000
        if ended:
            raise RuntimeError(f"{' '.join(map(str, command))}: {process.stderr.read(2000)}")
    return milliseconds


class Floor:
    """`bundle` is that of a running container; the pod's files and namespaces are used again, but
    for the network."""

    def __init__(self, environment, bundle):
        self.environment, self.bundle = environment, pathlib.Path(bundle)
        self.directory = pathlib.Path(environment["RUN"], "floor")
        self.spec = json.loads((self.bundle / "config.json").read_text())
        conflist = next(pathlib.Path(environment["CNI"], "conf").glob("*.conflist"))
        self.network = json.loads(conflist.read_text())
        self.started = []
        self.stages = {"plugin ADD": [], "crun create": [], "crun start": [], "up": []}

    def plugin(self, command, name, netns):
        network = {**self.network["plugins"][0], "cniVersion": self.network["cniVersion"],
                   "name": self.network["name"]}
        return timed([PLUGINS / network["type"]], json.dumps(network).encode(),
                     {"PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_CONTAINERID": name,
                      "CNI_NETNS": netns, "CNI_IFNAME": "eth0", "CNI_PATH": str(PLUGINS)})

    def crun(self, *arguments):
        return timed(["crun", "--root", self.directory / "state", *arguments], None,
                     {"PATH": os.environ["PATH"]})

    def write_bundle(self, name, netns):
        bundle = self.directory / name
        for folder in ("rootfs", "upper", "work"):
            (bundle / folder).mkdir(parents=True)
        mounted = next(line.split(" - ")[1].split()[2] for line in
                       pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
                       if line.split()[4] == str(self.bundle / "rootfs"))
        lower = next(option for option in mounted.split(",") if option.startswith("lowerdir"))
        run("mount", "-t", "overlay", "overlay", "-o",
            f"{lower},upperdir={bundle}/upper,workdir={bundle}/work", str(bundle / "rootfs"))
        spec = json.loads(json.dumps(self.spec))
        spec["root"]["path"] = str(bundle / "rootfs")
        spec["linux"]["cgroupsPath"] = f"{self.environment['CGROUP']}/floor/{name}"
        for namespace in spec["linux"]["namespaces"]:
            if namespace["type"] == "network" and netns:
                namespace["path"] = netns
        (bundle / "config.json").write_text(json.dumps(spec))
        return bundle

    def start(self, number, with_network):
        name, netns, address = f"floor{number}", "", f"{self.environment['NAME']}-floor{number}"
        if with_network:
            run("ip", "netns", "add", address)
            netns = f"/run/netns/{address}"
        bundle = self.write_bundle(name, netns)
        self.started.append((name, netns, address, bundle))
        stages = [self.plugin("ADD", address, netns) if with_network else 0.0,
                  self.crun("create", "--bundle", bundle, name), self.crun("start", name)]
        for stage, milliseconds in zip(self.stages, [*stages, sum(stages)]):
            self.stages[stage].append(milliseconds)

    def end(self, name, netns, address, bundle):
        subprocess.run(["crun", "--root", self.directory / "state", "delete", "--force", name],
                       capture_output=True, check=False)
        if netns:
            self.plugin("DEL", address, netns)
            run("ip", "netns", "delete", address)
        run("umount", str(bundle / "rootfs"))

    def measure(self, count, with_network):
        """{stage: median milliseconds}."""
        try:
            for number in range(count):
                self.start(number, with_network)
        finally:
            for pod in self.started:
                self.end(*pod)
        return {stage: statistics.median(values) for stage, values in self.stages.items()}
