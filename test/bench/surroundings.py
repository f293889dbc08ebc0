"""What test/bench/pull measures in and with: file systems, control groups, memory and CPU time."""

import ctypes
import os
import pathlib
import subprocess
import threading
import time

CGROUPS = pathlib.Path("/sys/fs/cgroup")
SAMPLE_SECONDS = 0.03
LIBC = ctypes.CDLL(None, use_errno=True)


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: "
                           f"{result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


class FreshDisk:
    """A new ext4 with a journal in a file, mounted on directory/disk. The file has no name any more
    once it is mounted: unmounting it, by whomever, leaves nothing behind."""

    def __init__(self, directory, gigabytes=8):
        self.point = directory / "disk"
        self.point.mkdir(exist_ok=True)
        file = directory / "disk.img"
        try:
            with open(file, "wb") as out:
                out.truncate(gigabytes << 30)
            # Nothing is left to be initialised in the background while somebody measures.
            run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(file))
            run("mount", "-o", "loop", str(file), str(self.point))
        finally:
            file.unlink(missing_ok=True)

    def sync(self):
        """Until everything written to it is on the disk."""
        fd = os.open(self.point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if LIBC.syncfs(fd) != 0:
                raise OSError(ctypes.get_errno(), "syncfs")
        finally:
            os.close(fd)

    def close(self):
        subprocess.run(["umount", str(self.point)], capture_output=True, check=False)


def drop_caches():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


class Group:
    """A control group whose processes' CPU time and memory are measured. `name` begins with the
    name of the test environment, whose end removes it."""

    def __init__(self, name):
        v1 = CGROUPS / "cpuacct"
        self.is_v1 = v1.is_dir()
        self.directory = (v1 if self.is_v1 else CGROUPS) / name.lstrip("/")
        (self.directory / "daemon").mkdir(parents=True, exist_ok=True)

    def join(self):
        """For the child between fork and exec."""
        (self.directory / "daemon/cgroup.procs").write_text("0")

    def cpu_seconds(self):
        if self.is_v1:
            return int((self.directory / "cpuacct.usage").read_text()) / 1e9
        for line in (self.directory / "cpu.stat").read_text().splitlines():
            if line.startswith("usage_usec "):
                return int(line.split()[1]) / 1e6
        return 0.0

    def pids(self):
        found = set()
        for directory, _, _ in os.walk(self.directory):
            try:
                found.update(map(int, pathlib.Path(directory, "cgroup.procs").read_text().split()))
            except OSError:
                pass
        return found


def machine_cpu_seconds():
    """CPU time that all the machine has used, without what it waited for."""
    user, nice, system, _, _, irq, softirq = map(
        int, pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def pss_kib(pid):
    """A process's proportional memory; 0 when it is gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


class MemorySampler:
    """The peak of the memory of a group's processes, while it is entered."""

    def __init__(self, group, daemon):
        self.group, self.daemon = group, daemon
        self.peak = self.daemon_peak = self.samples = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)

    def sample(self):
        while True:
            sizes = {pid: pss_kib(pid) for pid in self.group.pids()}
            self.peak = max(self.peak, sum(sizes.values()))
            self.daemon_peak = max(self.daemon_peak, sizes.get(self.daemon, 0))
            self.samples += 1
            if self.ended.wait(SAMPLE_SECONDS):
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def wait_until(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} does not answer within {seconds} s")
        time.sleep(0.02)
