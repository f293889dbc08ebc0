#include "imageservice/worker/unpack.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/tar_reader.h"

namespace imageservice::worker {
namespace {

constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kOpaqueName = ".wh..wh..opq";
constexpr std::string_view kAufsPrefix = ".wh..wh.";
constexpr uint64_t kWriteBackBytes = 256 << 10;

// The content of one file, with its holes.
absl::Status WriteContent(TarReader* reader, const ArchiveEntry& entry, int file) {
  uint64_t end = 0;
  for (;;) {
    ASSIGN_OR_RETURN(TarReader::Piece piece, reader->ReadContent());
    if (piece.bytes.empty()) {
      break;
    }
    while (!piece.bytes.empty()) {
      const ssize_t n =
          pwrite(file, piece.bytes.data(), piece.bytes.size(), static_cast<off_t>(piece.offset));
      if (n < 0 && errno != EINTR) {
        return base::ErrnoStatus(errno, "write the file");
      }
      const size_t written = n > 0 ? static_cast<size_t>(n) : 0;
      piece.bytes.remove_prefix(written);
      piece.offset += written;
    }
    end = piece.offset;
  }
  // What a pull has to sync at its end is little when the disk has worked meanwhile. A hint, whose
  // errors are the sync's; smaller files are written faster together.
  if (end >= kWriteBackBytes) {
    sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE);
  }
  // A hole at the end has no piece.
  if (end != entry.size && ftruncate(file, static_cast<off_t>(entry.size)) != 0) {
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

absl::Status AddHardLink(const std::string& path, const std::string& target, LayerTree* tree) {
  absl::StatusOr<std::string> clean = CleanEntryPath(target);
  if (!clean.ok()) {
    return base::Annotate(clean.status(), "the target of the hard link");
  }
  return tree->AddHardLink(path, *clean);
}

absl::Status AddEntry(TarReader* reader, const ArchiveEntry& entry, const std::string& path,
                      LayerTree* tree) {
  using Type = ArchiveEntry::Type;
  ASSIGN_OR_RETURN(const bool is_mark, HandleMark(path, tree));
  if (is_mark) {
    return absl::OkStatus();
  }
  const FileMetadata& metadata = entry.metadata;
  switch (entry.type) {
    case Type::kFile: {
      ASSIGN_OR_RETURN(const base::UniqueFd file, tree->AddFile(path, metadata));
      RETURN_IF_ERROR(WriteContent(reader, entry, file.get()));
      return tree->CompleteFile(file.get(), metadata);
    }
    case Type::kHardLink:
      return AddHardLink(path, entry.link, tree);
    case Type::kSymlink:
      if (entry.link.empty()) {
        return absl::InvalidArgumentError("the symlink has no target");
      }
      return tree->AddSymlink(path, entry.link, metadata);
    case Type::kCharacterDevice:
      return tree->AddDevice(path, LayerTree::Device::kCharacter, entry.major, entry.minor,
                             metadata);
    case Type::kBlockDevice:
      return tree->AddDevice(path, LayerTree::Device::kBlock, entry.major, entry.minor, metadata);
    case Type::kDirectory:
      return tree->AddDirectory(path, metadata);
    case Type::kFifo:
      return tree->AddFifo(path, metadata);
  }
  return absl::InternalError("an unknown type of entry");
}

// Adds to an error which entry it is about: a name of any bytes and length.
absl::Status AboutEntry(const absl::Status& status, const std::string& path) {
  return base::Annotate(status,
                        base::StrCat("entry \"", absl::CHexEscape(path.substr(0, 300)), "\""));
}

absl::Status UnpackEntries(TarReader* reader, LayerTree* tree, uint64_t max_entries) {
  ArchiveEntry entry;
  for (uint64_t entries = 0;; ++entries) {
    const absl::StatusOr<bool> has_entry = reader->Next(&entry);
    if (!has_entry.ok()) {
      return entry.path.empty() ? has_entry.status() : AboutEntry(has_entry.status(), entry.path);
    }
    if (!*has_entry) {
      return absl::OkStatus();
    }
    if (entries >= max_entries) {
      return absl::ResourceExhaustedError(
          base::StrCat("the layer has more than ", max_entries, " entries"));
    }
    const absl::StatusOr<std::string> path = CleanEntryPath(entry.path);
    RETURN_IF_ERROR(
        AboutEntry(path.ok() ? AddEntry(reader, entry, *path, tree) : path.status(), entry.path));
  }
}

}  // namespace

absl::StatusOr<LayerTree::Summary> UnpackLayer(int input, int root, uint64_t max_entries) {
  umask(0);
  TarReader reader(input);
  LayerTree tree(root);
  RETURN_IF_ERROR(UnpackEntries(&reader, &tree, max_entries));
  // The writer's digest covers what follows the end mark too, so it must be able to write it.
  RETURN_IF_ERROR(reader.Drain());
  return tree.Finish();
}

}  // namespace imageservice::worker
