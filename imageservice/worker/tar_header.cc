#include "imageservice/worker/tar_header.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice::worker {
namespace {

constexpr size_t kMaxXattrs = 1000;
constexpr int64_t kMaxInt64 = std::numeric_limits<int64_t>::max();

absl::Status Malformed(std::string_view what) {
  return absl::InvalidArgumentError(base::StrCat("the archive is damaged: ", what));
}

// A text field ends at its first NUL.
std::string Text(std::string_view field) {
  return std::string(field.substr(0, std::min(field.find('\0'), field.size())));
}

absl::StatusOr<int64_t> ParseBase256(std::string_view field) {
  const bool is_negative = (field[0] & 0x40) != 0;
  uint64_t value = 0;
  for (size_t i = 0; i < field.size(); ++i) {
    // Of the first byte the highest bit is the mark; a negative number is read inverted.
    auto byte = static_cast<unsigned char>(is_negative ? ~field[i] : field[i]);
    byte = static_cast<unsigned char>(i == 0 ? byte & 0x7f : byte);
    if (value >> 55 != 0) {
      return Malformed("a number is too large");
    }
    value = value << 8 | byte;
  }
  return is_negative ? ~static_cast<int64_t>(value) : static_cast<int64_t>(value);
}

bool HasRightChecksum(std::string_view block) {
  constexpr size_t kBegin = 148;
  constexpr size_t kEnd = 156;
  const absl::StatusOr<int64_t> stored = ParseTarNumber(block.substr(kBegin, kEnd - kBegin));
  int64_t of_unsigned = 0;
  int64_t of_signed = 0;  // Some old programs add it up like that.
  for (size_t i = 0; i < kTarBlock; ++i) {
    const char c = i >= kBegin && i < kEnd ? ' ' : block[i];
    of_unsigned += static_cast<unsigned char>(c);
    of_signed += static_cast<signed char>(c);
  }
  return stored.ok() && (*stored == of_unsigned || *stored == of_signed);
}

// One extent as the old GNU format writes it; false when the list has ended.
absl::StatusOr<bool> ParseOldExtent(std::string_view bytes, std::vector<Extent>* extents) {
  if (bytes[0] == '\0') {
    return false;
  }
  ASSIGN_OR_RETURN(const int64_t offset, ParseTarNumber(bytes.substr(0, 12)));
  ASSIGN_OR_RETURN(const int64_t size, ParseTarNumber(bytes.substr(12, 12)));
  if (offset < 0 || size < 0) {
    return Malformed("a sparse file with a negative extent");
  }
  extents->push_back({static_cast<uint64_t>(offset), static_cast<uint64_t>(size)});
  return true;
}

absl::StatusOr<int64_t> ParseDecimal(std::string_view text, std::string_view key) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(base::ToAbsl(text), &value)) {
    return Malformed(base::StrCat("\"", key, "\" is no number"));
  }
  return value;
}

absl::StatusOr<uint64_t> ParseSize(std::string_view text, std::string_view key) {
  ASSIGN_OR_RETURN(const int64_t value, ParseDecimal(text, key));
  if (value < 0) {
    return Malformed(base::StrCat("\"", key, "\" is negative"));
  }
  return static_cast<uint64_t>(value);
}

// Seconds since the epoch with a decimal fraction, possibly negative.
absl::StatusOr<timespec> ParseTime(std::string_view text, std::string_view key) {
  const size_t dot = std::min(text.find('.'), text.size());
  const std::string_view whole = text.substr(0, dot);
  const std::string_view fraction = text.substr(std::min(dot + 1, text.size()));
  if (!std::ranges::all_of(fraction, [](char c) { return c >= '0' && c <= '9'; })) {
    return Malformed(base::StrCat("\"", key, "\" is no time"));
  }
  ASSIGN_OR_RETURN(int64_t seconds, ParseDecimal(whole, key));
  long nanoseconds = 0;
  for (size_t i = 0; i < 9; ++i) {
    nanoseconds = nanoseconds * 10 + (i < fraction.size() ? fraction[i] - '0' : 0);
  }
  if (whole.starts_with('-') && nanoseconds > 0 && seconds > std::numeric_limits<int64_t>::min()) {
    seconds -= 1;  // -1.25 s is 0.75 s after -2 s.
    nanoseconds = 1'000'000'000 - nanoseconds;
  }
  return timespec{seconds, nanoseconds};
}

absl::StatusOr<std::string> ParseName(std::string_view text, std::string_view key) {
  if (text.find('\0') != std::string_view::npos) {
    return Malformed(base::StrCat("\"", key, "\" contains a NUL"));
  }
  return std::string(text);
}

// The extents of format 0.1: "offset,size,offset,size".
absl::StatusOr<std::vector<Extent>> ParseSparseList(std::string_view list, std::string_view key) {
  std::vector<uint64_t> numbers;
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    ASSIGN_OR_RETURN(const uint64_t number, ParseSize(list.substr(0, comma), key));
    numbers.push_back(number);
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  if (numbers.size() % 2 != 0) {
    return Malformed("a sparse file with half an extent");
  }
  std::vector<Extent> extents;
  for (size_t i = 0; i < numbers.size(); i += 2) {
    extents.push_back({numbers[i], numbers[i + 1]});
  }
  return extents;
}

// A record "GNU.sparse.`key`".
absl::Status TakeSparse(std::string_view key, std::string_view value, PaxHeader* header) {
  if (key == "major") {
    header->is_sparse_1_0 = value == "1";
    if (value != "0" && value != "1") {
      return Malformed("a sparse file of an unknown format");
    }
  } else if (key == "name") {
    ASSIGN_OR_RETURN(header->sparse_name, ParseName(value, "GNU.sparse.name"));
  } else if (key == "size" || key == "realsize") {
    ASSIGN_OR_RETURN(header->sparse_size, ParseSize(value, "GNU.sparse.size"));
  } else if (key == "map") {
    header->has_sparse_map = true;
    ASSIGN_OR_RETURN(header->extents, ParseSparseList(value, "GNU.sparse.map"));
  } else if (key == "numblocks") {
    header->has_sparse_map = true;
  } else if (key == "offset") {
    ASSIGN_OR_RETURN(const uint64_t offset, ParseSize(value, "GNU.sparse.offset"));
    header->extents.push_back({offset, 0});
  } else if (key == "numbytes") {
    if (header->extents.empty()) {
      return Malformed("a sparse file with half an extent");
    }
    ASSIGN_OR_RETURN(header->extents.back().size, ParseSize(value, "GNU.sparse.numbytes"));
  }
  return absl::OkStatus();
}

// The name of an xattr in libarchive's own records: %XX for what its text cannot have.
std::string UnescapeName(std::string_view escaped) {
  std::string name;
  for (size_t i = 0; i < escaped.size(); ++i) {
    int byte = 0;
    if (escaped[i] == '%' && i + 2 < escaped.size() &&
        absl::SimpleHexAtoi(base::ToAbsl(escaped.substr(i + 1, 2)), &byte)) {
      name += static_cast<char>(byte);
      i += 2;
    } else {
      name += escaped[i];
    }
  }
  return name;
}

absl::Status TakeXattr(std::string name, std::string value, PaxHeader* header) {
  if (header->xattrs.size() >= kMaxXattrs) {
    return absl::InvalidArgumentError("too many xattrs");
  }
  if (name.empty() || name.find('\0') != std::string::npos) {
    return Malformed("an xattr has no good name");
  }
  header->xattrs.emplace_back(std::move(name), std::move(value));
  return absl::OkStatus();
}

absl::Status TakeRecord(std::string_view key, std::string_view value, PaxHeader* header) {
  constexpr std::string_view kSparse = "GNU.sparse.";
  constexpr std::string_view kXattr = "SCHILY.xattr.";
  constexpr std::string_view kLibarchiveXattr = "LIBARCHIVE.xattr.";
  if (value.empty()) {
    return absl::OkStatus();
  }
  if (key == "path") {
    ASSIGN_OR_RETURN(header->path, ParseName(value, key));
  } else if (key == "linkpath") {
    ASSIGN_OR_RETURN(header->link, ParseName(value, key));
  } else if (key == "size") {
    ASSIGN_OR_RETURN(header->size, ParseSize(value, key));
  } else if (key == "uid") {
    ASSIGN_OR_RETURN(header->uid, ParseDecimal(value, key));
  } else if (key == "gid") {
    ASSIGN_OR_RETURN(header->gid, ParseDecimal(value, key));
  } else if (key == "mtime") {
    ASSIGN_OR_RETURN(header->mtime, ParseTime(value, key));
  } else if (key == "atime") {
    ASSIGN_OR_RETURN(header->atime, ParseTime(value, key));
  } else if (key.starts_with(kXattr)) {
    return TakeXattr(std::string(key.substr(kXattr.size())), std::string(value), header);
  } else if (key.starts_with(kLibarchiveXattr)) {
    std::string bytes;
    if (!absl::Base64Unescape(base::ToAbsl(value), &bytes)) {
      return Malformed(base::StrCat("\"", key, "\" is not base64"));
    }
    return TakeXattr(UnescapeName(key.substr(kLibarchiveXattr.size())), std::move(bytes), header);
  } else if (key.starts_with(kSparse)) {
    return TakeSparse(key.substr(kSparse.size()), value, header);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<int64_t> ParseTarNumber(std::string_view field) {
  if (field.empty()) {
    return 0;
  }
  if ((field[0] & 0x80) != 0) {
    return ParseBase256(field);
  }
  const auto is_filler = [](char c) { return c == ' ' || c == '\0'; };
  size_t at = 0;
  while (at < field.size() && is_filler(field[at])) ++at;
  int64_t value = 0;
  for (; at < field.size() && field[at] >= '0' && field[at] <= '7'; ++at) {
    if (value > kMaxInt64 / 8) {
      return Malformed("a number is too large");
    }
    value = value * 8 + (field[at] - '0');
  }
  if (at < field.size() && !is_filler(field[at])) {
    return Malformed("a number has other digits than octal ones");
  }
  return value;
}

absl::StatusOr<TarHeader> ParseTarHeader(std::string_view block) {
  if (!HasRightChecksum(block)) {
    return Malformed("the checksum of a header is wrong");
  }
  const bool is_posix = block.substr(257, 6) == std::string_view("ustar\0", 6);
  const bool is_gnu = block.substr(257, 6) == "ustar ";
  TarHeader header;
  header.type = block[156];
  header.path = Text(block.substr(0, 100));
  header.link = Text(block.substr(157, 100));
  ASSIGN_OR_RETURN(header.mode, ParseTarNumber(block.substr(100, 8)));
  ASSIGN_OR_RETURN(header.uid, ParseTarNumber(block.substr(108, 8)));
  ASSIGN_OR_RETURN(header.gid, ParseTarNumber(block.substr(116, 8)));
  ASSIGN_OR_RETURN(header.size, ParseTarNumber(block.substr(124, 12)));
  ASSIGN_OR_RETURN(header.mtime, ParseTarNumber(block.substr(136, 12)));
  if (is_posix || is_gnu) {
    ASSIGN_OR_RETURN(header.major, ParseTarNumber(block.substr(329, 8)));
    ASSIGN_OR_RETURN(header.minor, ParseTarNumber(block.substr(337, 8)));
  }
  if (is_posix) {
    // star keeps two times where others keep the rest of the prefix.
    const bool is_star = block.substr(508, 4) == std::string_view("tar\0", 4);
    const std::string prefix = Text(block.substr(345, is_star ? 131 : 155));
    if (!prefix.empty()) {
      header.path = base::StrCat(prefix, "/", header.path);
    }
  }
  return header;
}

absl::StatusOr<OldSparseMap> ParseOldSparseMap(std::string_view block) {
  constexpr size_t kExtents = 4;
  OldSparseMap map;
  for (size_t i = 0; i < kExtents; ++i) {
    ASSIGN_OR_RETURN(const bool goes_on,
                     ParseOldExtent(block.substr(386 + 24 * i, 24), &map.extents));
    if (!goes_on) break;
  }
  map.has_more = block[482] != '\0';
  ASSIGN_OR_RETURN(const int64_t size, ParseTarNumber(block.substr(483, 12)));
  if (size < 0) {
    return Malformed("a sparse file with a negative size");
  }
  map.size = static_cast<uint64_t>(size);
  return map;
}

absl::StatusOr<bool> ParseOldSparseExtension(std::string_view block, std::vector<Extent>* extents) {
  constexpr size_t kExtents = 21;
  for (size_t i = 0; i < kExtents; ++i) {
    ASSIGN_OR_RETURN(const bool goes_on, ParseOldExtent(block.substr(24 * i, 24), extents));
    if (!goes_on) break;
  }
  return block[504] != '\0';
}

absl::StatusOr<PaxHeader> ParsePaxHeader(std::string_view records) {
  PaxHeader header;
  while (!records.empty()) {
    const size_t space = records.find(' ');
    uint64_t length = 0;
    if (space == std::string_view::npos || space > 10 ||
        !std::ranges::all_of(records.substr(0, space),
                             [](char c) { return c >= '0' && c <= '9'; }) ||
        !absl::SimpleAtoi(base::ToAbsl(records.substr(0, space)), &length) ||
        length > records.size() || length < space + 4 || records[length - 1] != '\n') {
      return Malformed("an extended header has a record of a wrong length");
    }
    const std::string_view record = records.substr(space + 1, length - space - 2);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      return Malformed("an extended header has a record without a key");
    }
    RETURN_IF_ERROR(TakeRecord(record.substr(0, equals), record.substr(equals + 1), &header));
    records.remove_prefix(length);
  }
  return header;
}

}  // namespace imageservice::worker
