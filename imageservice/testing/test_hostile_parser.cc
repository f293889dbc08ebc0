// For tests: an archive's parser that was taken over by its archive. It replaces unpack.cc in
// crisp-hostile-pull-worker. An archive is a text: "attack <name> <arguments>" or anything else,
// which becomes the file "content" of the layer.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <sstream>
#include <string>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "imageservice/testing/test_break_out.h"
#include "imageservice/worker/unpack.h"

namespace imageservice::worker {
namespace {

using Kind = DeferredOperation::Kind;
using Summary = LayerTree::Summary;

constexpr int kMostFds = 64;

absl::Status WriteIn(int root, const char* name, const std::string& text) {
  const base::UniqueFd file(openat(root, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!file.valid()) {
    return base::ErrnoStatus(errno, name);
  }
  return base::WriteAll(file.get(), text, name);
}

// Says `words` to the verifier, by whatever descriptor that may be.
void Say(const std::string& words) {
  for (int fd = 3; fd < kMostFds; ++fd) {
    write(fd, words.data(), words.size());
  }
}

Summary Deferring(Kind kind, const std::string& path, const std::string& target = "") {
  Summary summary;
  summary.deferred.push_back({.kind = kind, .path = path, .target = target});
  return summary;
}

[[noreturn]] void Linger() {
  for (int fd = 0; fd < kMostFds; ++fd) {
    close(fd);
  }
  for (;;) {
    poll(nullptr, 0, 1000);
  }
}

absl::StatusOr<Summary> Attack(const std::string& name, std::istream& arguments, int root) {
  std::string first;
  std::string second;
  arguments >> first >> second;
  if (name == "break-out") {
    // A success shows in the layer.
    RETURN_IF_ERROR(WriteIn(root, "report", testing::BreakOut(testing::TargetOfEnvironment())));
    return Summary();
  }
  if (name == "defer") {
    return Deferring(first == "opaque" ? Kind::kOpaque
                     : first == "copy" ? Kind::kCopyMetadata
                                       : Kind::kHardLink,
                     second, "content");
  }
  if (name == "defer-link") {  // Through a symlink that it makes, to the folder given.
    if (symlinkat(second.c_str(), root, "link") != 0) {
      return base::ErrnoStatus(errno, "symlink");
    }
    return first == "opaque" ? Deferring(Kind::kOpaque, "link")
           : first == "copy" ? Deferring(Kind::kCopyMetadata, "link/inner")
           : first == "from" ? Deferring(Kind::kHardLink, "stolen", "link/file")
                             : Deferring(Kind::kHardLink, "link/planted", "content");
  }
  if (name == "sizes") {
    return Summary{.bytes = std::numeric_limits<int64_t>::max(),
                   .inodes = std::numeric_limits<int64_t>::max()};
  }
  if (name == "garbage") {
    Say("{\"type\":");
    _exit(0);
  }
  if (name == "claims-to-be-verified") {
    Say(Encode(LayerMessage(Verified{.diff_id = first})));
    _exit(second == "fails" ? 1 : 0);
  }
  if (name == "talks") {
    const std::string words(1 << 20, ' ');
    for (;;) {
      Say(words);
    }
  }
  if (name == "lingers") {
    Linger();
  }
  if (name == "crashes") {
    abort();
  }
  if (name == "eats-memory") {
    for (size_t total = 0;; total += 64 << 20) {
      void* memory =
          mmap(nullptr, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED) {
        return absl::ResourceExhaustedError(base::StrCat("stopped at ", total >> 20, " MiB"));
      }
    }
  }
  return absl::InternalError("no such attack");
}

}  // namespace

absl::StatusOr<LayerTree::Summary> UnpackLayer(int input, int root, uint64_t) {
  ASSIGN_OR_RETURN(const std::string archive, base::ReadFd(input, "archive", 1 << 30));
  RETURN_IF_ERROR(WriteIn(root, "content", archive.substr(0, 4096)));
  std::istringstream words(archive);
  std::string verb;
  std::string name;
  words >> verb >> name;
  return verb == "attack" ? Attack(name, words, root) : Summary{.bytes = 4096, .inodes = 2};
}

}  // namespace imageservice::worker
