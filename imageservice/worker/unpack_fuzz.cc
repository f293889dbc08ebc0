// Any bytes as an archive: nothing may happen outside the layer's folder.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "base/files.h"
#include "imageservice/worker/tar_header.h"
#include "imageservice/worker/unpack.h"

namespace {

// A folder on tmpfs if there is one, with a witness beside the layer.
std::string MakePlace() {
  char name[] = "/dev/shm/crisp-unpack-fuzz.XXXXXX";
  if (mkdtemp(name) == nullptr) {
    abort();
  }
  return name;
}

// Rights the checksum of a header, which no mutation would hit.
void RightChecksum(uint8_t* block) {
  memset(block + 148, ' ', 8);
  unsigned sum = 0;
  for (size_t i = 0; i < imageservice::worker::kTarBlock; ++i) {
    sum += block[i];
  }
  for (size_t i = 148 + 6; i-- > 148; sum /= 8) {
    block[i] = static_cast<uint8_t>('0' + sum % 8);
  }
  block[154] = '\0';
}

}  // namespace

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned) {
  size = LLVMFuzzerMutate(data, size, max_size);
  using imageservice::worker::kTarBlock;
  for (size_t at = 0; at + kTarBlock <= size; at += kTarBlock) {
    if (memcmp(data + at + 257, "ustar", 5) == 0) {
      RightChecksum(data + at);
    }
  }
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string place = MakePlace();
  const std::string root = place + "/root";
  if (mkdir(root.c_str(), 0755) != 0) {
    abort();
  }
  const base::UniqueFd archive(memfd_create("archive", MFD_CLOEXEC));
  const base::UniqueFd directory(open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!archive.valid() || write(archive.get(), data, size) != static_cast<ssize_t>(size)) {
    abort();
  }
  lseek(archive.get(), 0, SEEK_SET);
  imageservice::worker::UnpackLayer(archive.get(), directory.get(), 1000).status().IgnoreError();
  const auto entries = base::ListDirectory(place);
  if (!entries.ok() || entries->size() != 1 || !base::RemoveTree(root).ok()) {
    abort();
  }
  return 0;
}
