// The index of an image archive, and the documents in it.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "base/unique_fd.h"
#include "imageservice/worker/archive_source.h"

namespace worker = imageservice::worker;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  base::UniqueFd fd(memfd_create("archive", MFD_CLOEXEC));
  if (write(fd.get(), data, size) != static_cast<ssize_t>(size)) {
    return 0;
  }
  const auto source = worker::ArchiveSource::Open(std::move(fd));
  if (!source.ok()) {
    return 0;
  }
  const auto images = (*source)->Images({"linux", "amd64", ""});
  if (!images.ok()) {
    return 0;
  }
  for (const worker::ArchivedImage& image : *images) {
    const auto manifest = (*source)->GetManifest(image.selector);
    if (manifest.ok() && manifest->digest.empty()) {
      abort();
    }
  }
  return 0;
}
