"""The daemons that test/bench compares: each on a fresh ext4, asked through the CRI."""

import pathlib
import re
import signal
import subprocess
import time

from surroundings import (FreshDisk, Group, MemorySampler, drop_caches, machine_cpu_seconds,
                          pss_kib, wait_until)

CONTAINERD_CONFIG = """version = 2
root = "{root}"
state = "{run}/containerd"
oom_score = 0

[grpc]
  address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{run}/containerd-opt"

[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  sandbox_image = "{sandbox_image}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{run}/cni/conf"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
      BinaryName = "crun"
      Root = "{run}/crun"
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "crun"
"""
PLUGINS = "/usr/lib/cni"


class Result:
    """What one pull took."""

    def __init__(self):
        self.seconds = self.pull_seconds = self.cpu_seconds = 0.0
        # The registry's, the kernel's that writes to the disk, and that of whatever else runs here.
        self.others_cpu_seconds = 0.0
        self.peak_kib = self.daemon_peak_kib = self.before_kib = self.after_kib = 0
        self.log = ""


class Daemon:
    """One daemon process. `environment` holds what test/environment create printed."""

    name = monitor_name = ""

    def __init__(self, environment, build):
        self.environment, self.build = environment, build
        self.run, self.var = pathlib.Path(environment["RUN"]), pathlib.Path(environment["VAR"])
        self.group = Group(f"{environment['CGROUP']}/{self.name}")
        self.log_path = self.run / f"{self.name}.log"
        self.process = self.disk = None

    def command(self):
        raise NotImplementedError

    def socket(self):
        raise NotImplementedError

    def client(self, *arguments):
        return subprocess.run([self.build / "bin/crisp-client", "--socket", self.socket(),
                               *arguments], capture_output=True, text=True, check=False)

    def start(self):
        self.disk = FreshDisk(self.var)
        with open(self.log_path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, start_new_session=True,
                                            preexec_fn=self.group.join)
        try:
            wait_until(lambda: self.client("version").returncode == 0, self.name)
        except RuntimeError as error:
            raise RuntimeError(f"{error}: {self.log_path.read_text()[-2000:]}") from error

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.disk is not None:
            self.disk.close()
        self.process = self.disk = None

    def measure(self, reference):
        """A pull on a fresh disk with cold caches; the time includes what must still be synced."""
        result = Result()
        self.start()
        try:
            drop_caches()
            result.before_kib = pss_kib(self.process.pid)
            cpu, machine = self.group.cpu_seconds(), machine_cpu_seconds()
            with MemorySampler(self.group, self.process.pid) as sampler:
                begin = time.monotonic()
                answer = self.client("pull", reference)
                result.pull_seconds = time.monotonic() - begin
                self.disk.sync()
                result.seconds = time.monotonic() - begin
            if answer.returncode != 0:
                raise RuntimeError(f"{self.name}: {answer.stderr.strip()}\n"
                                   f"{self.log_path.read_text()[-2000:]}")
            result.cpu_seconds = self.group.cpu_seconds() - cpu
            result.others_cpu_seconds = machine_cpu_seconds() - machine - result.cpu_seconds
            result.peak_kib, result.daemon_peak_kib = sampler.peak, sampler.daemon_peak
            result.after_kib = pss_kib(self.process.pid)
        finally:
            self.stop()
        result.log = self.log_path.read_text(errors="replace")
        return result


class Crisp(Daemon):
    name = "crisp"
    monitor_name = "crisp-monitor"

    def command(self):
        return [self.build / "bin/crisp", "--config", self.environment["CONFIG"]]

    def socket(self):
        return self.environment["SOCKET"]

    def start(self):
        config = pathlib.Path(self.environment["CONFIG"])
        # The group that is measured holds the workers too where there is one tree of groups.
        text = config.read_text()
        for key, value in {"work_cgroup": f"{self.environment['CGROUP']}/{self.name}/work",
                           "root": self.var / "disk/root", "log_level": "info"}.items():
            text = re.sub(f"^{key} = .*$", f'{key} = "{value}"', text, flags=re.M)
        config.write_text(text)
        super().start()


class Containerd(Daemon):
    """With crun and Debian's plugins, as crisp. Pods need `sandbox_image`."""

    name = "containerd"
    monitor_name = "containerd-shim-runc-v2"
    sandbox_image = "none"

    def command(self):
        # What it inflates with, its own code or a program that is found, is the installation's.
        return ["containerd", "--config", self.run / "containerd.toml"]

    def socket(self):
        return str(self.run / "containerd.sock")

    def start(self):
        (self.run / "containerd.toml").write_text(CONTAINERD_CONFIG.format(
            root=self.var / "disk/root", run=self.run, socket=self.socket(), plugins=PLUGINS,
            sandbox_image=self.sandbox_image))
        super().start()
