#include "imageservice/store/disk_usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include <cerrno>
#include <cmath>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"

namespace imageservice {
namespace {

using base::UniqueFd;

constexpr uint64_t kBlock = 512;  // The unit of st_blocks.
constexpr size_t kMaxWaiting = 16 << 20;
constexpr size_t kLongestStep = 4000;  // The kernel takes a path of 4095 bytes.

// Opens a directory of the tree however long its path is. Containers fill these trees.
absl::StatusOr<UniqueFd> OpenBelow(int root, std::string_view path) {
  UniqueFd at;
  for (;;) {
    const bool last = path.size() <= kLongestStep;
    const size_t end = last ? path.size() : path.rfind('/', kLongestStep);
    ASSIGN_OR_RETURN(
        at, base::OpenBeneath(at.valid() ? at.get() : root, std::string(path.substr(0, end)),
                              O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
                              RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV));
    if (last) {
      return at;
    }
    path.remove_prefix(end + 1);
  }
}

class Measurement {
 public:
  absl::StatusOr<DiskUsage> Run(const std::string& directory, const std::atomic<bool>& stop) {
    ASSIGN_OR_RETURN(const UniqueFd root,
                     base::Open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    struct stat info = {};
    if (fstat(root.get(), &info) != 0) {
      return base::ErrnoStatus(errno, base::StrCat("stat ", directory));
    }
    Add(info);
    waiting_.emplace_back(".");
    while (!waiting_.empty()) {
      if (stop) {
        return absl::CancelledError(base::StrCat("measure ", directory));
      }
      const std::string path = std::move(waiting_.back());
      waiting_.pop_back();
      waiting_bytes_ -= path.size();
      if (absl::StatusOr<UniqueFd> fd = OpenBelow(root.get(), path); fd.ok()) {
        RETURN_IF_ERROR(AddEntries(*std::move(fd), path));
      }  // Else it has gone.
    }
    return DiskUsage{.bytes = usage_.bytes + static_cast<uint64_t>(std::llround(shared_bytes_)),
                     .inodes = usage_.inodes + static_cast<uint64_t>(std::llround(shared_inodes_))};
  }

 private:
  void Add(const struct stat& info) {
    const uint64_t bytes = static_cast<uint64_t>(info.st_blocks) * kBlock;
    if (S_ISDIR(info.st_mode) || info.st_nlink < 2) {
      usage_ += {.bytes = bytes, .inodes = 1};
    } else {  // Each name takes its share, so that no inode number has to be remembered.
      shared_bytes_ += static_cast<double>(bytes) / static_cast<double>(info.st_nlink);
      shared_inodes_ += 1.0 / static_cast<double>(info.st_nlink);
    }
  }

  absl::Status AddEntries(UniqueFd fd, const std::string& path) {
    const std::unique_ptr<DIR, int (*)(DIR*)> listing(fdopendir(fd.get()), closedir);
    if (listing == nullptr) {
      return base::ErrnoStatus(errno, "list a directory");
    }
    const int directory = fd.Release();
    while (const dirent* entry = readdir(listing.get())) {
      const std::string_view name = entry->d_name;
      struct stat info = {};
      if (name == "." || name == ".." ||
          fstatat(directory, entry->d_name, &info, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0) {
        continue;
      }
      Add(info);
      if (S_ISDIR(info.st_mode)) {
        waiting_.push_back(base::StrCat(path, "/", name));
        waiting_bytes_ += waiting_.back().size();
      }
      if (waiting_bytes_ > kMaxWaiting) {
        return absl::ResourceExhaustedError("too many directories to measure");
      }
    }
    return absl::OkStatus();
  }

  DiskUsage usage_;
  double shared_bytes_ = 0;
  double shared_inodes_ = 0;
  std::vector<std::string> waiting_;  // Directories seen, not yet listed.
  size_t waiting_bytes_ = 1;
};

}  // namespace

absl::StatusOr<DiskUsage> MeasureTree(const std::string& directory, const std::atomic<bool>& stop) {
  return Measurement().Run(directory, stop);
}

}  // namespace imageservice
