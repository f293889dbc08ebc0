#include "imageservice/worker/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice::worker {
namespace {

constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kOpaqueName = ".wh..wh..opq";
constexpr std::string_view kAufsPrefix = ".wh..wh.";
constexpr size_t kMaxXattrs = 1000;

// The descriptor libarchive reads from, and the buffer it reads through.
struct Input {
  int fd;
  std::vector<char> buffer = std::vector<char>(64 << 10);
};

ssize_t ReadInput(struct archive*, void* data, const void** block) {
  auto* input = static_cast<Input*>(data);
  *block = input->buffer.data();
  for (;;) {
    const ssize_t n = read(input->fd, input->buffer.data(), input->buffer.size());
    if (n >= 0 || errno != EINTR) {
      return n;
    }
  }
}

struct FreeArchive {
  void operator()(struct archive* archive) const { archive_read_free(archive); }
};

absl::Status ArchiveStatus(struct archive* archive) {
  const char* message = archive_error_string(archive);
  return absl::InvalidArgumentError(
      base::StrCat("the archive is damaged: ", message != nullptr ? message : "unknown error"));
}

// A timestamp the kernel takes; 1970 for one it does not.
timespec Time(bool is_set, time_t seconds, long nanoseconds) {
  if (!is_set || nanoseconds < 0 || nanoseconds >= 1'000'000'000) {
    nanoseconds = 0;
  }
  return {is_set ? seconds : 0, nanoseconds};
}

absl::StatusOr<FileMetadata> Metadata(archive_entry* entry) {
  FileMetadata metadata;
  metadata.mode = archive_entry_mode(entry) & 07777;
  const int64_t uid = archive_entry_uid(entry);
  const int64_t gid = archive_entry_gid(entry);
  constexpr int64_t kMaxId = 0xfffffffe;  // The highest value means "leave it".
  if (uid < 0 || uid > kMaxId || gid < 0 || gid > kMaxId) {
    return absl::InvalidArgumentError(base::StrCat("the owner ", uid, ":", gid, " is impossible"));
  }
  metadata.uid = static_cast<uid_t>(uid);
  metadata.gid = static_cast<gid_t>(gid);
  metadata.mtime = Time(archive_entry_mtime_is_set(entry) != 0, archive_entry_mtime(entry),
                        archive_entry_mtime_nsec(entry));
  metadata.atime = archive_entry_atime_is_set(entry) != 0
                       ? Time(true, archive_entry_atime(entry), archive_entry_atime_nsec(entry))
                       : metadata.mtime;
  archive_entry_xattr_reset(entry);
  const char* name = nullptr;
  const void* value = nullptr;
  size_t size = 0;
  while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
    if (metadata.xattrs.size() >= kMaxXattrs) {
      return absl::InvalidArgumentError("too many xattrs");
    }
    metadata.xattrs.emplace_back(name, std::string(static_cast<const char*>(value), size));
  }
  return metadata;
}

// The content of one file, with its holes.
absl::Status WriteContent(struct archive* archive, archive_entry* entry, int file) {
  for (;;) {
    const void* block = nullptr;
    size_t size = 0;
    la_int64_t offset = 0;
    const int result = archive_read_data_block(archive, &block, &size, &offset);
    if (result == ARCHIVE_EOF) {
      break;
    }
    if (result < ARCHIVE_WARN) {
      return ArchiveStatus(archive);
    }
    const auto* bytes = static_cast<const char*>(block);
    while (size > 0) {
      const ssize_t n = pwrite(file, bytes, size, offset);
      if (n < 0 && errno != EINTR) {
        return base::ErrnoStatus(errno, "write the file");
      }
      const size_t written = n > 0 ? static_cast<size_t>(n) : 0;
      bytes += written;
      size -= written;
      offset += static_cast<la_int64_t>(written);
    }
  }
  // A hole at the end has no block.
  if (ftruncate(file, archive_entry_size(entry)) != 0) {
    return base::ErrnoStatus(errno, "set the size of the file");
  }
  return absl::OkStatus();
}

// Whether `path` is a whiteout or other mark, which is then dealt with.
absl::StatusOr<bool> HandleMark(const std::string& path, LayerTree* tree) {
  for (size_t begin = 0; begin < path.size();) {
    const size_t slash = std::min(path.find('/', begin), path.size());
    const std::string_view component = std::string_view(path).substr(begin, slash - begin);
    const bool is_last = slash == path.size();
    const std::string parent = begin == 0 ? "." : path.substr(0, begin - 1);
    if (is_last && component == kOpaqueName) {
      RETURN_IF_ERROR(tree->AddOpaque(parent));
      return true;
    }
    if (component.starts_with(kAufsPrefix)) {
      return true;  // What aufs notes for itself.
    }
    if (component.starts_with(kWhiteoutPrefix)) {
      const std::string name(component.substr(kWhiteoutPrefix.size()));
      if (!is_last || name.empty() || name == "." || name == "..") {
        return absl::InvalidArgumentError("a malformed whiteout");
      }
      RETURN_IF_ERROR(tree->AddWhiteout(begin == 0 ? name : base::StrCat(parent, "/", name)));
      return true;
    }
    begin = slash + 1;
  }
  return false;
}

absl::Status AddHardLink(const std::string& path, const char* target, LayerTree* tree) {
  absl::StatusOr<std::string> clean = CleanEntryPath(target);
  if (!clean.ok()) {
    return base::Annotate(clean.status(), "the target of the hard link");
  }
  return tree->AddHardLink(path, *clean);
}

absl::Status AddEntry(struct archive* archive, archive_entry* entry, const std::string& path,
                      LayerTree* tree) {
  ASSIGN_OR_RETURN(const bool is_mark, HandleMark(path, tree));
  if (is_mark) {
    return absl::OkStatus();
  }
  if (const char* target = archive_entry_hardlink(entry); target != nullptr) {
    return AddHardLink(path, target, tree);
  }
  ASSIGN_OR_RETURN(const FileMetadata metadata, Metadata(entry));
  const mode_t type = archive_entry_filetype(entry);
  switch (type) {
    case AE_IFDIR:
      return tree->AddDirectory(path, metadata);
    case AE_IFREG: {
      ASSIGN_OR_RETURN(const base::UniqueFd file, tree->AddFile(path));
      RETURN_IF_ERROR(WriteContent(archive, entry, file.get()));
      return tree->CompleteFile(file.get(), metadata);
    }
    case AE_IFLNK: {
      // libarchive loses a target of which the old header has not one letter.
      const char* target = archive_entry_symlink(entry);
      if (target == nullptr || *target == '\0') {
        return absl::InvalidArgumentError("the symlink has no readable target");
      }
      return tree->AddSymlink(path, target, metadata);
    }
    case AE_IFCHR:
    case AE_IFBLK:
    case AE_IFIFO: {
      const dev_t device = type == AE_IFIFO
                               ? 0
                               : makedev(static_cast<unsigned>(archive_entry_rdevmajor(entry)),
                                         static_cast<unsigned>(archive_entry_rdevminor(entry)));
      return tree->AddNode(path, type, device, metadata);
    }
    default:
      return absl::InvalidArgumentError(base::StrCat("the file type ", type, " is unknown"));
  }
}

// A name for messages, of any bytes and length.
std::string Printable(const char* path) {
  return absl::CHexEscape(absl::string_view(path).substr(0, 300));
}

absl::Status UnpackEntries(struct archive* archive, LayerTree* tree, uint64_t max_entries) {
  for (uint64_t entries = 0;; ++entries) {
    archive_entry* entry = nullptr;
    const int result = archive_read_next_header(archive, &entry);
    if (result == ARCHIVE_EOF) {
      return absl::OkStatus();
    }
    if (result == ARCHIVE_RETRY || result < ARCHIVE_WARN) {
      return ArchiveStatus(archive);
    }
    if (entries >= max_entries) {
      return absl::ResourceExhaustedError(
          base::StrCat("the layer has more than ", max_entries, " entries"));
    }
    // A warning says that a name is not ASCII; the name is then as the archive has it.
    const char* path = archive_entry_pathname(entry);
    if (path == nullptr) {
      return absl::InvalidArgumentError("an entry of the archive has no name");
    }
    absl::StatusOr<std::string> clean = CleanEntryPath(path);
    const absl::Status status =
        clean.ok() ? AddEntry(archive, entry, *clean, tree) : clean.status();
    if (!status.ok()) {
      return base::Annotate(status, base::StrCat("entry \"", Printable(path), "\""));
    }
  }
}

absl::Status Drain(Input* input) {
  for (;;) {
    const void* block = nullptr;
    const ssize_t n = ReadInput(nullptr, input, &block);
    if (n < 0) {
      return base::ErrnoStatus(errno, "read the archive");
    }
    if (n == 0) {
      return absl::OkStatus();
    }
  }
}

}  // namespace

absl::StatusOr<LayerTree::Summary> UnpackLayer(int input_fd, int root, uint64_t max_entries) {
  umask(0);
  Input input{.fd = input_fd};
  const std::unique_ptr<struct archive, FreeArchive> archive(archive_read_new());
  if (archive == nullptr || archive_read_support_format_tar(archive.get()) != ARCHIVE_OK ||
      archive_read_support_format_empty(archive.get()) != ARCHIVE_OK) {
    return absl::InternalError("no archive reader");
  }
  if (archive_read_open(archive.get(), &input, nullptr, ReadInput, nullptr) != ARCHIVE_OK) {
    return ArchiveStatus(archive.get());
  }
  LayerTree tree(root);
  RETURN_IF_ERROR(UnpackEntries(archive.get(), &tree, max_entries));
  // The writer's digest covers what follows the end mark too, so it must be able to write it.
  RETURN_IF_ERROR(Drain(&input));
  return tree.Finish();
}

}  // namespace imageservice::worker
