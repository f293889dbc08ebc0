#include "imageservice/worker/archive_index.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/entry_path.h"
#include "imageservice/worker/tar_header.h"

namespace imageservice::worker {
namespace {

constexpr size_t kBlock = kTarBlock;
constexpr size_t kMaxEntries = 100'000;
constexpr uint64_t kMaxNameBytes = 32 << 20;
constexpr uint64_t kMaxExtendedHeader = 1 << 20;
constexpr int kMaxLinks = 16;

using Block = std::array<char, kBlock>;

std::string Printable(std::string_view name) {
  return absl::CHexEscape(base::ToAbsl(name.substr(0, 300)));
}

}  // namespace

// One pass over the headers.
class ArchiveIndexReader {
 public:
  ArchiveIndexReader(const ArchiveIndex::ReadAt& read, uint64_t file_bytes)
      : read_(read), file_bytes_(file_bytes) {}

  absl::StatusOr<ArchiveIndex> Run() {
    for (size_t entries = 0;; ++entries) {
      if (entries > kMaxEntries) {
        return absl::ResourceExhaustedError(base::StrCat("more than ", kMaxEntries,
                                                         " entries: no archive of images has so "
                                                         "many"));
      }
      Block header;
      ASSIGN_OR_RETURN(const size_t got, read_(offset_, header.data(), kBlock));
      if (got == 0 && offset_ > 0) {
        return std::move(index_);  // Without an end mark: what is missing will be missed.
      }
      if (got < kBlock) {
        return absl::InvalidArgumentError(offset_ == 0 ? "it is no tar archive"
                                                       : "the archive is cut off");
      }
      if (std::ranges::all_of(header, [](char c) { return c == '\0'; })) {
        index_.has_end_ = true;
        return std::move(index_);
      }
      RETURN_IF_ERROR(ReadEntry(header));
    }
  }

 private:
  absl::Status ReadEntry(const Block& block) {
    const absl::StatusOr<TarHeader> header = ParseTarHeader({block.data(), block.size()});
    if (!header.ok()) {
      return offset_ == 0
                 ? absl::InvalidArgumentError("it is no tar archive")
                 : base::Annotate(header.status(),
                                  base::StrCat("the archive is damaged at byte ", offset_));
    }
    const char type = header->type;
    const bool is_extension = type == 'x' || type == 'g' || type == 'L' || type == 'K';
    // Links and directories have no content, whatever their size says.
    const bool has_no_content = type >= '1' && type <= '6';
    const uint64_t said = is_extension || !extension_.size.has_value()
                              ? static_cast<uint64_t>(header->size)
                              : *extension_.size;
    const uint64_t size = has_no_content ? 0 : said;
    const uint64_t begin = offset_ + kBlock;
    const std::string name = extension_.path.value_or(header->path);
    if (header->size < 0 || size > file_bytes_ || begin + size > file_bytes_) {
      return absl::InvalidArgumentError(base::StrCat("the archive is cut off: entry \"",
                                                     Printable(name), "\" of ", size,
                                                     " bytes ends beyond it"));
    }
    offset_ = begin + (size + kBlock - 1) / kBlock * kBlock;
    if (is_extension) {
      return ReadExtension(type, begin, size);
    }
    const PaxHeader extension = std::exchange(extension_, {});
    if (type == '1' || type == '2') {
      return AddLink(name, type, extension.link.value_or(header->link));
    }
    if (type == 'S' || extension.sparse_size.has_value() || extension.has_sparse_map) {
      return absl::InvalidArgumentError(
          base::StrCat("entry \"", Printable(name), "\" is sparse, which is not supported here"));
    }
    const bool is_file = type == '0' || type == '\0' || type == '7';
    return is_file ? Add(name, {.extent = {begin, size}, .target = ""}) : absl::OkStatus();
  }

  absl::Status ReadExtension(char type, uint64_t begin, uint64_t size) {
    if (type == 'g') {
      return absl::OkStatus();  // Comments; a name or size for all entries makes no sense.
    }
    if (size > kMaxExtendedHeader) {
      return absl::InvalidArgumentError(base::StrCat("an extended header of ", size, " bytes"));
    }
    std::string text(size, '\0');
    ASSIGN_OR_RETURN(const size_t got, read_(begin, text.data(), size));
    if (got != size) {
      return absl::InvalidArgumentError("the archive is cut off");
    }
    if (type == 'x') {
      ASSIGN_OR_RETURN(extension_, ParsePaxHeader(text));
      return absl::OkStatus();
    }
    text.resize(strnlen(text.data(), text.size()));
    (type == 'L' ? extension_.path : extension_.link) = std::move(text);
    return absl::OkStatus();
  }

  absl::Status AddLink(const std::string& name, char type, const std::string& target) {
    // A symlink is relative to its directory, a hard link to the archive.
    std::string path = target;
    if (type == '2' && !target.starts_with('/')) {
      const size_t slash = name.rfind('/');
      path = base::StrCat(slash == std::string::npos ? "" : name.substr(0, slash + 1), target);
    }
    const absl::StatusOr<std::string> clean = CleanEntryPath(path);
    if (!clean.ok() || target.empty() || target.starts_with('/')) {
      return absl::InvalidArgumentError(base::StrCat("the link \"", Printable(name),
                                                     "\" leads out of the archive: \"",
                                                     Printable(target), "\""));
    }
    return Add(name, {.extent = {}, .target = *clean});
  }

  absl::Status Add(const std::string& name, ArchiveIndex::Entry entry) {
    const absl::StatusOr<std::string> clean = CleanEntryPath(name);
    if (!clean.ok() || name.empty() || name.starts_with('/') || name.find('\0') != name.npos) {
      return absl::InvalidArgumentError(
          base::StrCat("entry \"", Printable(name), "\" leads out of the archive"));
    }
    return index_.Add(*clean, std::move(entry));
  }

  const ArchiveIndex::ReadAt& read_;
  const uint64_t file_bytes_;
  uint64_t offset_ = 0;
  PaxHeader extension_;
  ArchiveIndex index_;
};

absl::StatusOr<ArchiveIndex> ArchiveIndex::Read(const ReadAt& read, uint64_t file_bytes) {
  return ArchiveIndexReader(read, file_bytes).Run();
}

// Of two entries of one name the later counts, as when the archive is unpacked.
absl::Status ArchiveIndex::Add(const std::string& path, Entry entry) {
  name_bytes_ += path.size() + entry.target.size();
  if (name_bytes_ > kMaxNameBytes) {
    return absl::ResourceExhaustedError(
        base::StrCat("the names in the archive are longer than ", kMaxNameBytes, " bytes"));
  }
  entries_[path] = std::move(entry);
  return absl::OkStatus();
}

absl::StatusOr<ArchiveExtent> ArchiveIndex::Find(std::string_view path) const {
  ASSIGN_OR_RETURN(std::string wanted, CleanEntryPath(path));
  for (int links = 0; links <= kMaxLinks; ++links) {
    const auto found = entries_.find(wanted);
    if (found == entries_.end()) {
      return absl::NotFoundError(base::StrCat(
          "the archive has no \"", Printable(wanted), "\"",
          has_end_ ? "" : ", and it has no end mark either: it may have been cut off"));
    }
    if (found->second.target.empty()) {
      return found->second.extent;
    }
    wanted = found->second.target;
  }
  return absl::InvalidArgumentError(
      base::StrCat("the links at \"", Printable(path), "\" lead in circles"));
}

}  // namespace imageservice::worker
