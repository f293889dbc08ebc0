"""What no pull can be faster than: each stage alone, by the usual tools, in the same run."""

import concurrent.futures
import hashlib
import http.client
import os
import pathlib
import shutil
import subprocess
import time

from images import GZIP, blob_path
from surroundings import FreshDisk, drop_caches

BUFFER = 1 << 20


def timed(function, *arguments):
    begin = time.monotonic()
    function(*arguments)
    return time.monotonic() - begin


def all_at_once(function, items, workers):
    """The largest first, so that the last does not begin when the others end."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        list(pool.map(function, items))


def download(address, digest):
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.request("GET", f"/v2/bench/blobs/{digest}")
    response = connection.getresponse()
    buffer = bytearray(BUFFER)
    while response.readinto(buffer):
        pass
    connection.close()


def sha256(path):
    with open(path, "rb") as file:
        hashlib.file_digest(file, "sha256")


def inflate_command(compression):
    """The fastest tool there is for it."""
    if compression != GZIP:
        return ["zstd", "-q", "-d", "-c"]
    return ["igzip", "-d", "-c"] if shutil.which("igzip") else ["gzip", "-d", "-c"]


def inflate(command, path, out=subprocess.DEVNULL):
    with open(path, "rb") as file:
        subprocess.run(command, stdin=file, stdout=out, check=True)


def extract(command, path, directory):
    directory.mkdir()
    with open(path, "rb") as file, \
            subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE) as inflater:
        subprocess.run(["tar", "-x", "-f", "-", "-C", directory], stdin=inflater.stdout, check=True)
        inflater.stdout.close()


def extract_all(command, paths, disk, workers):
    all_at_once(lambda item: extract(command, item[1], disk.point / str(item[0])),
                list(enumerate(paths)), workers)
    disk.sync()


def measure(image, storage, address, directory):
    """[(what, seconds)] of one image. Fresh disks are mounted in `directory`."""
    cores = os.cpu_count() or 1
    paths = sorted((blob_path(storage, digest) for digest in image["blobs"]),
                   key=lambda path: path.stat().st_size, reverse=True)
    command = inflate_command(image["compression"])
    found = [("download, 3 at once",
              timed(all_at_once, lambda name: download(address, name), image["blobs"], 3)),
             ("sha256 of the blobs, one core", timed(all_at_once, sha256, paths, 1))]
    for workers in (1, cores):
        found.append((f"{command[0]}, {workers} core{'s' if workers > 1 else ''}",
                      timed(all_at_once, lambda path: inflate(command, path), paths, workers)))
    for workers in (1, cores):
        disk = FreshDisk(pathlib.Path(directory))
        try:
            drop_caches()
            found.append((f"{command[0]} | tar -x, {workers} at once, and sync",
                          timed(extract_all, command, paths, disk, workers)))
        finally:
            disk.close()
    return found
