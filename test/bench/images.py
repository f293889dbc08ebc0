"""The images of test/bench/pull: generated, the same on every machine, kept between runs.

`large` has 8 layers of 1 GB in all, half text and half what looks like programs, that gzip packs
about 3 : 1, in files of 100 bytes to 24 MB. `small` has 20,000 files of 2 KB on average. Both are
pushed into the storage directory of a registry; test/images/serve serves it.
"""

import fcntl
import hashlib
import importlib.machinery
import io
import json
import math
import multiprocessing
import pathlib
import random
import shutil
import subprocess
import sys
import tarfile
import types
import zlib

HERE = pathlib.Path(__file__).resolve().parent
TEST_IMAGES = HERE.parent / "images"
TIME = 1700000000
KB, MB = 1000, 1000 * 1000
POOL_BYTES = 24 * MB
# Uncompressed sizes: uneven, as a base, packages and an application are.
LARGE_LAYERS = [120, 60, 240, 180, 150, 130, 80, 40]
SMALL_LAYERS = [8000, 6000, 4000, 2000]  # Numbers of files.
GZIP, ZSTD = "gzip", "zstd"


def load(path):
    """A script without a suffix as a module."""
    sys.dont_write_bytecode = True
    name = path.name.replace("-", "_")
    module = types.ModuleType(name)
    module.__file__ = str(path)
    importlib.machinery.SourceFileLoader(name, str(path)).exec_module(module)
    return module


def zipf(count, exponent=1.0):
    """Cumulative weights of a vocabulary in which word n is used 1/n as often as the first."""
    total, sums = 0.0, []
    for rank in range(1, count + 1):
        total += 1 / rank ** exponent
        sums.append(total)
    return sums


def with_repeats(rng, tokens, exponent, size):
    """Tokens by Zipf's law, mixed with copies of what stood a little before, as lines and idioms
    come again in real files: without these nothing packs as well as those do."""
    pool = bytearray()
    weights = zipf(len(tokens), exponent)
    while len(pool) < size:
        for token in rng.choices(tokens, cum_weights=weights, k=5000):
            pool += token
            chance = rng.random()
            if chance < 0.045:
                start = max(0, len(pool) - 40 - int(chance / 0.045 * 20000))
                pool += pool[start:start + 20 + int(chance * 1e6) % 90]
    return bytes(pool[:size])


def text_pool(rng, size):
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = [("".join(rng.choices(letters, cum_weights=zipf(26, 0.7), k=rng.randint(2, 11))) +
              end).encode()
             for end in (" ", " ", " ", "\n", ", ", "();\n", " = ") for _ in range(3000)]
    rng.shuffle(words)
    return with_repeats(rng, words, 1.1, size)


def program_pool(rng, size):
    """Opcodes of a skewed table, some with a byte that differs from use to use."""
    table = [rng.randbytes(rng.randint(2, 7)) for _ in range(2500)]
    table += [opcode + bytes([rng.randrange(256)]) for opcode in table[:100] for _ in range(30)]
    return with_repeats(rng, table, 0.95, size)


class Archive:
    """One layer's tar archive in the making. Contents are slices of the pools: far enough apart
    that no compressor's window sees one twice."""

    def __init__(self, seed, pools):
        self.rng = random.Random(seed)
        self.pools = pools
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w", format=tarfile.USTAR_FORMAT)
        self.made = 0

    def add(self, name, kind=tarfile.REGTYPE, data=b"", mode=0o644, link=""):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.linkname, info.mtime = kind, mode, link, TIME + self.made
        info.size = len(data)
        self.tar.addfile(info, io.BytesIO(data))
        self.made += 1

    def content(self, size):
        pool = self.pools[self.rng.random() < 0.5]
        start = self.rng.randrange(len(pool))
        data = pool[start:start + size]
        while len(data) < size:
            data += pool[:size - len(data)]
        return data

    def file_size(self, typical, largest):
        """A log-normal spread: most files are small, most bytes are in large ones."""
        return min(largest, int(self.rng.lognormvariate(math.log(typical), 1.6)))

    def bytes(self):
        self.tar.close()
        return self.buffer.getvalue()


def large_layer(number, megabytes, pools):
    archive = Archive(f"large {number}", pools)
    left = megabytes * MB
    folder = top = f"layer{number}"
    archive.add(top, tarfile.DIRTYPE, mode=0o755)
    while left > 0:
        if archive.made % 12 == 0:
            folder = f"{top}/d{archive.made:05}"
            archive.add(folder, tarfile.DIRTYPE, mode=0o755)
        # A third of the bytes is in libraries and data of several megabytes.
        if archive.rng.random() < 0.0035:
            size = archive.rng.randrange(2 * MB, 24 * MB)
        else:
            size = archive.file_size(20 * KB, 4 * MB)
        name = f"{folder}/f{archive.made:05}"
        archive.add(name, data=archive.content(size), mode=0o755 if size > MB else 0o644)
        if archive.made % 25 == 0:
            archive.add(f"{folder}/l{archive.made:05}", tarfile.SYMTYPE, mode=0o777,
                        link=pathlib.Path(name).name)
        left -= size + 512
    return archive.bytes()


def small_layer(number, files, pools):
    archive = Archive(f"small {number}", pools)
    package = top = f"modules{number}"
    archive.add(top, tarfile.DIRTYPE, mode=0o755)
    for index in range(files):
        if index % 15 == 0:
            package = f"{top}/package{index:05}"
            archive.add(package, tarfile.DIRTYPE, mode=0o755)
            archive.add(f"{package}/lib", tarfile.DIRTYPE, mode=0o755)
        folder = package if index % 3 == 0 else f"{package}/lib"
        archive.add(f"{folder}/f{index:05}.js",
                    data=archive.content(archive.file_size(480, 200 * KB)))
    return archive.bytes()


def compress(archive, compression):
    if compression == ZSTD:  # Through a pipe, as builders do: the size is not announced.
        return subprocess.run(["zstd", "-q", "-3", "-c"], input=archive, capture_output=True,
                              check=True).stdout
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return packer.compress(archive) + packer.flush()


POOLS = []  # Made before the workers are forked, shared by them.


def make_layer(order):
    """One layer of an image in each compression: (diff ID, archive's size, blobs)."""
    kind, number, amount, compressions = order
    make = large_layer if kind == "large" else small_layer
    archive = make(number, amount, POOLS)
    return ("sha256:" + hashlib.sha256(archive).hexdigest(), len(archive),
            [compress(archive, compression) for compression in compressions])


def push_image(make, registry, tag, compression, layers):
    """`layers` is a list of (diff ID, blob)."""
    kind = {GZIP: "tar+gzip", ZSTD: "tar+zstd"}[compression]
    descriptors = []
    for _, blob in layers:
        registry.push_blob("bench", make.digest(blob), blob)
        descriptors.append({"mediaType": f"application/vnd.oci.image.layer.v1.{kind}",
                            "digest": make.digest(blob), "size": len(blob)})
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "created": "2023-11-14T22:13:20Z",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for diff_id, _ in layers]}}).encode()
    registry.push_blob("bench", make.digest(config), config)
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": make.OCI_MANIFEST,
        "config": {"mediaType": make.OCI_CONFIG, "digest": make.digest(config),
                   "size": len(config)}, "layers": descriptors}).encode()
    registry.push_manifest("bench", tag, make.OCI_MANIFEST, manifest)
    return {"name": tag, "compression": compression,
            "blobs": [descriptor["digest"] for descriptor in descriptors],
            "blob_bytes": sum(descriptor["size"] for descriptor in descriptors)}


def generate(directory, say):
    make = load(TEST_IMAGES / "make")
    rng = random.Random("pools")
    POOLS[:] = [text_pool(rng, POOL_BYTES), program_pool(rng, POOL_BYTES)]
    orders = [("large", number, amount, (GZIP, ZSTD))
              for number, amount in enumerate(LARGE_LAYERS)]
    orders += [("small", number, amount, (GZIP,)) for number, amount in enumerate(SMALL_LAYERS)]
    with multiprocessing.get_context("fork").Pool() as pool:
        made = []
        for result in pool.imap(make_layer, orders, chunksize=1):
            made.append(result)
            say(f"images: layer {len(made)} of {len(orders)}")
    server = subprocess.Popen([TEST_IMAGES / "serve", directory], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    try:
        registry = make.Registry(server.stdout.readline().strip())
        large, small = made[:len(LARGE_LAYERS)], made[len(LARGE_LAYERS):]
        images = []
        for tag, compression, layers, which in (("large-gzip", GZIP, large, 0),
                                                ("large-zstd", ZSTD, large, 1),
                                                ("small-gzip", GZIP, small, 0)):
            image = push_image(make, registry, tag, compression,
                               [(diff_id, blobs[which]) for diff_id, _, blobs in layers])
            image["archive_bytes"] = sum(size for _, size, _ in layers)
            images.append(image)
        return images
    finally:
        server.stdin.close()
        server.wait()


def blob_path(storage, digest):
    name = digest.split(":")[1]
    return storage / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"


def ensure(directory, say):
    """The images' descriptions; makes them in `directory` unless they are there."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    stamp = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()
    with open(f"{directory}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = directory / "images.json"
        if not done.exists() or json.loads(done.read_text())["stamp"] != stamp:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            say(f"images: making them in {directory} (a minute, once)")
            images = generate(directory, say)
            done.write_text(json.dumps({"stamp": stamp, "images": images}))
        return json.loads(done.read_text())["images"]
