// Any bytes as an archive: nothing may happen outside the layer's folder.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "base/files.h"
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

}  // namespace

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
