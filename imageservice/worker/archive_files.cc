#include "imageservice/worker/archive_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/archive_index.h"
#include "imageservice/worker/entry_path.h"

namespace imageservice::worker {
namespace {

constexpr size_t kChunk = 256 << 10;

using SharedFd = std::shared_ptr<const base::UniqueFd>;

// Up to `size` bytes at `offset`: fewer only at the end of the file.
absl::StatusOr<size_t> ReadAt(int fd, uint64_t offset, char* buffer, size_t size) {
  size_t done = 0;
  while (done < size) {
    const ssize_t n = pread(fd, buffer + done, size - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno != EINTR) {
      return base::ErrnoStatus(errno, "read the archive");
    }
    if (n == 0) {
      break;
    }
    done += n > 0 ? static_cast<size_t>(n) : 0;
  }
  return done;
}

// What to do about a compressed archive: its files cannot be looked up in any order.
absl::Status CompressedError(std::string_view format, std::string_view command) {
  return absl::InvalidArgumentError(base::StrCat("it is compressed by ", format,
                                                 ", which is not read; try: ", command,
                                                 " FILE | crisp image load -"));
}

absl::Status CheckPlain(int fd) {
  char head[6] = {};
  ASSIGN_OR_RETURN(const size_t got, ReadAt(fd, 0, head, sizeof(head)));
  const std::string_view magic(head, got);
  if (magic.starts_with("\x1f\x8b")) return CompressedError("gzip", "gzip -dc");
  if (magic.starts_with("\x28\xb5\x2f\xfd")) return CompressedError("zstd", "zstd -dc");
  if (magic.starts_with("\xfd"
                        "7zXZ"))
    return CompressedError("xz", "xz -dc");
  if (magic.starts_with("BZh")) return CompressedError("bzip2", "bzip2 -dc");
  return absl::OkStatus();
}

class TarFiles final : public ArchiveFiles {
 public:
  TarFiles(SharedFd fd, ArchiveIndex index) : fd_(std::move(fd)), index_(std::move(index)) {}

  absl::StatusOr<ArchivedFile> Find(std::string_view path) const override {
    ASSIGN_OR_RETURN(const ArchiveExtent extent, index_.Find(path));
    return ArchivedFile(fd_, extent.offset, extent.size);
  }

 private:
  const SharedFd fd_;
  const ArchiveIndex index_;
};

class DirectoryFiles final : public ArchiveFiles {
 public:
  explicit DirectoryFiles(base::UniqueFd fd) : fd_(std::move(fd)) {}

  absl::StatusOr<ArchivedFile> Find(std::string_view path) const override {
    ASSIGN_OR_RETURN(base::UniqueFd opened, OpenBelow(std::string(path)));
    auto file = std::make_shared<const base::UniqueFd>(std::move(opened));
    struct stat found = {};
    if (fstat(file->get(), &found) != 0 || !S_ISREG(found.st_mode)) {
      return absl::InvalidArgumentError(base::StrCat("\"", path, "\" is no regular file"));
    }
    return ArchivedFile(std::move(file), 0, static_cast<uint64_t>(found.st_size));
  }

 private:
  // By one component after the other and no symlink. (openat2(2) would do it in one call, but which
  // of its calls only read, no list of system calls can tell.)
  absl::StatusOr<base::UniqueFd> OpenBelow(const std::string& path) const {
    ASSIGN_OR_RETURN(const std::string clean, CleanEntryPath(path));
    base::UniqueFd parent;
    size_t begin = 0;
    for (size_t slash; (slash = clean.find('/', begin)) != std::string::npos; begin = slash + 1) {
      ASSIGN_OR_RETURN(parent, base::OpenAt(parent.valid() ? parent.get() : fd_.get(),
                                            clean.substr(begin, slash - begin),
                                            O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    }
    return base::OpenAt(parent.valid() ? parent.get() : fd_.get(), clean.substr(begin),
                        O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW);
  }

  const base::UniqueFd fd_;
};

}  // namespace

absl::StatusOr<std::string> ArchivedFile::ReadAll(size_t max_bytes) const {
  if (size_ > max_bytes) {
    return absl::ResourceExhaustedError(
        base::StrCat("it has ", size_, " bytes, more than ", max_bytes));
  }
  std::string bytes(size_, '\0');
  ASSIGN_OR_RETURN(const size_t got, ReadAt(fd_->get(), offset_, bytes.data(), bytes.size()));
  bytes.resize(got);
  return bytes;
}

ByteSource ArchivedFile::Stream() const {
  return [fd = fd_, offset = offset_,
          left = size_](std::string* chunk) mutable -> absl::StatusOr<bool> {
    chunk->resize(std::min<uint64_t>(left, kChunk));
    if (left == 0) {
      return false;
    }
    ASSIGN_OR_RETURN(const size_t got, ReadAt(fd->get(), offset, chunk->data(), chunk->size()));
    if (got != chunk->size()) {
      return absl::DataLossError("the archive became shorter while it was read");
    }
    offset += got;
    left -= got;
    return true;
  };
}

absl::StatusOr<std::unique_ptr<ArchiveFiles>> ArchiveFiles::Open(base::UniqueFd fd) {
  struct stat found = {};
  if (fstat(fd.get(), &found) != 0) {
    return base::ErrnoStatus(errno, "look at the archive");
  }
  if (S_ISDIR(found.st_mode)) {
    return std::make_unique<DirectoryFiles>(std::move(fd));
  }
  if (!S_ISREG(found.st_mode)) {
    return absl::InvalidArgumentError("it is neither a file nor a directory");
  }
  RETURN_IF_ERROR(CheckPlain(fd.get()));
  auto shared = std::make_shared<const base::UniqueFd>(std::move(fd));
  const ArchiveIndex::ReadAt read = [&](uint64_t offset, char* buffer, size_t size) {
    return ReadAt(shared->get(), offset, buffer, size);
  };
  ASSIGN_OR_RETURN(ArchiveIndex index,
                   ArchiveIndex::Read(read, static_cast<uint64_t>(found.st_size)));
  return std::make_unique<TarFiles>(std::move(shared), std::move(index));
}

}  // namespace imageservice::worker
