#include "imageservice/worker/verdict.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <variant>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/fd_packet.h"

namespace imageservice::worker {
namespace {

constexpr int kSeals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
constexpr size_t kMaxEntries = 64;
constexpr size_t kMaxWaitingBytes = 2 * kMaxUnpackedBytes;
// Of the kernel's memory: a few packets, since each may keep a file alive.
constexpr int kSocketBytes = 4096;

bool IsHex64(std::string_view text) {
  return text.size() == 64 && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// The size of a memfd that nobody can change any more.
absl::StatusOr<size_t> SealedSize(int fd) {
  const int seals = fcntl(fd, F_GET_SEALS);
  struct stat info = {};
  if (seals < 0 || (seals & kSeals) != kSeals || fstat(fd, &info) != 0) {
    return absl::InvalidArgumentError("a verdict without a sealed file");
  }
  if (info.st_size < 0 || static_cast<size_t>(info.st_size) > kMaxUnpackedBytes) {
    return absl::InvalidArgumentError("a verdict with too large a file");
  }
  return static_cast<size_t>(info.st_size);
}

}  // namespace

std::string EncodeVerdict(const Verdict& verdict) {
  return base::StrCat(verdict.directory, " ", verdict.diff_id);
}

absl::StatusOr<Verdict> ParseVerdict(std::string_view text) {
  const size_t space = std::min(text.find(' '), text.size());
  const std::string_view diff_id = text.substr(std::min(space + 1, text.size()));
  if (!IsLayerDirectory(text.substr(0, space)) || !IsHex64(diff_id)) {
    return absl::InvalidArgumentError("a malformed verdict");
  }
  return Verdict{std::string(text.substr(0, space)), std::string(diff_id)};
}

absl::StatusOr<base::UniqueFd> MakeUnpackedFile() {
  base::UniqueFd file(memfd_create("unpacked", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.valid()) {
    return base::ErrnoStatus(errno, "memfd_create");
  }
  return file;
}

absl::Status SendVerdict(int socket, const Verdict& verdict, int unpacked) {
  if (fcntl(unpacked, F_ADD_SEALS, kSeals | F_SEAL_SEAL) != 0) {
    return base::ErrnoStatus(errno, "seal the parser's words");
  }
  return SendPacket(socket, EncodeVerdict(verdict), {unpacked});
}

absl::StatusOr<VerdictBox> VerdictBox::Open(base::UniqueFd* theirs) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return base::ErrnoStatus(errno, "make a socket pair");
  }
  theirs->Reset(ends[1]);
  VerdictBox box((base::UniqueFd(ends[0])));
  if (setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof(kSocketBytes)) != 0) {
    return base::ErrnoStatus(errno, "limit the socket's buffer");
  }
  return box;
}

absl::Status VerdictBox::Receive() {
  while (socket_.valid()) {
    absl::StatusOr<std::optional<FdPacket>> packet = ReceivePacket(socket_.get(), Wait::kNever);
    if (absl::IsOutOfRange(packet.status())) {
      socket_.Reset();
      break;
    }
    RETURN_IF_ERROR(packet.status());
    if (!packet->has_value()) {
      break;
    }
    if ((*packet)->fds.size() != 1) {
      return absl::InvalidArgumentError("a verdict without a sealed file");
    }
    RETURN_IF_ERROR(Keep((*packet)->bytes, std::move((*packet)->fds.front())));
  }
  return absl::OkStatus();
}

absl::Status VerdictBox::Keep(std::string_view text, base::UniqueFd unpacked) {
  Entry entry;
  ASSIGN_OR_RETURN(entry.verdict, ParseVerdict(text));
  ASSIGN_OR_RETURN(entry.bytes, SealedSize(unpacked.get()));
  entry.unpacked = std::move(unpacked);
  bytes_ += entry.bytes;
  entries_.push_back(std::move(entry));
  while (entries_.size() > kMaxEntries || bytes_ > kMaxWaitingBytes) {
    bytes_ -= entries_.front().bytes;
    entries_.pop_front();
  }
  return absl::OkStatus();
}

absl::StatusOr<UnpackedLayer> VerdictBox::Take(std::string_view directory,
                                               std::string_view diff_id) {
  RETURN_IF_ERROR(Receive());
  const auto found = std::ranges::find_if(
      entries_, [&](const Entry& entry) { return entry.verdict.directory == directory; });
  if (found == entries_.end()) {
    return absl::InvalidArgumentError("a layer without a verdict");
  }
  const Entry entry = std::move(*found);
  bytes_ -= entry.bytes;
  entries_.erase(found);
  if (entry.verdict.diff_id != diff_id) {
    return absl::InvalidArgumentError("a layer of another content than the config's");
  }
  if (lseek(entry.unpacked.get(), 0, SEEK_SET) != 0) {
    return base::ErrnoStatus(errno, "rewind the parser's words");
  }
  ASSIGN_OR_RETURN(const std::string json,
                   base::ReadFd(entry.unpacked.get(), "the parser's words", kMaxUnpackedBytes));
  ASSIGN_OR_RETURN(LayerMessage message, ParseLayerMessage(json));
  auto* unpacked = std::get_if<UnpackedLayer>(&message);
  if (unpacked == nullptr) {
    return absl::InvalidArgumentError("a verdict on what is no layer");
  }
  return std::move(*unpacked);
}

}  // namespace imageservice::worker
