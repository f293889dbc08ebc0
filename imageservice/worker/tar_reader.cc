#include "imageservice/worker/tar_reader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice::worker {
namespace {

constexpr size_t kBufferBytes = 256 << 10;
constexpr size_t kMaxWholeFile = 64 << 10;  // Files up to this size come in one piece.
constexpr int64_t kMaxSpecialBytes = 1 << 20;
constexpr size_t kMaxExtents = 1'000'000;
constexpr int64_t kMaxId = 0xfffffffe;  // The highest value means "leave it".
constexpr int64_t kMaxDevice = 0xfffff;

absl::Status Malformed(std::string_view what) {
  return absl::InvalidArgumentError(base::StrCat("the archive is damaged: ", what));
}

absl::Status EndsTooEarly() { return Malformed("it ends too early"); }

uint64_t PaddingOf(uint64_t size) { return (kTarBlock - size % kTarBlock) % kTarBlock; }

bool IsZero(std::string_view block) {
  return std::ranges::all_of(block, [](char c) { return c == '\0'; });
}

absl::StatusOr<ArchiveEntry::Type> TypeOf(const TarHeader& header) {
  using Type = ArchiveEntry::Type;
  switch (header.type) {
    case '\0':
      // Before there was a flag for directories, a slash made one.
      return header.path.ends_with('/') ? Type::kDirectory : Type::kFile;
    case '0':
    case '7':
    case 'S':
      return Type::kFile;
    case '1':
      return Type::kHardLink;
    case '2':
      return Type::kSymlink;
    case '3':
      return Type::kCharacterDevice;
    case '4':
      return Type::kBlockDevice;
    case '5':
      return Type::kDirectory;
    case '6':
      return Type::kFifo;
    default:
      return absl::InvalidArgumentError(base::StrCat(
          "an entry of type ", static_cast<unsigned>(static_cast<unsigned char>(header.type)),
          ", which no layer may have"));
  }
}

}  // namespace

TarReader::TarReader(int input) : input_(input), buffer_(kBufferBytes) {}

// Has `wanted` bytes, at most the buffer's size, in one piece; fewer only at the stream's end.
// Returns how many there are.
absl::StatusOr<size_t> TarReader::Fill(size_t wanted) {
  if (end_ - begin_ >= wanted) {
    return end_ - begin_;
  }
  memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  while (end_ < wanted) {
    const ssize_t n = read(input_, buffer_.data() + end_, buffer_.size() - end_);
    if (n == 0) {
      break;
    }
    if (n > 0) {
      end_ += static_cast<size_t>(n);
    } else if (errno != EINTR) {
      return base::ErrnoStatus(errno, "read the archive");
    }
  }
  return end_;
}

// Bytes that Fill has said are there.
std::string_view TarReader::Take(size_t size) {
  const std::string_view bytes(buffer_.data() + begin_, size);
  begin_ += size;
  return bytes;
}

absl::StatusOr<std::string_view> TarReader::TakeBlock() {
  ASSIGN_OR_RETURN(const size_t available, Fill(kTarBlock));
  if (available < kTarBlock) {
    return EndsTooEarly();
  }
  return Take(kTarBlock);
}

absl::Status TarReader::SkipContent() {
  while (stored_ > 0) {
    ASSIGN_OR_RETURN(const size_t available, Fill(1));
    if (available == 0) {
      return EndsTooEarly();
    }
    stored_ -= Take(std::min<uint64_t>(available, stored_)).size();
  }
  // Some programs leave out the filler after the last file.
  ASSIGN_OR_RETURN(const size_t available, Fill(padding_));
  Take(std::min<uint64_t>(available, padding_));
  padding_ = 0;
  return absl::OkStatus();
}

// The next header block, parsed; false at the end of the archive.
absl::StatusOr<bool> TarReader::ReadHeader(TarHeader* header) {
  RETURN_IF_ERROR(SkipContent());
  ASSIGN_OR_RETURN(size_t available, Fill(kTarBlock));
  if (available == 0) {
    return false;
  }
  ASSIGN_OR_RETURN(std::string_view block, TakeBlock());
  if (IsZero(block)) {
    // Two such blocks are the end mark. After one alone, readers would disagree.
    ASSIGN_OR_RETURN(available, Fill(kTarBlock));
    if (available >= kTarBlock && !IsZero(Take(kTarBlock))) {
      return Malformed("its end mark is incomplete");
    }
    return false;
  }
  header_block_ = block;
  ASSIGN_OR_RETURN(*header, ParseTarHeader(block));
  return true;
}

// The content of a header that only describes the next one.
absl::StatusOr<std::string> TarReader::ReadSpecial(const TarHeader& header) {
  if (header.size < 0 || header.size > kMaxSpecialBytes) {
    return absl::InvalidArgumentError(
        base::StrCat("an extended header has ", header.size, " bytes"));
  }
  stored_ = static_cast<uint64_t>(header.size);
  padding_ = PaddingOf(stored_);
  std::string content;
  content.reserve(stored_);
  while (stored_ > 0) {
    ASSIGN_OR_RETURN(const size_t available, Fill(1));
    if (available == 0) {
      return EndsTooEarly();
    }
    const std::string_view bytes = Take(std::min<uint64_t>(available, stored_));
    content += bytes;
    stored_ -= bytes.size();
  }
  return content;
}

absl::StatusOr<bool> TarReader::Next(ArchiveEntry* entry) {
  *entry = ArchiveEntry();
  PaxHeader pax;
  std::string long_path;
  std::string long_link;
  bool is_described = false;
  for (;;) {
    TarHeader header;
    ASSIGN_OR_RETURN(const bool is_there, ReadHeader(&header));
    if (!is_there) {
      return is_described ? absl::StatusOr<bool>(EndsTooEarly()) : false;
    }
    if (header.type != 'x' && header.type != 'g' && header.type != 'L' && header.type != 'K') {
      if (!long_path.empty()) header.path = std::move(long_path);
      if (!long_link.empty()) header.link = std::move(long_link);
      RETURN_IF_ERROR(FinishEntry(std::move(header), std::move(pax), entry));
      return true;
    }
    ASSIGN_OR_RETURN(const std::string content, ReadSpecial(header));
    if (header.type == 'g') {
      continue;
    }
    is_described = true;
    if (header.type == 'x') {
      ASSIGN_OR_RETURN(pax, ParsePaxHeader(content));
    } else {
      (header.type == 'L' ? long_path : long_link) = content.c_str();  // Up to the first NUL.
    }
  }
}

absl::Status TarReader::FinishEntry(TarHeader header, PaxHeader pax, ArchiveEntry* entry) {
  const bool is_pax_sparse = pax.has_sparse_map || pax.is_sparse_1_0;
  entry->path = pax.path.value_or(std::move(header.path));
  if (is_pax_sparse && pax.sparse_name.has_value()) {
    entry->path = *std::move(pax.sparse_name);
  }
  entry->link = pax.link.value_or(std::move(header.link));
  // The seventh edition's slash counts in the final name.
  header.path = entry->path;
  ASSIGN_OR_RETURN(entry->type, TypeOf(header));

  FileMetadata& metadata = entry->metadata;
  metadata.mode = static_cast<mode_t>(header.mode & 07777);
  const int64_t uid = pax.uid.value_or(header.uid);
  const int64_t gid = pax.gid.value_or(header.gid);
  if (uid < 0 || uid > kMaxId || gid < 0 || gid > kMaxId) {
    return absl::InvalidArgumentError(base::StrCat("the owner ", uid, ":", gid, " is impossible"));
  }
  metadata.uid = static_cast<uid_t>(uid);
  metadata.gid = static_cast<gid_t>(gid);
  metadata.mtime = pax.mtime.value_or(timespec{header.mtime, 0});
  metadata.atime = pax.atime.value_or(metadata.mtime);
  metadata.xattrs = std::move(pax.xattrs);
  if (entry->type == ArchiveEntry::Type::kCharacterDevice ||
      entry->type == ArchiveEntry::Type::kBlockDevice) {
    if (header.major < 0 || header.major > kMaxDevice || header.minor < 0 ||
        header.minor > kMaxDevice) {
      return absl::InvalidArgumentError(
          base::StrCat("the device ", header.major, ":", header.minor, " is impossible"));
    }
    entry->major = static_cast<uint32_t>(header.major);
    entry->minor = static_cast<uint32_t>(header.minor);
  }
  if (entry->type != ArchiveEntry::Type::kFile) {
    return absl::OkStatus();  // Nothing follows, whatever the size says.
  }
  if (header.size < 0) {
    return Malformed("a file has a negative size");
  }
  stored_ = pax.size.value_or(static_cast<uint64_t>(header.size));
  padding_ = PaddingOf(stored_);
  return PrepareContent(header.type == 'S', std::move(pax), entry);
}

// Sets what ReadContent and SkipContent need.
absl::Status TarReader::PrepareContent(bool is_old_sparse, PaxHeader pax, ArchiveEntry* entry) {
  entry->size = stored_;
  extent_ = 0;
  extents_.clear();
  if (is_old_sparse) {
    RETURN_IF_ERROR(ReadOldSparseMap(&extents_, entry));
  } else if (pax.is_sparse_1_0) {
    entry->size = pax.sparse_size.value_or(0);
    ASSIGN_OR_RETURN(extents_, ReadSparse10Map());
  } else if (pax.has_sparse_map) {
    entry->size = pax.sparse_size.value_or(0);
    extents_ = std::move(pax.extents);
  } else {
    extents_.push_back({0, stored_});
    return absl::OkStatus();
  }
  return CheckExtents(entry->size);
}

absl::Status TarReader::ReadOldSparseMap(std::vector<Extent>* extents, ArchiveEntry* entry) {
  ASSIGN_OR_RETURN(OldSparseMap map, ParseOldSparseMap(header_block_));
  *extents = std::move(map.extents);
  entry->size = map.size;
  for (bool has_more = map.has_more; has_more;) {
    if (extents->size() > kMaxExtents) {
      return absl::InvalidArgumentError("a sparse file has too many extents");
    }
    // These blocks stand between header and content and do not count as content.
    ASSIGN_OR_RETURN(const std::string_view block, TakeBlock());
    ASSIGN_OR_RETURN(has_more, ParseOldSparseExtension(block, extents));
  }
  return absl::OkStatus();
}

// One number on a line of its own; `block` is what is unread of the map's present block.
absl::StatusOr<uint64_t> TarReader::ReadNumberLine(std::string_view* block) {
  std::string line;
  for (;;) {
    if (block->empty()) {
      if (stored_ < kTarBlock) {
        return Malformed("a sparse file without its map");
      }
      stored_ -= kTarBlock;
      ASSIGN_OR_RETURN(*block, TakeBlock());
    }
    const char c = block->front();
    block->remove_prefix(1);
    if (c == '\n') {
      break;
    }
    line += c;
    if (c < '0' || c > '9' || line.size() > 20) {
      return Malformed("a sparse file with a malformed map");
    }
  }
  uint64_t value = 0;
  if (!absl::SimpleAtoi(line, &value)) {
    return Malformed("a sparse file with a malformed map");
  }
  return value;
}

absl::StatusOr<std::vector<Extent>> TarReader::ReadSparse10Map() {
  std::string_view block;
  ASSIGN_OR_RETURN(const uint64_t count, ReadNumberLine(&block));
  if (count > kMaxExtents) {
    return absl::InvalidArgumentError("a sparse file has too many extents");
  }
  std::vector<Extent> extents;
  for (uint64_t i = 0; i < count; ++i) {
    Extent extent;
    ASSIGN_OR_RETURN(extent.offset, ReadNumberLine(&block));
    ASSIGN_OR_RETURN(extent.size, ReadNumberLine(&block));
    extents.push_back(extent);
  }
  return extents;
}

// Extents must rise, lie within the file and take exactly what is stored.
absl::Status TarReader::CheckExtents(uint64_t size) const {
  uint64_t end = 0;
  uint64_t sum = 0;
  for (const Extent& extent : extents_) {
    if (extent.offset < end || extent.offset > size || extent.size > size - extent.offset) {
      return Malformed("a sparse file whose extents do not fit it");
    }
    end = extent.offset + extent.size;
    sum += extent.size;
  }
  if (sum != stored_) {
    return Malformed("a sparse file whose extents are not what is stored");
  }
  return absl::OkStatus();
}

absl::StatusOr<TarReader::Piece> TarReader::ReadContent() {
  while (extent_ < extents_.size() && extents_[extent_].size == 0) {
    ++extent_;
  }
  if (stored_ == 0 || extent_ == extents_.size()) {
    return Piece();
  }
  Extent& extent = extents_[extent_];
  const uint64_t wanted = extent.size <= kMaxWholeFile ? extent.size : 1;
  ASSIGN_OR_RETURN(const size_t available, Fill(wanted));
  if (available < wanted) {
    return EndsTooEarly();
  }
  const Piece piece = {extent.offset, Take(std::min<uint64_t>(available, extent.size))};
  extent.offset += piece.bytes.size();
  extent.size -= piece.bytes.size();
  stored_ -= piece.bytes.size();
  return piece;
}

absl::Status TarReader::Drain() {
  for (;;) {
    begin_ = end_;
    ASSIGN_OR_RETURN(const size_t available, Fill(1));
    if (available == 0) {
      return absl::OkStatus();
    }
  }
}

}  // namespace imageservice::worker
