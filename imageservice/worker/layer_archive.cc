#include "imageservice/worker/layer_archive.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "imageservice/worker/file_metadata.h"
#include "imageservice/worker/tar_writer.h"

namespace imageservice::worker {
namespace {

constexpr size_t kChunk = 256 << 10;
constexpr size_t kMaxDepth = 300;  // An unpacked layer has at most 256.
constexpr char kOpaqueXattr[] = "trusted.overlay.opaque";

bool IsWhiteout(const struct stat& found) {
  return S_ISCHR(found.st_mode) && found.st_rdev == makedev(0, 0);
}

absl::StatusOr<std::vector<std::string>> SortedNames(int directory) {
  const int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(copy < 0 ? nullptr : fdopendir(copy), closedir);
  if (stream == nullptr) {
    return base::ErrnoStatus(errno, "list the directory");
  }
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") {
      names.emplace_back(name);
    }
  }
  if (errno != 0) {
    return base::ErrnoStatus(errno, "list the directory");
  }
  std::ranges::sort(names);
  return names;
}

// The xattrs of what `file` is, which may be open by O_PATH only: by its name in /proc, which leads
// to the file itself, also when that is a symlink.
absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ReadXattrs(int file) {
  const std::string path = base::StrCat("/proc/self/fd/", file);
  std::vector<std::pair<std::string, std::string>> xattrs;
  std::string names(64 << 10, '\0');
  const ssize_t size = listxattr(path.c_str(), names.data(), names.size());
  if (size < 0) {
    if (errno == ENOTSUP) return xattrs;
    return base::ErrnoStatus(errno, "list the xattrs");
  }
  names.resize(static_cast<size_t>(size));
  std::string value(64 << 10, '\0');
  for (size_t begin = 0; begin < names.size();) {
    const std::string name = names.c_str() + begin;
    begin += name.size() + 1;
    // A name with "=" cannot stand in a record.
    if (!IsAllowedXattr(name) || name.find('=') != std::string::npos) {
      continue;
    }
    const ssize_t got = getxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (got < 0) {
      return base::ErrnoStatus(errno, base::StrCat("read xattr ", name));
    }
    xattrs.emplace_back(name, value.substr(0, static_cast<size_t>(got)));
  }
  std::ranges::sort(xattrs);
  return xattrs;
}

class LayerWriter {
 public:
  explicit LayerWriter(const ArchiveSink& sink) : sink_(sink), buffer_(kChunk, '\0') {}

  // The directory at `path` (empty: the root) and what is below it.
  absl::Status AddDirectory(int directory, const std::string& path, size_t depth) {
    if (depth > kMaxDepth) {
      return absl::InvalidArgumentError("the layer's directories are nested too deep");
    }
    struct stat found = {};
    if (fstat(directory, &found) != 0) {
      return base::ErrnoStatus(errno, "look at the directory");
    }
    TarFile file = Describe(found, path.empty() ? "." : path);
    file.type = TarFile::Type::kDirectory;
    ASSIGN_OR_RETURN(file.xattrs, ReadXattrs(directory));
    RETURN_IF_ERROR(sink_(TarFileHeader(file)));
    const std::string prefix = path.empty() ? "" : path + "/";
    char opaque = '\0';
    if (fgetxattr(directory, kOpaqueXattr, &opaque, 1) == 1 && opaque == 'y') {
      RETURN_IF_ERROR(sink_(TarFileHeader({.path = prefix + ".wh..wh..opq"})));
    }
    ASSIGN_OR_RETURN(const std::vector<std::string> names, SortedNames(directory));
    for (const std::string& name : names) {
      RETURN_IF_ERROR(AddEntry(directory, name, prefix + name, depth));
    }
    return absl::OkStatus();
  }

 private:
  static TarFile Describe(const struct stat& found, const std::string& path) {
    TarFile file;
    file.path = path;
    file.mode = found.st_mode & 07777;
    file.uid = found.st_uid;
    file.gid = found.st_gid;
    file.mtime = found.st_mtim;
    return file;
  }

  absl::Status AddEntry(int parent, const std::string& name, const std::string& path,
                        size_t depth) {
    struct stat found = {};
    if (fstatat(parent, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) {
      return base::ErrnoStatus(errno, "look at the file");
    }
    if (S_ISDIR(found.st_mode)) {
      ASSIGN_OR_RETURN(const base::UniqueFd directory,
                       base::OpenAt(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      return AddDirectory(directory.get(), path, depth + 1);
    }
    return base::Annotate(AddLeaf(parent, name, path, found),
                          base::StrCat("\"", absl::CHexEscape(path), "\""));
  }

  absl::Status AddLeaf(int parent, const std::string& name, const std::string& path,
                       const struct stat& found) {
    if (IsWhiteout(found)) {
      const size_t name_begin = path.size() - name.size();
      return sink_(TarFileHeader({.path = path.substr(0, name_begin) + ".wh." + name}));
    }
    if (S_ISSOCK(found.st_mode)) {
      return absl::OkStatus();
    }
    TarFile file = Describe(found, path);
    if (found.st_nlink > 1) {
      const auto [first, is_new] = links_.try_emplace({found.st_dev, found.st_ino}, path);
      if (!is_new) {
        file.type = TarFile::Type::kHardLink;
        file.link = first->second;
        return sink_(TarFileHeader(file));
      }
    }
    return S_ISREG(found.st_mode) ? AddFile(parent, name, found, std::move(file))
                                  : AddSpecial(parent, name, found, std::move(file));
  }

  absl::Status AddFile(int parent, const std::string& name, const struct stat& found,
                       TarFile file) {
    ASSIGN_OR_RETURN(const base::UniqueFd opened,
                     base::OpenAt(parent, name, O_RDONLY | O_NOFOLLOW));
    ASSIGN_OR_RETURN(file.xattrs, ReadXattrs(opened.get()));
    file.size = static_cast<uint64_t>(found.st_size);
    RETURN_IF_ERROR(sink_(TarFileHeader(file)));
    for (uint64_t left = file.size; left > 0;) {
      const ssize_t n =
          read(opened.get(), buffer_.data(), std::min<uint64_t>(left, buffer_.size()));
      if (n < 0 && errno == EINTR) {
        continue;
      }
      if (n <= 0) {
        return n < 0 ? base::ErrnoStatus(errno, "read the file")
                     : absl::DataLossError("the file became shorter while it was read");
      }
      left -= static_cast<uint64_t>(n);
      RETURN_IF_ERROR(sink_(std::string_view(buffer_).substr(0, static_cast<size_t>(n))));
    }
    return sink_(TarPadding(file.size));
  }

  // A symlink, device or FIFO.
  absl::Status AddSpecial(int parent, const std::string& name, const struct stat& found,
                          TarFile file) {
    ASSIGN_OR_RETURN(const base::UniqueFd opened, base::OpenAt(parent, name, O_PATH | O_NOFOLLOW));
    ASSIGN_OR_RETURN(file.xattrs, ReadXattrs(opened.get()));
    if (S_ISLNK(found.st_mode)) {
      file.type = TarFile::Type::kSymlink;
      file.mode = 0777;
      const ssize_t length = readlinkat(parent, name.c_str(), buffer_.data(), buffer_.size());
      if (length < 0) {
        return base::ErrnoStatus(errno, "read the symlink");
      }
      file.link = buffer_.substr(0, static_cast<size_t>(length));
    } else if (S_ISFIFO(found.st_mode)) {
      file.type = TarFile::Type::kFifo;
    } else {
      file.type =
          S_ISCHR(found.st_mode) ? TarFile::Type::kCharacterDevice : TarFile::Type::kBlockDevice;
      file.device = found.st_rdev;
    }
    return sink_(TarFileHeader(file));
  }

  const ArchiveSink& sink_;
  std::string buffer_;
  // Files with several names: the first of them.
  std::map<std::pair<dev_t, ino_t>, std::string> links_;
};

}  // namespace

absl::Status WriteLayerArchive(int root, const ArchiveSink& sink) {
  LayerWriter writer(sink);
  RETURN_IF_ERROR(writer.AddDirectory(root, "", 0));
  return sink(TarEnd());
}

}  // namespace imageservice::worker
