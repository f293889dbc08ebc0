#include "base/record_store.h"

#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace base {
namespace {

// A record on disk: magic (4), version (4), length (4), CRC-32 of the bytes begun with the version
// (4), all little endian, then the bytes.
constexpr uint32_t kMagic = 0x50535243;  // "CRSP".
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 16;
constexpr size_t kMaxRecordBytes = 16 << 20;
constexpr std::string_view kSetAside = "corrupt";
constexpr std::string_view kMark = ".seen";  // Behind the name of a damaged record.

void AppendNumber(uint32_t number, std::string* out) {
  for (int shift = 0; shift < 32; shift += 8) {
    out->push_back(static_cast<char>(number >> shift & 0xff));
  }
}

uint32_t NumberAt(std::string_view bytes, size_t offset) {
  uint32_t number = 0;
  for (size_t i = 0; i < 4; ++i) {
    number |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[offset + i])) << (8 * i);
  }
  return number;
}

// Over the version too, so that a flipped bit in it is damage and not another version.
uint32_t Checksum(uint32_t version, std::string_view bytes) {
  const auto* data = reinterpret_cast<const Bytef*>(bytes.data());
  return static_cast<uint32_t>(crc32(version, data, static_cast<uInt>(bytes.size())));
}

absl::StatusOr<std::string> Unwrap(std::string_view file) {
  if (file.size() < kHeaderBytes || NumberAt(file, 0) != kMagic) {
    return absl::DataLossError("not a record");
  }
  const std::string_view bytes = file.substr(kHeaderBytes);
  if (NumberAt(file, 8) != bytes.size() ||
      NumberAt(file, 12) != Checksum(NumberAt(file, 4), bytes)) {
    return absl::DataLossError("a damaged record");
  }
  if (NumberAt(file, 4) != kVersion) {
    return absl::FailedPreconditionError(
        StrCat("a record of version ", NumberAt(file, 4), ", made by a newer version"));
  }
  return std::string(bytes);
}

bool ValidName(std::string_view name) {
  return !name.empty() && name.size() <= 200 && name.front() != '.' && name != kSetAside &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
         });
}

bool IsTemporary(std::string_view name) { return name.find(".tmp-") != std::string_view::npos; }

}  // namespace

absl::StatusOr<RecordStore> RecordStore::Open(std::string directory, Durability durability) {
  RETURN_IF_ERROR(MakeDirectories(directory, 0700));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(directory));
  for (const std::string& name : names) {
    if (IsTemporary(name)) {
      RETURN_IF_ERROR(RemoveFile(StrCat(directory, "/", name)));
    }
  }
  return RecordStore(std::move(directory), durability);
}

RecordStore RecordStore::Existing(std::string directory, Durability durability) {
  return RecordStore(std::move(directory), durability);
}

absl::Status RecordStore::Put(std::string_view name, std::string_view bytes,
                              Durability durability) const {
  if (!ValidName(name) || IsTemporary(name)) {
    return absl::InvalidArgumentError(StrCat("not a record's name: \"", name, "\""));
  }
  if (bytes.size() > kMaxRecordBytes) {
    return absl::ResourceExhaustedError(StrCat("record ", name, " has ", bytes.size(), " bytes"));
  }
  std::string file;
  file.reserve(kHeaderBytes + bytes.size());
  AppendNumber(kMagic, &file);
  AppendNumber(kVersion, &file);
  AppendNumber(static_cast<uint32_t>(bytes.size()), &file);
  AppendNumber(Checksum(kVersion, bytes), &file);
  file += bytes;
  return ReplaceFile(StrCat(directory_, "/", name), file, 0600, durability);
}

absl::Status RecordStore::Delete(std::string_view name, Durability durability) const {
  const std::string path = StrCat(directory_, "/", name);
  if (unlink(path.c_str()) != 0) {
    return errno == ENOENT ? absl::OkStatus() : ErrnoStatus(errno, StrCat("remove ", path));
  }
  return durability == Durability::kDurable ? SyncDirectory(directory_) : absl::OkStatus();
}

absl::StatusOr<std::string> RecordStore::Get(std::string_view name) const {
  const std::string path = StrCat(directory_, "/", name);
  ASSIGN_OR_RETURN(const std::string file, ReadFile(path, kMaxRecordBytes + kHeaderBytes));
  absl::StatusOr<std::string> bytes = Unwrap(file);
  if (!bytes.ok()) {
    return Annotate(bytes.status(), path);
  }
  return bytes;
}

absl::StatusOr<RecordStore::Loaded> RecordStore::Load() const {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(directory_));
  Loaded loaded;
  for (const std::string& name : names) {
    if (name == kSetAside || IsTemporary(name)) {
      continue;
    }
    absl::StatusOr<std::string> bytes = Get(name);
    if (bytes.ok()) {
      loaded.records[name] = *std::move(bytes);
      continue;
    }
    if (!absl::IsDataLoss(bytes.status())) {
      return bytes.status();  // What cannot be read now is not lost.
    }
    LogError("set aside ", ToStd(bytes.status().message()));
    RETURN_IF_ERROR(SetAside(name));
    loaded.damaged.push_back(name);
  }
  return loaded;
}

absl::Status RecordStore::SetAside(std::string_view name) const {
  const std::string aside = StrCat(directory_, "/", kSetAside);
  RETURN_IF_ERROR(MakeDirectories(aside, 0700));
  const std::string from = StrCat(directory_, "/", name);
  if (rename(from.c_str(), StrCat(aside, "/", name).c_str()) != 0) {
    return ErrnoStatus(errno, StrCat("set aside ", from));
  }
  return absl::OkStatus();
}

std::map<std::string, std::string> RecordStore::Damaged() const {
  const std::string aside = StrCat(directory_, "/", kSetAside);
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(aside);
  std::map<std::string, std::string> damaged;
  for (const std::string& name : names.value_or(std::vector<std::string>())) {
    if (name.size() >= kMark.size() &&
        name.compare(name.size() - kMark.size(), kMark.size(), kMark) == 0) {
      continue;
    }
    absl::StatusOr<std::string> file =
        ReadFile(StrCat(aside, "/", name), kMaxRecordBytes + kHeaderBytes);
    if (file.ok()) {
      damaged[name] = file->size() > kHeaderBytes ? file->substr(kHeaderBytes) : "";
    }
  }
  return damaged;
}

absl::Status RecordStore::MarkDamaged(std::string_view name) const {
  const std::string path = StrCat(directory_, "/", kSetAside, "/", name);
  if (rename(path.c_str(), StrCat(path, kMark).c_str()) != 0) {
    return ErrnoStatus(errno, StrCat("mark ", path));
  }
  return absl::OkStatus();
}

}  // namespace base
