#include "imageservice/worker/archive_output.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <utility>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/tar_writer.h"

namespace imageservice::worker {
namespace {

constexpr size_t kBufferBytes = 1 << 20;
constexpr char kPartial[] = "blobs/sha256/partial";

// A blob's header is written when its bytes are: back at where it began.
class TarOutput final : public ArchiveOutput {
 public:
  explicit TarOutput(base::UniqueFd fd) : fd_(std::move(fd)) {}

  absl::Status BeginBlob() override {
    blob_begin_ = position_;
    return Write(TarBlobHeader("", 0));
  }

  absl::Status Write(std::string_view bytes) override {
    position_ += bytes.size();
    if (buffer_.size() + bytes.size() <= kBufferBytes) {
      buffer_.append(bytes);
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(Flush());
    return base::WriteAll(fd_.get(), bytes, "the archive");
  }

  absl::Status EndBlob(const std::string& digest) override {
    const std::string path = BlobPath(digest);
    if (!blobs_.insert(path).second) {
      return Rewind(blob_begin_);
    }
    const std::string header = TarBlobHeader(path, 0);
    const uint64_t size = position_ - blob_begin_ - header.size();
    RETURN_IF_ERROR(Write(TarPadding(size)));
    RETURN_IF_ERROR(Flush());
    return PutHeader(TarBlobHeader(path, size));
  }

  absl::Status AddFile(const std::string& path, std::string_view content) override {
    RETURN_IF_ERROR(Write(TarBlobHeader(path, content.size())));
    RETURN_IF_ERROR(Write(content));
    return Write(TarPadding(content.size()));
  }

  absl::Status Finish() override {
    RETURN_IF_ERROR(Write(TarEnd()));
    RETURN_IF_ERROR(Flush());
    return fsync(fd_.get()) == 0 ? absl::OkStatus() : base::ErrnoStatus(errno, "sync the archive");
  }

 private:
  absl::Status Flush() {
    RETURN_IF_ERROR(base::WriteAll(fd_.get(), buffer_, "the archive"));
    buffer_.clear();
    return absl::OkStatus();
  }

  absl::Status PutHeader(std::string_view header) {
    const ssize_t n =
        pwrite(fd_.get(), header.data(), header.size(), static_cast<off_t>(blob_begin_));
    return n == static_cast<ssize_t>(header.size())
               ? absl::OkStatus()
               : base::ErrnoStatus(n < 0 ? errno : ENOSPC, "write the archive");
  }

  absl::Status Rewind(uint64_t position) {
    RETURN_IF_ERROR(Flush());
    const auto offset = static_cast<off_t>(position);
    if (ftruncate(fd_.get(), offset) != 0 || lseek(fd_.get(), offset, SEEK_SET) != offset) {
      return base::ErrnoStatus(errno, "write the archive");
    }
    position_ = position;
    return absl::OkStatus();
  }

  const base::UniqueFd fd_;
  std::string buffer_;
  uint64_t position_ = 0;  // Of the next byte, those in the buffer counted.
  uint64_t blob_begin_ = 0;
  std::set<std::string> blobs_;
};

class DirectoryOutput final : public ArchiveOutput {
 public:
  explicit DirectoryOutput(base::UniqueFd fd) : fd_(std::move(fd)) {}

  absl::Status MakeFolders() {
    for (const char* folder : {"blobs", "blobs/sha256"}) {
      if (mkdirat(fd_.get(), folder, 0755) != 0) {
        return base::ErrnoStatus(errno, base::StrCat("make ", folder));
      }
    }
    return absl::OkStatus();
  }

  absl::Status BeginBlob() override {
    ASSIGN_OR_RETURN(
        blob_, base::OpenAt(fd_.get(), kPartial, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644));
    return absl::OkStatus();
  }

  absl::Status Write(std::string_view bytes) override {
    return base::WriteAll(blob_.get(), bytes, "a blob");
  }

  absl::Status EndBlob(const std::string& digest) override {
    if (fsync(blob_.get()) != 0 ||
        renameat(fd_.get(), kPartial, fd_.get(), BlobPath(digest).c_str()) != 0) {
      return base::ErrnoStatus(errno, base::StrCat("complete ", BlobPath(digest)));
    }
    blob_.Reset();
    return absl::OkStatus();
  }

  absl::Status AddFile(const std::string& path, std::string_view content) override {
    ASSIGN_OR_RETURN(const base::UniqueFd file,
                     base::OpenAt(fd_.get(), path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644));
    RETURN_IF_ERROR(base::WriteAll(file.get(), content, path));
    return fsync(file.get()) == 0 ? absl::OkStatus()
                                  : base::ErrnoStatus(errno, base::StrCat("sync ", path));
  }

  absl::Status Finish() override {
    return fsync(fd_.get()) == 0 ? absl::OkStatus() : base::ErrnoStatus(errno, "sync the layout");
  }

 private:
  const base::UniqueFd fd_;
  base::UniqueFd blob_;
};

}  // namespace

std::string BlobPath(std::string_view digest) {
  return base::StrCat("blobs/sha256/", digest.substr(digest.find(':') + 1));
}

absl::StatusOr<std::unique_ptr<ArchiveOutput>> ArchiveOutput::Create(base::UniqueFd fd) {
  struct stat found = {};
  if (fstat(fd.get(), &found) != 0) {
    return base::ErrnoStatus(errno, "look at the output");
  }
  if (S_ISREG(found.st_mode) && found.st_size == 0) {
    return std::make_unique<TarOutput>(std::move(fd));
  }
  if (!S_ISDIR(found.st_mode)) {
    return absl::InvalidArgumentError("the output is neither an empty file nor a directory");
  }
  auto output = std::make_unique<DirectoryOutput>(std::move(fd));
  RETURN_IF_ERROR(output->MakeFolders());
  return output;
}

}  // namespace imageservice::worker
