// What an unpacked layer and those below it show at a path, as overlayfs would.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace imageservice {

inline constexpr char kOpaqueXattr[] = "trusted.overlay.opaque";

// Opens `path` beneath `root` without following any symlink or crossing a mount.
absl::StatusOr<base::UniqueFd> OpenInLayer(int root, const std::string& path, int flags);

// fstat(2); `name` is for the error.
absl::StatusOr<struct stat> StatOf(int fd, std::string_view name);

bool IsWhiteout(const struct stat& info);

// "." and a name, or a folder and a name; and back again (an empty name: the folder).
std::pair<std::string, std::string> SplitLast(const std::string& path);
std::string JoinPath(const std::string& directory, std::string_view name);

// What one layer says about a path.
struct Sight {
  enum class Kind {
    kShown,   // The path is there.
    kHidden,  // It is not, and nothing below this layer shows through.
    kAbsent,  // The layers below decide.
  };
  Kind kind = Kind::kAbsent;
  struct stat info = {};
};

// One layer and those below it, open. The lower ones must not change while it exists. One thread.
class LayerView {
 public:
  // `lower` are the directories of the layers below, the topmost first; it must outlive the view.
  // After `max_lookups` lookups in directories each question fails with RESOURCE_EXHAUSTED: paths
  // are hostile, and a deep one below many layers takes hundreds of thousands.
  static absl::StatusOr<LayerView> Open(const std::string& directory,
                                        const std::vector<std::string>& lower,
                                        uint64_t max_lookups);

  // The root of the layer itself.
  int root() const { return layer_.get(); }

  // What the layer itself says about `path`.
  absl::StatusOr<Sight> Look(const std::string& path);

  // The root of the topmost lower layer that shows `path`, which stays the view's, and what is
  // there; NOT_FOUND if none does.
  absl::StatusOr<int> FindBelow(const std::string& path, struct stat* info);

  // Whether the directory `path` of this layer or one above it hides what the lower ones have.
  absl::StatusOr<bool> IsOpaque(const std::string& path);

  // `path` without the symlinks that this layer and, where this one has nothing, the lower ones
  // show; as chroot(2) would follow them. What this layer has at `ignored` does not count.
  absl::StatusOr<std::string> Resolve(const std::string& path, const std::string& ignored);

  // Counts work of the caller's that grows with what an archive asks for, too.
  absl::Status Spend(uint64_t lookups);

 private:
  // Indexes of lower layers, the topmost first.
  using Layers = std::vector<uint16_t>;

  absl::StatusOr<std::string> ReadSymlink(const std::string& path, const std::string& ignored);
  absl::StatusOr<int> LowerRoot(size_t index);
  absl::StatusOr<Layers> DirectoryBelow(const std::string& path);
  absl::StatusOr<Layers> NarrowDown(const Layers& parents, const std::string& path);
  void Remember(const std::string& path, const Layers& layers);

  base::UniqueFd layer_;
  const std::vector<std::string>* lower_ = nullptr;
  std::vector<base::UniqueFd> roots_;          // Of the lower layers, opened when first needed.
  std::map<std::string, Layers> directories_;  // What DirectoryBelow found.
  size_t remembered_bytes_ = 0;
  uint64_t max_lookups_ = 0;
  uint64_t lookups_ = 0;
};

}  // namespace imageservice
